"""A payload: header, planes, stream lengths, streams, escapes, CRC-32 (FORMAT.md, 1 and 4)."""

import struct
import zlib
from dataclasses import dataclass

from ..errors import CorruptionError
from . import varint
from .header import CODING_BOUNDED, CODING_CONSTANT, RGB_VERSION, Header, check_magic

_CRC = struct.Struct("<I")
WORD = 4


@dataclass(frozen=True)
class Payload:
    """A parsed payload; `streams` are bytes of whole 32-bit words, `colour` is set for a constant chunk alone.

    `planes` says how planes become images, one byte and the ranges (pixels.Layout); empty in version 1. `bound` is what a
    bounded chunk has beside symbols, a byte for its kind and its residual.
    """

    header: Header
    streams: tuple[bytes, ...] = ()
    escapes: bytes = b""
    colour: bytes = b""
    planes: bytes = b""
    bound: bytes = b""

    @property
    def overhead(self) -> int:
        """Bytes that are neither streams, escapes, colour, ranges nor residual: header, lengths and checksum."""
        return (
            len(pack(self))
            - sum(map(len, self.streams))
            - len(self.escapes)
            - len(self.colour)
            - len(self.planes)
            - len(self.bound)
        )


def pack(payload: Payload) -> bytes:
    """The payload's bytes."""
    parts = [payload.header.pack()]
    if payload.header.coding == CODING_CONSTANT:
        parts.append(payload.colour)
    else:
        if payload.header.coding == CODING_BOUNDED:
            parts += [varint.pack(len(payload.bound)), payload.bound]
        if payload.header.version != RGB_VERSION:
            parts += [varint.pack(len(payload.planes)), payload.planes]
        parts.append(varint.pack(len(payload.streams)))
        parts.extend(varint.pack(len(stream) // WORD) for stream in payload.streams)
        parts.append(varint.pack(len(payload.escapes)))
        parts.extend(payload.streams)
        parts.append(payload.escapes)
    return seal(b"".join(parts))


def seal(body: bytes) -> bytes:
    """A body and its checksum."""
    return body + _CRC.pack(zlib.crc32(body))


def unseal(data: bytes | bytearray | memoryview) -> memoryview:
    """A body behind whose magic and checksum there is no doubt; CorruptionError otherwise."""
    view = memoryview(data).cast("B")
    check_magic(view)
    body, stored = view[: -_CRC.size], bytes(view[-_CRC.size :])
    if len(stored) < _CRC.size or _CRC.pack(zlib.crc32(body)) != stored:
        raise CorruptionError(
            f"payload of {len(view)} bytes fails its CRC-32: it is damaged or cut short; restore it from a copy"
        )
    return body


def parse(data: bytes | bytearray | memoryview) -> Payload:
    """The payload in data, which must hold that and nothing else.

    The checksum is proven first, so that a damaged byte is never taken for an unknown version.

    Raises
    ------
    CorruptionError
        Not a payload, damaged, cut short or too long.
    FormatVersionError
        Written by a newer caecodec.
    """
    body = unseal(data)
    header, position = Header.parse(body)
    if header.coding == CODING_CONSTANT:
        colour = bytes(body[position:])
        if len(colour) != header.channels * header.numpy_dtype.itemsize:
            raise CorruptionError(
                f"constant chunk has {len(colour)} bytes for {header.channels} channels of {header.dtype}: "
                "the payload is damaged"
            )
        return Payload(header, colour=colour)
    bound = planes = b""
    if header.coding == CODING_BOUNDED:
        bound, position = section(body, position)
    if header.version != RGB_VERSION:
        planes, position = section(body, position)
    count, position = varint.unpack(body, position)
    if count > len(body) - position:
        raise CorruptionError(f"payload names {count} streams but ends before their lengths: it is damaged")
    lengths = []
    for _ in range(count):
        words, position = varint.unpack(body, position)
        lengths.append(words * WORD)
    escapes, position = varint.unpack(body, position)
    if position + sum(lengths) + escapes != len(body):
        raise CorruptionError(
            f"payload has {len(body) - position} bytes of streams and escapes but its header names "
            f"{sum(lengths) + escapes}: it is damaged"
        )
    streams = []
    for length in lengths:
        streams.append(bytes(body[position : position + length]))
        position += length
    return Payload(header, tuple(streams), bytes(body[position:]), planes=planes, bound=bound)


def section(body: memoryview, position: int) -> tuple[bytes, int]:
    """The bytes that follow their length, and the position behind them."""
    size, position = varint.unpack(body, position)
    if size > len(body) - position:
        raise CorruptionError(f"payload names a section of {size} bytes but ends before: it is damaged")
    return bytes(body[position : position + size]), position + size
