"""A payload of format version 5: the payload of a chunk's content, and the padding around it (FORMAT.md, 21: Padded chunks).

magic | 5 | length | margins, value | payload of the content, without its magic and CRC-32 | CRC-32
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..errors import CorruptionError
from . import varint
from .framing import CRC_BYTES, pack_section, parse_section, seal, unseal
from .prefix import MAGIC, MAX_SIZE, PADDED_VERSION, ChunkHeader

_START = 3  # bytes: magic, format version


@dataclass(frozen=True)
class PaddedHeader(ChunkHeader):
    """What a payload says about the whole chunk; `ChunkHeader` explains the geometry."""

    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool
    dtype: str
    big_endian: bool
    version: ClassVar[int] = PADDED_VERSION


class Padded(NamedTuple):
    """The parts of a payload.

    content : the payload of the content, with magic and CRC-32
    padding : how far the chunk reaches beyond its content, and the value there; `parse_padding` reads it
    """

    content: bytes
    padding: bytes

    @property
    def overhead(self) -> int:
        """How many bytes the payload has more than that of its content."""
        return len(pack(*self)) - len(self.content)


def pack(content: bytes, padding: bytes) -> bytes:
    """The bytes of a payload."""
    return seal(MAGIC + bytes((PADDED_VERSION,)) + pack_section(padding) + content[len(MAGIC) : -CRC_BYTES])


def pack_padding(shape: tuple[int, ...], content: tuple[int, ...], value: bytes) -> bytes:
    """The padding of a chunk of this shape around content of this shape; `value` is little-endian, in the chunk's dtype."""
    margins = (whole - inside for whole, inside in zip(shape, content, strict=True))
    return b"".join(map(varint.pack, margins)) + (value if any(value) else b"")


def kind(data: memoryview) -> tuple[int, int]:
    """Format version and family of the content, which no checksum vouches for; CorruptionError if there are none."""
    length, position = varint.unpack(data, _START)
    found = bytes(data[position + length : position + length + 2])
    if len(found) < 2:
        raise CorruptionError(f"payload has {len(data)} bytes and ends within its padding: it is cut short")
    if found[0] == PADDED_VERSION:
        raise CorruptionError("payload has padding around padding: it is damaged; restore it from a copy")
    return found[0], found[1]


def parse(data: bytes | bytearray | memoryview) -> Padded:
    """The parts of a payload, which must be the whole of data; CorruptionError if it is damaged."""
    body = unseal(data)
    kind(body)
    padding, position = parse_section(body, _START)
    return Padded(seal(MAGIC + bytes(body[position:])), padding)


def parse_padding(padding: bytes, content: ChunkHeader) -> tuple[PaddedHeader, bytes]:
    """The header of the whole chunk, and the value of its padding, little-endian.

    Raises CorruptionError for padding that no chunk with this content has.
    """
    shape, position, size = [], 0, 1
    for inside in content.shape:
        margin, position = varint.unpack(padding, position)
        shape.append(inside + margin)
        size *= inside + margin
    value = padding[position:]
    itemsize = content.numpy_dtype.itemsize
    sound = size <= MAX_SIZE and tuple(shape) != content.shape and (not value or (len(value) == itemsize and any(value)))
    if not sound:
        raise CorruptionError(
            f"payload has {len(value)} bytes for the value of its padding, around {content.dtype} content of shape "
            f"{content.shape} in a chunk of shape {tuple(shape)}: it is damaged; restore it from a copy"
        )
    header = PaddedHeader(tuple(shape), content.channel_axis, content.fortran, content.dtype, content.big_endian)
    return header, value or bytes(itemsize)


def parse_margins(padding: bytes, whole: ChunkHeader) -> tuple[tuple[int, ...], bytes]:
    """The shape of the content of a whole chunk with this padding, and the value of the padding, little-endian.

    Raises CorruptionError for padding that no such chunk has.
    """
    shape, position = [], 0
    for length in whole.shape:
        margin, position = varint.unpack(padding, position)
        shape.append(length - margin)
    value = padding[position:]
    itemsize = whole.numpy_dtype.itemsize
    if min(shape) < 1 or tuple(shape) == whole.shape or (value and (len(value) != itemsize or not any(value))):
        raise CorruptionError(
            f"payload has {len(value)} bytes for the value of its padding, around {whole.dtype} content of shape "
            f"{tuple(shape)} in a chunk of shape {whole.shape}: it is damaged; restore it from a copy"
        )
    return tuple(shape), value or bytes(itemsize)
