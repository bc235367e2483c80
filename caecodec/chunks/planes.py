"""Chunk ndarray <-> float32 images: planes, dtypes, ranges and rounding (FORMAT.md, 4: Planes).

In: a chunk of any layout, for example uint8 (256, 256, 3), or uint16 (t, c, 256, 256).
Out: images as float32 (m, 3, height, width) in [0, 1], channels last in memory. Three channels that are correlated make
one image; any other plane becomes an image of its own, repeated three times.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError
from .axes import Axes
from .ranges import LEVELS, Ranges

COLOURS = 3
CORRELATED = 0.5  # mean correlation from which three planes are coded as one colour image
MAX_LEVEL = 2.0**64  # a network's images lie in [0, 1] except for ringing; values beyond this limit are damage


class Layout(NamedTuple):
    """How the planes of a chunk become images.

    `separate`: each plane is an image of its own. `ranges`: those of the planes (n, channels); None if uint8 values are used
    unchanged. Separate planes of one value are not coded.
    """

    separate: bool
    ranges: Ranges | None = None

    @classmethod
    def of(cls, array: npt.NDArray[Any], axes: Axes) -> "Layout":
        """The layout of a chunk, chosen from its values."""
        images = axes.images(array)
        colours = images.shape[3] == COLOURS
        if array.dtype == np.uint8:
            if colours:
                return cls(separate=False)
            constant = (images == images[:, :1, :1]).all(axis=(1, 2))
            return cls(separate=True, ranges=Ranges.whole(images, constant) if constant.any() else None)
        ranges = Ranges.of(images)
        separate = not colours or _correlation(ranges.forward(images[:, ::2, ::2])) < CORRELATED
        return cls(separate, ranges)

    def images(self, count: int, channels: int) -> int:
        """How many images the network sees for `count` images of the chunk."""
        if not self.separate:
            return count
        return count * channels if self.ranges is None else int((~self.ranges.constant).sum())

    def pack(self) -> bytes:
        """The bytes of FORMAT.md, 4: a byte of flags, and the ranges."""
        ranges = b"" if self.ranges is None else self.ranges.pack()
        return bytes((self.separate | (self.ranges is not None) << 1,)) + ranges

    @classmethod
    def parse(cls, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], axes: Axes) -> "Layout":
        """The layout in these bytes; CorruptionError if they are not the layout of a chunk of this shape, dtype and axes."""
        flags = data[0] if data else 255
        channels = axes.channels(shape)
        count = int(np.prod([shape[axis] for axis in axes.leading], dtype=np.int64))
        if flags > 3 or not (flags & 1 or channels == COLOURS) or not (flags & 2 or dtype == np.uint8):
            raise CorruptionError(
                f"payload has planes of kind {flags}, which no {dtype} chunk of shape {shape} has: it is damaged"
            )
        ranges, used = Ranges.parse(memoryview(data)[1:], (count, channels), dtype) if flags & 2 else (None, 0)
        if used != len(data) - 1:
            raise CorruptionError(f"payload has {len(data)} bytes of planes but {1 + used} were expected: it is damaged")
        return cls(bool(flags & 1), ranges)


def plausible(images: npt.NDArray[np.float32]) -> bool:
    """Whether all values are finite and within a sane range; images decoded from forged symbols may overflow."""
    return bool(images.min() > -MAX_LEVEL and images.max() < MAX_LEVEL)  # also False for NaN


def to_images(array: npt.NDArray[Any], axes: Axes, layout: Layout) -> npt.NDArray[np.float32]:
    """A chunk as float32 images (m, 3, height, width) in [0, 1]."""
    last = axes.images(array)
    if layout.ranges is None:
        images = np.ascontiguousarray(last, dtype=np.float32)
        images /= np.float32(255)
    else:
        images = layout.ranges.forward(last)
    if not layout.separate:
        return images.transpose(0, 3, 1, 2)
    planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3], 1)
    if layout.ranges is not None:
        planes = planes[~layout.ranges.constant.reshape(-1)]
    return planes.repeat(COLOURS, axis=3).transpose(0, 3, 1, 2)


def to_array(
    images: npt.NDArray[np.float32], shape: tuple[int, ...], dtype: np.dtype[Any], axes: Axes, layout: Layout
) -> npt.NDArray[Any]:
    """Images (m, 3, height, width) in [0, 1] as a C-contiguous chunk of this shape, integers rounded to nearest.

    For separate planes, images may also have a single channel (m, 1, height, width).
    """
    found = to_values(images, 1.0, shape, axes, layout)
    if dtype.kind != "f":
        np.rint(found, out=found)
    return axes.chunk(found.astype(dtype), shape)


def to_values(
    images: npt.NDArray[np.floating[Any]], one: float, shape: tuple[int, ...], axes: Axes, layout: Layout
) -> npt.NDArray[Any]:
    """The unrounded values (n, height, width, channels) that images (m, 3, height, width) in [0, one] stand for."""
    height, width, channels = shape[axes.height], shape[axes.width], axes.channels(shape)
    last = images.transpose(0, 2, 3, 1)
    if layout.separate:
        means = last[..., 0] if last.shape[3] == 1 else (last[..., 0] + last[..., 1] + last[..., 2]) / 3
        planes = means
        if layout.ranges is not None:
            planes = np.zeros((layout.ranges.constant.size, height, width), means.dtype)
            planes[~layout.ranges.constant.reshape(-1)] = means
        last = planes.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    if layout.ranges is not None:
        return layout.ranges.inverse(last / one)
    levels: npt.NDArray[Any] = np.clip(last * (LEVELS / one), 0, LEVELS)
    return levels


def constant(array: npt.NDArray[Any], axes: Axes) -> npt.NDArray[Any] | None:
    """The colour (channels,) of a chunk whose pixels are all equal, bit by bit, or None."""
    images = axes.images(array)
    bits = images.view(f"u{array.dtype.itemsize}")  # so that NaN is equal to itself, and 0.0 not to -0.0
    if not (bits[0, 0] == bits[0, 0, 0]).all():  # the first row is cheap to compare, and rules out most chunks
        return None
    return images[0, 0, 0].copy() if (bits == bits[0, 0, 0]).all() else None


def fill(colour: npt.NDArray[Any], shape: tuple[int, ...], axes: Axes) -> npt.NDArray[Any]:
    """A chunk of this shape all of whose pixels have this colour (channels,)."""
    count = int(np.prod(shape)) // len(colour) // (shape[axes.height] * shape[axes.width])
    images = np.broadcast_to(colour, (count, shape[axes.height], shape[axes.width], len(colour)))
    return axes.chunk(images, shape)


def _correlation(images: npt.NDArray[np.float32]) -> float:
    """The mean correlation of pairs of channels; 0 if a channel is constant."""
    flat = images.reshape(-1, images.shape[3])
    centred = flat - flat.mean(axis=0)
    norms = np.sqrt(np.square(centred).sum(axis=0))
    if not norms.all():
        return 0.0
    matrix = (centred.T @ centred) / np.outer(norms, norms)
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())
