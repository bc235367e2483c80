"""A payload of the overfitted codec: header, planes, network, latents, CRC-32 (FORMAT.md, 13: Overfitted chunks)."""

from dataclasses import dataclass

from ..errors import CorruptionError
from . import varint
from .framing import WORD, pack_section, parse_section, seal, unseal
from .prefix import MAGIC, OVERFITTED_VERSION, VERSIONS, ChunkHeader, pack_axes, parse_dtype, parse_geometry
from .wire_ids import WireIds

_FAMILIES = WireIds("model family id", {3: "overfitted"})
DECODERS = WireIds("decoder id", {0: "lop", 1: "mop", 2: "hop"})
OWN_NETWORK = "own network"
SHARED_NETWORK = "shared network"
CONSTANT = "constant"
BODIES = WireIds("coding id", {0: OWN_NETWORK, 1: SHARED_NETWORK, 15: CONSTANT})
_FIXED = 7
_DIGEST = 4


@dataclass(frozen=True)
class OverfittedHeader(ChunkHeader):
    """What a payload says about itself; `ChunkHeader` explains the geometry.

    decoder : the size of its network
    body : one of BODIES
    digest : the first 4 bytes of the SHA-256 of the network section that it shares with others; empty if it has its own
    """

    decoder: str
    body: str
    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool = False
    dtype: str = "uint8"
    digest: bytes = b""
    family: str = "overfitted"
    version: int = OVERFITTED_VERSION
    big_endian: bool = False

    @property
    def constant(self) -> bool:
        """Whether every pixel of the chunk has the same values."""
        return self.body == CONSTANT

    def pack(self) -> bytes:
        """The header's bytes."""
        fixed = (
            OVERFITTED_VERSION,
            _FAMILIES.number(self.family),
            DECODERS.number(self.decoder),
            BODIES.number(self.body) | self.dtype_id << 4,
            pack_axes(len(self.shape), self.channel_axis, self.fortran),
        )
        return MAGIC + bytes(fixed) + self.digest + b"".join(map(varint.pack, self.shape))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple["OverfittedHeader", int]:
        """The header at the start of data, and the position behind it; raises the errors of `AutoencoderHeader.parse`."""
        if len(data) < _FIXED:
            raise CorruptionError(
                f"payload has {len(data)} bytes but its header has more than {_FIXED}: it is cut short; restore it from a copy"
            )
        version, family, decoder, kind, axes = data[2:_FIXED]
        VERSIONS.name(version)
        _FAMILIES.name(family)
        if version != OVERFITTED_VERSION:
            raise CorruptionError(
                f"payload has format version {version} but overfitted chunks have version {OVERFITTED_VERSION}: "
                "the payload is damaged; restore it from a copy"
            )
        (dtype, big_endian), body = parse_dtype(kind >> 4), BODIES.name(kind & 15)
        position = _FIXED + (_DIGEST if body == SHARED_NETWORK else 0)
        shape, channel_axis, fortran, end = parse_geometry(data, axes, position)
        name = DECODERS.name(decoder)
        shared = bytes(data[_FIXED:position])
        return cls(name, body, shape, channel_axis, fortran, dtype, shared, big_endian=big_endian), end


@dataclass(frozen=True)
class OverfittedPayload:
    """A parsed payload.

    `colour` is set for a constant chunk alone. Otherwise `planes` says how planes become pictures, `network` is
    the section of the payload's own network, and the rest are the coded latents: words, varints and low bits.
    """

    header: OverfittedHeader
    planes: bytes = b""
    network: bytes = b""
    stream: bytes = b""
    escapes: bytes = b""
    raw: bytes = b""
    colour: bytes = b""

    @property
    def latent_bytes(self) -> int:
        """Bytes of the coded latents."""
        return len(self.stream) + len(self.escapes) + len(self.raw)

    @property
    def overhead(self) -> int:
        """Bytes that are neither network nor latents: header, planes, colour, lengths and checksum."""
        return len(pack(self)) - len(self.network) - self.latent_bytes


def pack(payload: OverfittedPayload) -> bytes:
    """The payload's bytes."""
    parts = [payload.header.pack()]
    if payload.header.constant:
        return seal(b"".join([*parts, payload.colour]))
    parts.append(pack_section(payload.planes))
    if payload.header.body == OWN_NETWORK:
        parts.append(pack_section(payload.network))
    return seal(b"".join([*parts, pack_coded(payload.stream, payload.escapes, payload.raw)]))


def parse(data: bytes | bytearray | memoryview) -> OverfittedPayload:
    """The payload in data, which must hold that and nothing else; raises the errors of `autoencoder.parse`."""
    body = unseal(data)
    header, position = OverfittedHeader.parse(body)
    if header.constant:
        return OverfittedPayload(header, colour=header.parse_colour(body, position))
    planes, position = parse_section(body, position)
    network = b""
    if header.body == OWN_NETWORK:
        network, position = parse_section(body, position)
    return OverfittedPayload(header, planes, network, *parse_coded(body, position))


def pack_coded(stream: bytes, escapes: bytes, raw: bytes) -> bytes:
    """What `parse_coded` reads."""
    return varint.pack(len(stream) // WORD) + varint.pack(len(escapes)) + stream + escapes + raw


def parse_coded(data: bytes | memoryview, position: int) -> tuple[bytes, bytes, bytes]:
    """Words, escapes and low bits from a position on, the lengths of the first two before them; or CorruptionError."""
    words, position = varint.unpack(data, position)
    escapes, position = varint.unpack(data, position)
    middle = position + WORD * words
    end = middle + escapes
    if end > len(data):
        raise CorruptionError(
            f"stream and escapes should end at byte {end} but only {len(data)} bytes are there: they are damaged or cut short"
        )
    return bytes(data[position:middle]), bytes(data[middle:end]), bytes(data[end:])
