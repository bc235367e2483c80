"""Chunk ndarray <-> float32 images: axes, dtype, range and rounding.

In: a uint8 chunk of any layout, for example (256, 256, 3) or (t, 3, 256, 256).
Out: images as float32 (n, 3, height, width) in [0, 1], channels last in memory.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .bitstream.header import MAX_DIMENSIONS, MAX_SIZE
from .errors import ParameterError

CHANNELS = 3
MAX_LEVEL = 2.0**64  # far beyond [0, 1], within which a network's images lie but for ringing
_LOSSLESS = "store it with a lossless codec such as zarr.codecs.BloscCodec instead"


class Axes(NamedTuple):
    """Where the axes of a chunk are, counted from the front."""

    leading: tuple[int, ...]
    height: int
    width: int
    channel: int

    @classmethod
    def of(cls, ndim: int, channel_axis: int | None) -> "Axes":
        """The axes of an ndim-dimensional chunk.

        The two spatial axes are the last two that are not the channel axis; whatever leads is a batch of images.
        Raises ParameterError when there are too few or too many axes.
        """
        if channel_axis is None:
            raise ParameterError(
                "channel_axis is None (a plane without channels) but the network takes RGB: "
                "chunks need an axis of 3 channels; stack the plane three times, or " + _LOSSLESS
            )
        if not 3 <= ndim <= MAX_DIMENSIONS:
            raise ParameterError(
                f"chunk has {ndim} axes but needs 3 to {MAX_DIMENSIONS}: two spatial axes, "
                f"channels (channel_axis={channel_axis}), and any leading ones"
            )
        if not -ndim <= channel_axis < ndim:
            raise ParameterError(f"channel_axis is {channel_axis} but a chunk of {ndim} axes has -{ndim} to {ndim - 1}")
        channel = channel_axis % ndim
        *leading, height, width = (axis for axis in range(ndim) if axis != channel)
        return cls(tuple(leading), height, width, channel)

    def order(self) -> tuple[int, ...]:
        """The permutation that brings a chunk to (leading..., height, width, channel)."""
        return (*self.leading, self.height, self.width, self.channel)


def check(shape: tuple[int, ...], dtype: np.dtype[np.generic], channel_axis: int | None) -> Axes:
    """The axes of a chunk of this shape and dtype, or a ParameterError that says why it cannot be encoded."""
    if dtype != np.uint8:
        raise ParameterError(f"chunk dtype is {dtype} but must be uint8; " + _LOSSLESS)
    axes = Axes.of(len(shape), channel_axis)
    if shape[axes.channel] != CHANNELS:
        raise ParameterError(
            f"chunk has {shape[axes.channel]} channels along axis {channel_axis} (shape {shape}) but the network takes "
            f"{CHANNELS}; choose channel_axis and chunks so that all {CHANNELS} channels lie in one chunk, or " + _LOSSLESS
        )
    size = int(np.prod(shape, dtype=object))
    if not 0 < size <= MAX_SIZE:
        raise ParameterError(f"chunk of shape {shape} has {size} values but must have 1 to {MAX_SIZE}; use smaller chunks")
    return axes


def to_images(array: npt.NDArray[np.uint8], axes: Axes) -> npt.NDArray[np.float32]:
    """A chunk as float32 images (n, 3, height, width) in [0, 1]."""
    last = array.transpose(axes.order())
    images = np.ascontiguousarray(last.reshape(-1, *last.shape[-3:]), dtype=np.float32)
    images /= np.float32(255)
    return images.transpose(0, 3, 1, 2)


def plausible(images: npt.NDArray[np.float32]) -> bool:
    """Whether images are numbers of which `to_array` makes pixels; those of forged symbols may overflow."""
    return bool(images.min() > -MAX_LEVEL and images.max() < MAX_LEVEL)  # False for NaN as well


def to_array(images: npt.NDArray[np.float32], shape: tuple[int, ...], axes: Axes) -> npt.NDArray[np.uint8]:
    """Images (n, 3, height, width) in [0, 1] as a C-contiguous uint8 chunk of this shape, rounded to nearest."""
    last = images.transpose(0, 2, 3, 1) * np.float32(255)
    np.rint(last, out=last)
    np.clip(last, 0, 255, out=last)
    order = axes.order()
    chunk = np.empty(shape, np.uint8)
    view = chunk.transpose(order)
    view[...] = last.reshape(view.shape)
    return chunk


def constant(array: npt.NDArray[np.uint8], axes: Axes) -> npt.NDArray[np.uint8] | None:
    """The (3,) colour of a chunk whose pixels are all equal, else None."""
    last = array.transpose(axes.order())
    colour = last[(0,) * (last.ndim - 1)]
    if not (last[(0,) * len(axes.leading)][0] == colour).all():  # the first row: cheap, and settles most chunks
        return None
    return colour.copy() if (last == colour).all() else None


def fill(colour: npt.NDArray[np.uint8], shape: tuple[int, ...], axes: Axes) -> npt.NDArray[np.uint8]:
    """The chunk of this shape whose every pixel is the (3,) colour."""
    chunk = np.empty(shape, np.uint8)
    chunk.transpose(axes.order())[...] = colour
    return chunk
