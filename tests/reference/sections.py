"""A decoder of payloads of format version 4 in pure Python, from caecodec/FORMAT.md alone, with no code of the package."""

import struct
import zlib
from typing import NamedTuple

from .decoder import dtype_of, varint


class Reference(NamedTuple):
    """What the payload holds; sections are (id, bytes), `whole` says that none is missing."""

    family: int
    shape: tuple
    channel_axis: int
    fortran: bool
    dtype: str
    big_endian: bool
    sections: tuple
    whole: bool


def decode(data):
    """The contents of a payload (section 19), or of the beginning of one that is cut behind its directory."""
    assert data[:2] == b"\xca\xec"
    assert data[2] == 4
    assert data[4] & 15 == 0
    dtype, big_endian = dtype_of(data[4] >> 4)
    axes, channel_axis, fortran = (data[5] & 7) + 1, data[5] >> 3 & 15, bool(data[5] >> 7)
    position, shape = 6, []
    for _ in range(axes):
        length, position = varint(data, position)
        shape.append(length)
    count, position = data[position], position + 1
    assert count > 0
    listed = []
    for _ in range(count):
        length, middle = varint(data, position + 1)
        listed.append((data[position], length, *struct.unpack_from("<I", data, middle)))
        position = middle + 4
    assert struct.unpack_from("<I", data, position)[0] == zlib.crc32(data[:position]) ^ 0xFFFFFFFF
    position += 4
    size = position + sum(length for _, length, _ in listed) + 4
    assert len(data) <= size
    if len(data) == size:
        assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    sections = []
    for number, length, checksum in listed:
        section = data[position : position + length]
        position += length
        if position > len(data):
            break
        assert zlib.crc32(section) == checksum
        sections.append((number, section))
    channel_axis = None if channel_axis == 15 else channel_axis
    return Reference(data[3], tuple(shape), channel_axis, fortran, dtype, big_endian, tuple(sections), len(data) == size)
