"""The header of a payload (FORMAT.md, 3: Header): what it is, what wrote it, and the geometry of the chunk."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CorruptionError, FormatVersionError
from . import varint

MAGIC = b"\xca\xec"
RGB_VERSION = 1  # of chunks that are uint8 and have three channels, and no bound
VERSION = 2  # of all others of family 1
OVERFITTED_VERSION = 3  # of family 3
VERSIONS = {version: str(version) for version in (RGB_VERSION, VERSION, OVERFITTED_VERSION)}

# Wire ids. Literals: never reused, never renumbered.
FAMILIES = {1: "cae"}
METRICS = {0: "mse", 1: "ms-ssim"}
DTYPES = {0: "uint8", 1: "uint16", 2: "int16", 3: "float32", 4: "float64"}
NO_CHANNELS = 15  # in place of the channel axis
CODING_STATIC = 0
CODING_CONTEXT = 1
CODING_BOUNDED = 2
CODING_CONSTANT = 15
ENTROPY_MODELS = {CODING_STATIC: "static", CODING_CONTEXT: "context"}
CODINGS = {**ENTROPY_MODELS, CODING_BOUNDED: "bounded", CODING_CONSTANT: "constant"}

MAX_QUALITY = 8
MAX_DIMENSIONS = 8
MAX_SIZE = 2**31 - 1
_FIXED = 11


@dataclass(frozen=True)
class Header:
    """What a payload says of itself.

    `shape` is the chunk's, as stored; `channel_axis` is counted from the front, None for none; `fortran` says that the array
    was in Fortran order; `digest` is the first 4 bytes of the SHA-256 of the weights.
    """

    quality: int
    metric: str
    coding: int
    digest: bytes
    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool = False
    family: str = "cae"
    dtype: str = "uint8"

    @property
    def version(self) -> int:
        """The lowest format version that has such payloads."""
        rgb = self.dtype == "uint8" and self.channel_axis is not None and self.shape[self.channel_axis] == 3
        return RGB_VERSION if rgb and self.coding != CODING_BOUNDED else VERSION

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
        fixed = bytes(
            (
                self.version,
                number_of(FAMILIES, self.family),
                self.quality | number_of(METRICS, self.metric) << 4,
                self.coding | number_of(DTYPES, self.dtype) << 4,
                pack_axes(len(self.shape), self.channel_axis, self.fortran),
            )
        )
        return MAGIC + fixed + self.digest + b"".join(map(varint.pack, self.shape))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple["Header", int]:
        """The header at the start of data, and the position behind it.

        Raises
        ------
        CorruptionError
            The bytes are no caecodec payload, or are too short for a header.
        FormatVersionError
            A version, or an id in it, that this reader does not know.
        """
        check_magic(data)
        if len(data) < _FIXED:
            raise CorruptionError(f"payload has {len(data)} bytes but a header alone has {_FIXED} or more: it is cut short")
        version, family, point, kind, axes = data[2:7]
        name_of("format version", VERSIONS, version)
        fields = {
            "family": name_of("model family id", FAMILIES, family),
            "metric": name_of("metric id", METRICS, point >> 4),
            "dtype": name_of("dtype id", DTYPES, kind >> 4),
        }
        coding = kind & 15
        name_of("entropy model id", CODINGS, coding)
        quality = point & 15
        shape, channel_axis, fortran, position = parse_geometry(data, axes, _FIXED)
        if not 1 <= quality <= MAX_QUALITY:
            raise CorruptionError(f"header gives quality {quality}, which there is not: the payload is damaged")
        header = cls(quality, fields["metric"], coding, bytes(data[7:11]), shape, channel_axis, fortran,
                     fields["family"], fields["dtype"])  # fmt: skip
        if version != header.version:
            raise CorruptionError(
                f"payload has format version {version} but {CODINGS[coding]} {header.dtype} chunks of shape {header.shape} "
                f"have {header.version}: it is damaged"
            )
        return header, position


def check_magic(data: bytes | memoryview) -> None:
    """CorruptionError unless data starts as a payload does."""
    if bytes(data[:2]) != MAGIC:
        raise CorruptionError(
            f"payload starts with {bytes(data[:2]).hex(' ') or 'nothing'} but must start with {MAGIC.hex(' ')}: "
            "it was not written by caecodec, or is damaged"
        )


def pack_axes(ndim: int, channel_axis: int | None, fortran: bool) -> int:
    """The byte of the header that says which axes there are."""
    return ndim - 1 | (NO_CHANNELS if channel_axis is None else channel_axis) << 3 | fortran << 7


def parse_geometry(data: bytes | memoryview, axes: int, position: int) -> tuple[tuple[int, ...], int | None, bool, int]:
    """Shape, channel axis, whether in Fortran order, and the position behind the lengths of the axes that this byte says.

    Raises CorruptionError for those that no chunk has.
    """
    ndim, channel_axis = (axes & 7) + 1, axes >> 3 & 15
    shape, size = [], 1
    for _ in range(ndim):
        length, position = varint.unpack(data, position)
        shape.append(length)
        size *= length
    spatial = ndim - (channel_axis != NO_CHANNELS)
    if not (channel_axis < ndim or channel_axis == NO_CHANNELS) or spatial < 2 or not 0 < size <= MAX_SIZE:
        raise CorruptionError(
            f"header gives channel axis {channel_axis} and shape {tuple(shape)}, which no chunk has: "
            "the payload is damaged; restore it from a copy"
        )
    return tuple(shape), None if channel_axis == NO_CHANNELS else channel_axis, bool(axes >> 7), position


def number_of(names: dict[int, str], name: str) -> int:
    """The wire id of a name."""
    return next(number for number, known in names.items() if known == name)


def name_of(what: str, names: dict[int, str], number: int) -> str:
    """The name of a wire id; FormatVersionError for one that is not known here."""
    if number not in names:
        known = ", ".join(str(n) for n in sorted(names))
        raise FormatVersionError(f"{what} of the payload is {number} but this caecodec knows {known}; upgrade caecodec")
    return names[number]
