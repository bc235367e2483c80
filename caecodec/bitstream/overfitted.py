"""A payload of the overfitted codec: header, planes, network, latents, CRC-32 (FORMAT.md, 13: Overfitted chunks)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CorruptionError
from . import varint
from .container import WORD, seal, section, unseal
from .header import DTYPES, MAGIC, OVERFITTED_VERSION, VERSIONS, name_of, number_of, pack_axes, parse_geometry

# Wire ids. Literals: never reused, never renumbered.
FAMILIES = {3: "overfitted"}
DECODERS = {0: "lop", 1: "mop", 2: "hop"}
CODING_OWN = 0
CODING_SHARED = 1
CODING_CONSTANT = 15
CODINGS = {CODING_OWN: "own network", CODING_SHARED: "shared network", CODING_CONSTANT: "constant"}
_FIXED = 7
_DIGEST = 4


@dataclass(frozen=True)
class Header:
    """What a payload says of itself.

    `decoder` is the size of its network; `digest` the first 4 bytes of the SHA-256 of the network section that it shares with
    others, empty where it has its own; the rest as in `header.Header`.
    """

    decoder: str
    coding: int
    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool = False
    dtype: str = "uint8"
    digest: bytes = b""
    family: str = "overfitted"
    version: int = OVERFITTED_VERSION

    @property
    def channels(self) -> int:
        """How many channels the chunk has."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the chunk."""
        return np.dtype(self.dtype)

    def pack(self) -> bytes:
        """The header's bytes."""
        fixed = (
            OVERFITTED_VERSION,
            number_of(FAMILIES, self.family),
            number_of(DECODERS, self.decoder),
            self.coding | number_of(DTYPES, self.dtype) << 4,
            pack_axes(len(self.shape), self.channel_axis, self.fortran),
        )
        return MAGIC + bytes(fixed) + self.digest + b"".join(map(varint.pack, self.shape))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple["Header", int]:
        """The header at the start of data, and the position behind it; errors as of `header.Header.parse`."""
        if len(data) < _FIXED:
            raise CorruptionError(f"payload has {len(data)} bytes but a header alone has more: it is cut short")
        version, family, decoder, kind, axes = data[2:_FIXED]
        name_of("format version", VERSIONS, version)
        name_of("model family id", FAMILIES, family)
        if version != OVERFITTED_VERSION:
            raise CorruptionError(
                f"payload has format version {version} but its family has {OVERFITTED_VERSION}: it is damaged"
            )
        dtype, coding = name_of("dtype id", DTYPES, kind >> 4), kind & 15
        name_of("coding id", CODINGS, coding)
        position = _FIXED + (_DIGEST if coding == CODING_SHARED else 0)
        shape, channel_axis, fortran, end = parse_geometry(data, axes, position)
        name = name_of("decoder id", DECODERS, decoder)
        return cls(name, coding, shape, channel_axis, fortran, dtype, bytes(data[_FIXED:position])), end


@dataclass(frozen=True)
class Payload:
    """A parsed payload.

    `colour` is set for a constant chunk alone. Otherwise `planes` says how planes become pictures (pixels.Layout), `network` is
    the section of the payload's own network, and the rest are the coded latents: words, varints and low bits.
    """

    header: Header
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


def pack(payload: Payload) -> bytes:
    """The payload's bytes."""
    parts = [payload.header.pack()]
    if payload.header.coding == CODING_CONSTANT:
        return seal(b"".join([*parts, payload.colour]))
    parts += [varint.pack(len(payload.planes)), payload.planes]
    if payload.header.coding == CODING_OWN:
        parts += [varint.pack(len(payload.network)), payload.network]
    return seal(b"".join([*parts, pack_coded(payload.stream, payload.escapes, payload.raw)]))


def parse(data: bytes | bytearray | memoryview) -> Payload:
    """The payload in data, which must hold that and nothing else; errors as of `container.parse`."""
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
    planes, position = section(body, position)
    network = b""
    if header.coding == CODING_OWN:
        network, position = section(body, position)
    return Payload(header, planes, network, *parse_coded(body, position))


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
        raise CorruptionError(f"stream and escapes end at byte {end} of {len(data)}: the payload is cut short")
    return bytes(data[position:middle]), bytes(data[middle:end]), bytes(data[end:])
