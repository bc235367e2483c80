"""What the headers of all families have in common (FORMAT.md, 3): magic, versions, dtypes and the geometry of the chunk."""

from typing import Any

import numpy as np

from ..errors import CorruptionError
from . import varint
from .wire_ids import WireIds

MAGIC = b"\xca\xec"
RGB_VERSION = 1  # the autoencoder's chunks of uint8 with three channels and without a bound
PLANES_VERSION = 2  # all other chunks of the autoencoder
OVERFITTED_VERSION = 3
VERSIONS = WireIds("format version", {version: str(version) for version in (RGB_VERSION, PLANES_VERSION, OVERFITTED_VERSION)})
DTYPES = WireIds("dtype id", {0: "uint8", 1: "uint16", 2: "int16", 3: "float32", 4: "float64"})

NO_CHANNELS = 15  # in place of the channel axis
MAX_DIMENSIONS = 8
MAX_SIZE = 2**31 - 1


class ChunkHeader:
    """What the header of every family says of its chunk.

    shape : the chunk's, as stored
    channel_axis : counted from the front; None for a chunk without one
    fortran : the array was in Fortran order
    dtype : one of DTYPES
    """

    shape: tuple[int, ...]
    channel_axis: int | None
    fortran: bool
    dtype: str

    @property
    def channels(self) -> int:
        """How many channels the chunk has."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the chunk."""
        return np.dtype(self.dtype)

    def parse_colour(self, body: bytes | memoryview, position: int) -> bytes:
        """The values of a constant chunk, one for each channel, which must be all that is left of a body."""
        colour = bytes(body[position:])
        if len(colour) != self.channels * self.numpy_dtype.itemsize:
            raise CorruptionError(
                f"constant chunk has {len(colour)} bytes for {self.channels} channels of {self.dtype}: the payload is damaged"
            )
        return colour


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
