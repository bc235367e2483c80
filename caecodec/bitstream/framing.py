"""What holds the fields of a payload together: sections behind their lengths, and one checksum at the end (FORMAT.md, 1)."""

import struct
import zlib

from ..errors import CorruptionError
from . import varint
from .prefix import check_magic

_CRC = struct.Struct("<I")
WORD = 4


def seal(body: bytes) -> bytes:
    """A body and its checksum."""
    return body + _CRC.pack(zlib.crc32(body))


def unseal(data: bytes | bytearray | memoryview) -> memoryview:
    """The body of a payload whose magic and checksum are right; CorruptionError otherwise."""
    view = memoryview(data).cast("B")
    check_magic(view)
    body, stored = view[: -_CRC.size], bytes(view[-_CRC.size :])
    if len(stored) < _CRC.size or _CRC.pack(zlib.crc32(body)) != stored:
        raise CorruptionError(
            f"payload of {len(view)} bytes fails its CRC-32: it is damaged or cut short; restore it from a copy"
        )
    return body


def pack_section(section: bytes) -> bytes:
    """The bytes of a section behind their length."""
    return varint.pack(len(section)) + section


def parse_section(body: bytes | memoryview, position: int) -> tuple[bytes, int]:
    """The bytes of the section whose length is at `position`, and the position behind them; CorruptionError if they are cut."""
    size, position = varint.unpack(body, position)
    if size > len(body) - position:
        raise CorruptionError(f"payload names a section of {size} bytes but ends before: it is damaged")
    return bytes(body[position : position + size]), position + size
