"""What holds the fields of a payload together: sections behind their lengths, and one checksum at the end (FORMAT.md, 1)."""

import zlib

from ..errors import CorruptionError
from . import varint
from .prefix import check_magic

WORD = 4
CRC_BYTES = 4


def checksum(data: bytes | memoryview) -> bytes:
    """The CRC-32 of bytes, as payloads store it."""
    return zlib.crc32(data).to_bytes(CRC_BYTES, "little")


def seal(body: bytes) -> bytes:
    """A body and its checksum."""
    return body + checksum(body)


def unseal(data: bytes | bytearray | memoryview) -> memoryview:
    """The body of a payload whose magic and checksum are right; CorruptionError otherwise."""
    view = memoryview(data).cast("B")
    check_magic(view)
    body, stored = view[:-CRC_BYTES], bytes(view[-CRC_BYTES:])
    if checksum(body) != stored:
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
        raise CorruptionError(
            f"a section of the payload should have {size} bytes but {len(body) - position} follow: the payload is damaged; "
            "restore it from a copy"
        )
    return bytes(body[position : position + size]), position + size
