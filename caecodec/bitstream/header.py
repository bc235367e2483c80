"""The header of a payload (FORMAT.md, 3: Header): what it is, what wrote it, and the geometry of the chunk."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CorruptionError, FormatVersionError
from . import varint

MAGIC = b"\xca\xec"
RGB_VERSION = 1  # of chunks that are uint8 and have three channels, and no bound
VERSION = 2  # of all others, and the newest

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
                _id(FAMILIES, self.family),
                self.quality | _id(METRICS, self.metric) << 4,
                self.coding | _id(DTYPES, self.dtype) << 4,
                len(self.shape) - 1
                | (NO_CHANNELS if self.channel_axis is None else self.channel_axis) << 3
                | self.fortran << 7,
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
        _name("format version", {RGB_VERSION: "1", VERSION: "2"}, version)
        fields = {
            "family": _name("model family id", FAMILIES, family),
            "metric": _name("metric id", METRICS, point >> 4),
            "dtype": _name("dtype id", DTYPES, kind >> 4),
        }
        coding = kind & 15
        _name("entropy model id", CODINGS, coding)
        quality, ndim, channel_axis = point & 15, (axes & 7) + 1, axes >> 3 & 15
        position, shape, size = _FIXED, [], 1
        for _ in range(ndim):
            length, position = varint.unpack(data, position)
            shape.append(length)
            size *= length
        spatial = ndim - (channel_axis != NO_CHANNELS)
        sound = channel_axis < ndim or channel_axis == NO_CHANNELS
        if not 1 <= quality <= MAX_QUALITY or not sound or spatial < 2 or not 0 < size <= MAX_SIZE:
            raise CorruptionError(
                f"header gives quality {quality}, channel axis {channel_axis} and shape {tuple(shape)}, "
                "which no chunk has: the payload is damaged; restore it from a copy"
            )
        axis = None if channel_axis == NO_CHANNELS else channel_axis
        header = cls(quality, fields["metric"], coding, bytes(data[7:11]), tuple(shape), axis, bool(axes >> 7),
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


def _id(names: dict[int, str], name: str) -> int:
    return next(number for number, known in names.items() if known == name)


def _name(what: str, names: dict[int, str], number: int) -> str:
    if number not in names:
        known = ", ".join(str(n) for n in sorted(names))
        raise FormatVersionError(f"{what} of the payload is {number} but this caecodec knows {known}; upgrade caecodec")
    return names[number]
