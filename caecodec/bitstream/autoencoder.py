"""A payload of the autoencoder: header, planes, stream lengths, streams, escapes, CRC-32 (FORMAT.md, 1, 3 and 4)."""

from dataclasses import dataclass

from ..errors import CorruptionError
from . import varint
from .codings import Body, BoundKind, in_rgb_version, pack_coding, parse_bound_kind, parse_coding
from .framing import WORD, pack_section, parse_section, seal, unseal
from .prefix import (
    MAGIC,
    PLANES_VERSION,
    RGB_VERSION,
    VERSIONS,
    ChunkHeader,
    check_magic,
    pack_axes,
    parse_dtype,
    parse_geometry,
)
from .wire_ids import WireIds

FAMILIES = WireIds("model family id", {1: "cae"})
METRICS = WireIds("metric id", {0: "mse", 1: "ms-ssim"})
MAX_QUALITY = 8
_FIXED = 11


@dataclass(frozen=True)
class AutoencoderHeader(ChunkHeader):
    """What a payload says about itself; `ChunkHeader` explains the geometry.

    digest : the first 4 bytes of the SHA-256 of the weights
    family : the network's
    entropy : the name of the entropy model of a body of symbols, None for other bodies
    """

    quality: int
    metric: str
    body: Body
    digest: bytes
    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool = False
    family: str = "cae"
    dtype: str = "uint8"
    entropy: str | None = None
    big_endian: bool = False

    @property
    def constant(self) -> bool:
        """Whether every pixel of the chunk has the same values."""
        return self.body is Body.CONSTANT

    @property
    def version(self) -> int:
        """The lowest format version that has such payloads."""
        rgb = self.dtype == "uint8" and self.channel_axis is not None and self.shape[self.channel_axis] == 3
        return RGB_VERSION if rgb and in_rgb_version(self.body, self.entropy) else PLANES_VERSION

    def pack(self) -> bytes:
        """The header's bytes."""
        fixed = bytes(
            (
                self.version,
                FAMILIES.number(self.family),
                self.quality | METRICS.number(self.metric) << 4,
                pack_coding(self.body, self.entropy) | self.dtype_id << 4,
                pack_axes(len(self.shape), self.channel_axis, self.fortran),
            )
        )
        return MAGIC + fixed + self.digest + b"".join(map(varint.pack, self.shape))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple["AutoencoderHeader", int]:
        """The header at the start of data, and the position behind it.

        Raises
        ------
        CorruptionError
            The bytes are not a caecodec payload, or are too short for a header.
        FormatVersionError
            A version, or an id in it, that this reader does not know.
        """
        check_magic(data)
        if len(data) < _FIXED:
            raise CorruptionError(
                f"payload has {len(data)} bytes but its header has more than {_FIXED}: it is cut short; restore it from a copy"
            )
        version, family, point, kind, axes = data[2:7]
        VERSIONS.name(version)
        family_name, metric, (dtype, big_endian) = FAMILIES.name(family), METRICS.name(point >> 4), parse_dtype(kind >> 4)
        body, entropy = parse_coding(kind & 15)
        quality = point & 15
        shape, channel_axis, fortran, position = parse_geometry(data, axes, _FIXED)
        if not 1 <= quality <= MAX_QUALITY:
            raise CorruptionError(
                f"header says quality {quality} but must say 1 to {MAX_QUALITY}: the payload is damaged; restore it from a copy"
            )
        header = cls(
            quality, metric, body, bytes(data[7:_FIXED]), shape, channel_axis, fortran, family_name, dtype, entropy, big_endian
        )  # fmt: skip
        if version != header.version:
            raise CorruptionError(
                f"payload has format version {version} but {entropy or body.value} {dtype} chunks of shape {shape} have "
                f"version {header.version}: the payload is damaged; restore it from a copy"
            )
        return header, position


@dataclass(frozen=True)
class AutoencoderPayload:
    """A parsed payload; `streams` are bytes of whole 32-bit words, `colour` is set for a constant chunk alone.

    `planes` says how planes become images: one byte and the ranges; it is empty in version 1. `bound` is what a bounded chunk
    has besides symbols: a byte for its kind, and its residual.
    """

    header: AutoencoderHeader
    streams: tuple[bytes, ...] = ()
    escapes: bytes = b""
    colour: bytes = b""
    planes: bytes = b""
    bound: bytes = b""

    @property
    def bound_kind(self) -> BoundKind:
        """The kind of a bounded chunk's bound; raises the errors of `codings.parse_bound_kind`."""
        return parse_bound_kind(self.bound)

    @property
    def overhead(self) -> int:
        """Bytes that are neither streams, escapes, colour, ranges nor residual: header, lengths and checksum."""
        parts = (*self.streams, self.escapes, self.colour, self.planes, self.bound)
        return len(pack(self)) - sum(map(len, parts))


def pack(payload: AutoencoderPayload) -> bytes:
    """The payload's bytes."""
    parts = [payload.header.pack()]
    if payload.header.constant:
        parts.append(payload.colour)
    else:
        if payload.header.body is Body.BOUNDED:
            parts.append(pack_section(payload.bound))
        if payload.header.version != RGB_VERSION:
            parts.append(pack_section(payload.planes))
        parts.append(varint.pack(len(payload.streams)))
        parts.extend(varint.pack(len(stream) // WORD) for stream in payload.streams)
        parts.append(varint.pack(len(payload.escapes)))
        parts.extend(payload.streams)
        parts.append(payload.escapes)
    return seal(b"".join(parts))


def parse(data: bytes | bytearray | memoryview) -> AutoencoderPayload:
    """The payload in data, which must hold that and nothing else.

    The checksum is verified first, so that a damaged byte is never taken for an unknown version.

    Raises
    ------
    CorruptionError
        Not a payload, damaged, cut short or too long.
    FormatVersionError
        Written by a newer caecodec.
    """
    body = unseal(data)
    header, position = AutoencoderHeader.parse(body)
    if header.constant:
        return AutoencoderPayload(header, colour=header.parse_colour(body, position))
    bound = planes = b""
    if header.body is Body.BOUNDED:
        bound, position = parse_section(body, position)
    if header.version != RGB_VERSION:
        planes, position = parse_section(body, position)
    count, position = varint.unpack(body, position)
    if count > len(body) - position:
        raise CorruptionError(
            f"payload should have {count} streams but ends before their lengths: it is damaged; restore it from a copy"
        )
    lengths = []
    for _ in range(count):
        words, position = varint.unpack(body, position)
        lengths.append(words * WORD)
    escapes, position = varint.unpack(body, position)
    if position + sum(lengths) + escapes != len(body):
        raise CorruptionError(
            f"payload has {len(body) - position} bytes of streams and escapes but should have {sum(lengths) + escapes}: "
            "it is damaged; restore it from a copy"
        )
    streams = []
    for length in lengths:
        streams.append(bytes(body[position : position + length]))
        position += length
    return AutoencoderPayload(header, tuple(streams), bytes(body[position:]), planes=planes, bound=bound)
