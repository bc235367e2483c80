"""Payloads of format version 5 taken apart in pure Python, from caecodec/FORMAT.md alone, with no code of the package."""

import struct
import zlib
from typing import NamedTuple

from .decoder import dtype_of, varint


class Reference(NamedTuple):
    """The payload of the content, the shapes of the whole chunk and of its content, and the value behind the content."""

    payload: bytes
    shape: tuple
    content: tuple
    value: float


def take_apart(data):
    """The parts of a payload (section 21), whose content is of version 1, 2 or 3."""
    assert data[:2] == b"\xca\xec"
    assert data[2] == 5
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    size, position = varint(data, 3)
    padding, body = data[position : position + size], data[:2] + data[position + size : -4]
    assert body[2] in (1, 2, 3)
    lengths, content = (7 + 4 * (body[5] & 15 == 1) if body[2] == 3 else 11), []
    for _ in range((body[6] & 7) + 1):
        length, lengths = varint(body, lengths)
        content.append(length)
    margins, position = [], 0
    for _ in content:
        margin, position = varint(padding, position)
        margins.append(margin)
    assert any(margins)
    dtype, _ = dtype_of(body[5] >> 4)
    value = padding[position:] or bytes(struct.calcsize(dtype))
    shape = tuple(n + margin for n, margin in zip(content, margins, strict=True))
    return Reference(body + struct.pack("<I", zlib.crc32(body)), shape, tuple(content), *struct.unpack("<" + dtype, value))
