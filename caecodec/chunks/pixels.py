"""Chunk ndarray <-> float32 images: axes, dtypes, ranges and rounding (FORMAT.md, 4: Planes).

In: a chunk of any layout, for example uint8 (256, 256, 3), or uint16 (t, c, 256, 256).
Out: images as float32 (m, 3, height, width) in [0, 1], channels last in memory. Three channels that belong together are one
image; any other plane is an image of its own, three times the same.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bitstream.prefix import DTYPES, MAX_DIMENSIONS, MAX_SIZE
from ..errors import CorruptionError, ParameterError
from .ranges import LEVELS, Ranges

COLOURS = 3
MANY = 16  # channels that are taken for channels however small the planes are
CORRELATED = 0.5  # mean correlation from which three planes are coded as one colour image
MAX_LEVEL = 2.0**64  # far beyond [0, 1], within which a network's images lie but for ringing
_LOSSLESS = "store it with a lossless codec such as zarr.codecs.BloscCodec instead"


class Axes(NamedTuple):
    """Where the axes of a chunk are, counted from the front; `channel` is None where there is no such axis."""

    leading: tuple[int, ...]
    height: int
    width: int
    channel: int | None

    @classmethod
    def of(cls, ndim: int, channel_axis: int | None) -> "Axes":
        """The axes of an ndim-dimensional chunk.

        The two spatial axes are the last two that are not the channel axis; whatever leads is a batch of images.
        Raises ParameterError when there are too few or too many axes.
        """
        least = 2 if channel_axis is None else 3
        if not least <= ndim <= MAX_DIMENSIONS:
            raise ParameterError(
                f"chunk has {ndim} axes but needs {least} to {MAX_DIMENSIONS}: two spatial axes, "
                f"channels (channel_axis={channel_axis}), and any leading ones; channel_axis=None where there are no channels"
            )
        if channel_axis is None:
            return cls(tuple(range(ndim - 2)), ndim - 2, ndim - 1, None)
        if not -ndim <= channel_axis < ndim:
            raise ParameterError(f"channel_axis is {channel_axis} but a chunk of {ndim} axes has -{ndim} to {ndim - 1}")
        channel = channel_axis % ndim
        *leading, height, width = (axis for axis in range(ndim) if axis != channel)
        return cls(tuple(leading), height, width, channel)

    def channels(self, shape: tuple[int, ...]) -> int:
        """How many channels a chunk of this shape has."""
        return 1 if self.channel is None else shape[self.channel]

    def region(self, rows: slice, columns: slice) -> tuple[slice, ...]:
        """The index of these rows and columns in a chunk."""
        spatial = {self.height: rows, self.width: columns}
        return tuple(spatial.get(axis, slice(None)) for axis in range(len(self.leading) + 2 + (self.channel is not None)))

    def images(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A chunk as (n, height, width, channels); a view where its memory allows."""
        if self.channel is None:
            return array.reshape(-1, *array.shape[-2:], 1)
        last = array.transpose((*self.leading, self.height, self.width, self.channel))
        return last.reshape(-1, *last.shape[-3:])

    def chunk(self, images: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Images (n, height, width, channels) as a C-contiguous chunk of this shape."""
        if self.channel is None:
            return np.ascontiguousarray(images.reshape(shape))
        chunk = np.empty(shape, images.dtype)
        view = chunk.transpose((*self.leading, self.height, self.width, self.channel))
        view[...] = images.reshape(view.shape)
        return chunk


class Layout(NamedTuple):
    """How the planes of a chunk become images.

    `separate`: each plane is an image of its own. `ranges`: of each plane (n, channels); None where uint8 values are taken
    as they are. Planes of one value that are separate are not coded.
    """

    separate: bool
    ranges: Ranges | None = None

    def images(self, count: int, channels: int) -> int:
        """How many images the network sees of `count` images of the chunk."""
        if not self.separate:
            return count
        return count * channels if self.ranges is None else int((~self.ranges.constant).sum())

    def pack(self) -> bytes:
        """The bytes of FORMAT.md, 4: a byte of flags, and the ranges."""
        ranges = b"" if self.ranges is None else self.ranges.pack()
        return bytes((self.separate | (self.ranges is not None) << 1,)) + ranges

    @classmethod
    def parse(cls, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], axes: Axes) -> "Layout":
        """The layout in these bytes, of a chunk of this shape; CorruptionError when they hold none, or another chunk's."""
        flags = data[0] if data else 255
        channels = axes.channels(shape)
        count = int(np.prod([shape[axis] for axis in axes.leading], dtype=np.int64))
        if flags > 3 or not (flags & 1 or channels == COLOURS) or not (flags & 2 or dtype == np.uint8):
            raise CorruptionError(
                f"payload has planes of kind {flags}, which a {dtype} chunk of shape {shape} has not: it is damaged"
            )
        ranges, used = Ranges.parse(memoryview(data)[1:], (count, channels), dtype) if flags & 2 else (None, 0)
        if used != len(data) - 1:
            raise CorruptionError(f"payload has {len(data)} bytes of planes but {1 + used} were expected: it is damaged")
        return cls(bool(flags & 1), ranges)


def check(shape: tuple[int, ...], dtype: np.dtype[Any], channel_axis: int | None) -> Axes:
    """The axes of a chunk of this shape and dtype, or a ParameterError that says why it cannot be encoded."""
    if not dtype.isnative or dtype.name not in DTYPES.values():
        what = "bool, which labels and masks are" if dtype.kind == "b" else dtype.name if dtype.isnative else dtype.str
        raise ParameterError(
            f"chunk dtype is {what}, but must be {', '.join(DTYPES.values())} in this machine's byte order: convert it "
            "(astype) where that loses nothing you need, or " + _LOSSLESS
        )
    axes = Axes.of(len(shape), channel_axis)
    channels = axes.channels(shape)
    if channels > max(MANY, min(shape[axes.height], shape[axes.width])):
        raise ParameterError(
            f"chunk of shape {shape} has {channels} channels along axis {channel_axis}, more than pixels a side; name the axis "
            "that holds channels (channel_axis=None: there is none), or use chunks of fewer channels"
        )
    size = int(np.prod(shape, dtype=object))
    if not 0 < size <= MAX_SIZE:
        raise ParameterError(f"chunk of shape {shape} has {size} values but must have 1 to {MAX_SIZE}; use smaller chunks")
    return axes


def check_finite(array: npt.NDArray[Any]) -> None:
    """ParameterError when a float chunk has values that are not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise ParameterError(
            f"chunk has {count} values that are NaN or infinite, which a lossy codec cannot keep; replace them "
            "(numpy.nan_to_num), or " + _LOSSLESS
        )


def layout(array: npt.NDArray[Any], axes: Axes) -> Layout:
    """How to code a chunk, from its values."""
    images = axes.images(array)
    colours = images.shape[3] == COLOURS
    if array.dtype == np.uint8:
        if colours:
            return Layout(separate=False)
        constant = (images == images[:, :1, :1]).all(axis=(1, 2))
        return Layout(separate=True, ranges=Ranges.whole(images, constant) if constant.any() else None)
    ranges = Ranges.of(images)
    separate = not colours or _correlation(ranges.forward(images[:, ::2, ::2])) < CORRELATED
    return Layout(separate, ranges)


def plausible(images: npt.NDArray[np.float32]) -> bool:
    """Whether images are numbers of which `to_array` makes pixels; those of forged symbols may overflow."""
    return bool(images.min() > -MAX_LEVEL and images.max() < MAX_LEVEL)  # False for NaN as well


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

    Where planes are separate, images may be single planes (m, 1, height, width).
    """
    found = values(images, 1.0, shape, axes, layout)
    if dtype.kind != "f":
        np.rint(found, out=found)
    return axes.chunk(found.astype(dtype), shape)


def values(
    images: npt.NDArray[np.floating[Any]], one: float, shape: tuple[int, ...], axes: Axes, layout: Layout
) -> npt.NDArray[Any]:
    """The values (n, height, width, channels) that images (m, 3, height, width) in [0, one] stand for, not yet rounded."""
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
    """The (channels,) colour of a chunk whose pixels are all equal, else None."""
    images = axes.images(array)
    colour = images[0, 0, 0]
    if not (images[0, 0] == colour).all():  # the first row: cheap, and settles most chunks
        return None
    return colour.copy() if (images == colour).all() else None


def fill(colour: npt.NDArray[Any], shape: tuple[int, ...], axes: Axes) -> npt.NDArray[Any]:
    """The chunk of this shape whose every pixel is the (channels,) colour."""
    count = int(np.prod(shape)) // len(colour) // (shape[axes.height] * shape[axes.width])
    images = np.broadcast_to(colour, (count, shape[axes.height], shape[axes.width], len(colour)))
    return axes.chunk(images, shape)


def _correlation(images: npt.NDArray[np.float32]) -> float:
    """The mean correlation of pairs of channels; 0 where one of them is constant."""
    flat = images.reshape(-1, images.shape[3])
    centred = flat - flat.mean(axis=0)
    norms = np.sqrt(np.square(centred).sum(axis=0))
    if not norms.all():
        return 0.0
    matrix = (centred.T @ centred) / np.outer(norms, norms)
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def peak(array: npt.NDArray[Any]) -> float:
    """What PSNR relates errors to: 255 for uint8, the range of the array's values for other dtypes."""
    return 255.0 if array.dtype == np.uint8 else float(array.max()) - float(array.min())


def psnr(array: npt.NDArray[Any], decoded: npt.NDArray[Any]) -> float:
    """PSNR in dB, infinite where the arrays are equal."""
    error = float(np.mean(np.square(array.astype(np.float64) - decoded.astype(np.float64))))
    return math.inf if error == 0 else 20 * math.log10(peak(array)) - 10 * math.log10(error)
