"""What the headers of all families have in common: magic, versions, dtypes and the geometry of the chunk (FORMAT.md, 3).

From format version 4 on, that is one prefix for all families (FORMAT.md, 19).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import CorruptionError, FormatVersionError
from . import varint
from .wire_ids import WireIds

MAGIC = b"\xca\xec"
RGB_VERSION = 1  # the autoencoder's chunks of uint8 with three channels and without a bound
PLANES_VERSION = 2  # all other chunks of the autoencoder
OVERFITTED_VERSION = 3
DIRECTORY_VERSION = 4  # families that need sections
PADDED_VERSION = 5  # chunks of any other version that end in padding
VERSIONS = WireIds(
    "format version",
    {version: str(version) for version in (RGB_VERSION, PLANES_VERSION, OVERFITTED_VERSION, DIRECTORY_VERSION, PADDED_VERSION)},
)
DTYPES = WireIds("dtype id", {0: "uint8", 1: "uint16", 2: "int16", 3: "float32", 4: "float64"})
_DTYPES_OF_ARRAYS = WireIds("dtype id", {**DTYPES, 9: ">uint16", 10: ">int16", 11: ">float32", 12: ">float64"})

NO_CHANNELS = 15  # in place of the channel axis
MAX_DIMENSIONS = 8
MAX_SIZE = 2**31 - 1
PREFIX_BYTES = 6  # of a prefix, before the lengths of the axes


class ChunkHeader:
    """What the header of every family says about its chunk.

    shape : the chunk's, as stored
    channel_axis : counted from the front; None for a chunk without one
    fortran : whether the array was in Fortran order
    dtype : one of DTYPES
    big_endian : whether the bytes of the array were in big-endian order; those of the payload's values never are
    """

    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool
    dtype: str
    big_endian: bool

    @property
    def channels(self) -> int:
        """How many channels the chunk has."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the chunk."""
        return np.dtype(self.dtype)

    @property
    def dtype_id(self) -> int:
        """The wire id of dtype and byte order, which `parse_dtype` reads."""
        return _DTYPES_OF_ARRAYS.number(">" * self.big_endian + self.dtype)

    def parse_colour(self, body: bytes | memoryview, position: int) -> bytes:
        """The values of a constant chunk, one for each channel, which must be all that is left of a body."""
        colour = bytes(body[position:])
        if len(colour) != self.channels * self.numpy_dtype.itemsize:
            raise CorruptionError(
                f"constant chunk has {len(colour)} bytes of values but its {self.channels} channels of {self.dtype} take "
                f"{self.channels * self.numpy_dtype.itemsize}: the payload is damaged; restore it from a copy"
            )
        return colour


@dataclass(frozen=True)
class Prefix(ChunkHeader):
    """What every payload of format version 4 begins with; `ChunkHeader` explains the geometry.

    family : the wire id, 0 to 255, that says what the sections of the payload hold
    """

    family: int
    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool = False
    dtype: str = "uint8"
    big_endian: bool = False
    version: ClassVar[int] = DIRECTORY_VERSION

    def pack(self) -> bytes:
        """The prefix's bytes."""
        axes = pack_axes(len(self.shape), self.channel_axis, self.fortran)
        fixed = bytes((self.version, self.family, self.dtype_id << 4, axes))
        return MAGIC + fixed + b"".join(map(varint.pack, self.shape))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> "Prefix":
        """The prefix at the start of data, whose magic, version and checksum are verified already.

        Raises
        ------
        CorruptionError
            No chunk has this geometry.
        FormatVersionError
            A dtype or a flag that this reader does not know.
        """
        family, kind, axes = data[3:PREFIX_BYTES]
        if kind & 15:
            raise FormatVersionError(f"header has the flags {kind & 15} but this caecodec knows none; upgrade caecodec")
        shape, channel_axis, fortran, _ = parse_geometry(data, axes, PREFIX_BYTES)
        return cls(family, shape, channel_axis, fortran, *parse_dtype(kind >> 4))


def check_magic(data: bytes | memoryview) -> None:
    """CorruptionError unless data starts as a payload does."""
    if bytes(data[:2]) != MAGIC:
        raise CorruptionError(
            f"payload starts with {bytes(data[:2]).hex(' ') or 'nothing'} but must start with {MAGIC.hex(' ')}: "
            "it was not written by caecodec, or is damaged"
        )


def parse_dtype(number: int) -> tuple[str, bool]:
    """The dtype behind a wire id, and whether the array was big-endian; FormatVersionError if the id is not known here."""
    name = _DTYPES_OF_ARRAYS.name(number)
    return name.removeprefix(">"), name.startswith(">")


def pack_axes(ndim: int, channel_axis: int | None, fortran: bool) -> int:
    """The byte of the header that tells the number of axes, the channel axis and the memory order."""
    return ndim - 1 | (NO_CHANNELS if channel_axis is None else channel_axis) << 3 | fortran << 7


def parse_geometry(data: bytes | memoryview, axes: int, position: int) -> tuple[tuple[int, ...], int | None, bool, int]:
    """Shape, channel axis, whether in Fortran order, and the position behind the axes' lengths, which begin at `position`.

    axes : the byte that `pack_axes` makes

    Raises CorruptionError for a geometry that no chunk has.
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
            f"header says shape {tuple(shape)} and channel axis {channel_axis} ({NO_CHANNELS} for none), but a chunk has two "
            f"axes or more beside a channel axis among them, and 1 to {MAX_SIZE} values: the payload is damaged; "
            "restore it from a copy"
        )
    return tuple(shape), None if channel_axis == NO_CHANNELS else channel_axis, bool(axes >> 7), position
