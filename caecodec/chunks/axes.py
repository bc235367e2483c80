"""The axes of a chunk, and the check of which chunks can be encoded."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bitstream.prefix import DTYPES, MAX_DIMENSIONS, MAX_SIZE
from ..errors import ParameterError

MANY_CHANNELS = 16  # more channels than that must not outnumber the pixels of a side
_LOSSLESS = "store it with a lossless codec such as zarr.codecs.BloscCodec instead"


class Axes(NamedTuple):
    """The positions of a chunk's axes, counted from the front; `channel` is None if the chunk has no such axis."""

    leading: tuple[int, ...]
    height: int
    width: int
    channel: int | None

    @classmethod
    def of(cls, ndim: int, channel_axis: int | None) -> "Axes":
        """The axes of an ndim-dimensional chunk.

        The two spatial axes are the last two that are not the channel axis; all axes before them make a batch of images.
        Raises ParameterError if there are too few or too many axes.
        """
        least = 2 if channel_axis is None else 3
        if not least <= ndim <= MAX_DIMENSIONS:
            flat = "; if a filter flattened it, leave the filter out, or use Zarr v3, where chunks get their shape back"
            raise ParameterError(
                f"chunk has {ndim} axes but needs {least} to {MAX_DIMENSIONS}: two spatial axes, "
                f"channels (channel_axis={channel_axis}), and any leading ones; pass channel_axis=None if there are no channels"
                + (flat if ndim == 1 else "")
            )
        if channel_axis is None:
            return cls(tuple(range(ndim - 2)), ndim - 2, ndim - 1, None)
        if not -ndim <= channel_axis < ndim:
            raise ParameterError(f"channel_axis is {channel_axis} but a chunk of {ndim} axes has -{ndim} to {ndim - 1}")
        channel = channel_axis % ndim
        *leading, height, width = (axis for axis in range(ndim) if axis != channel)
        return cls(tuple(leading), height, width, channel)

    def channels(self, shape: tuple[int, ...]) -> int:
        """The number of channels of a chunk of this shape."""
        return 1 if self.channel is None else shape[self.channel]

    def region(self, rows: slice, columns: slice) -> tuple[slice, ...]:
        """The index that selects these rows and columns of a chunk."""
        spatial = {self.height: rows, self.width: columns}
        return tuple(spatial.get(axis, slice(None)) for axis in range(len(self.leading) + 2 + (self.channel is not None)))

    def images(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The chunk as images (n, height, width, channels); a view if its memory layout allows one."""
        if self.channel is None:
            return array.reshape(-1, *array.shape[-2:], 1)
        last = array.transpose((*self.leading, self.height, self.width, self.channel))
        return last.reshape(-1, *last.shape[-3:])

    def chunk(self, images: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The images (n, height, width, channels) as a C-contiguous chunk of this shape."""
        if self.channel is None:
            return np.ascontiguousarray(images.reshape(shape))
        chunk = np.empty(shape, images.dtype)
        view = chunk.transpose((*self.leading, self.height, self.width, self.channel))
        view[...] = images.reshape(view.shape)
        return chunk


def check_chunk(shape: tuple[int, ...], dtype: np.dtype[Any], channel_axis: int | None) -> Axes:
    """The axes of a chunk of this shape and dtype; ParameterError if such a chunk cannot be encoded."""
    if not dtype.isnative or dtype.name not in DTYPES.values():
        what = "bool (labels and masks)" if dtype.kind == "b" else dtype.name if dtype.isnative else dtype.str
        raise ParameterError(
            f"chunk dtype is {what} but must be {', '.join(DTYPES.values())} in this machine's byte order; convert it "
            "(astype) if that loses nothing you need, or " + _LOSSLESS
        )
    axes = Axes.of(len(shape), channel_axis)
    channels = axes.channels(shape)
    if channels > max(MANY_CHANNELS, min(shape[axes.height], shape[axes.width])):
        raise ParameterError(
            f"chunk of shape {shape} has {channels} channels along axis {channel_axis}, more than pixels a side; pass the "
            "axis that holds channels (channel_axis=None if there is none), or use chunks of fewer channels"
        )
    size = int(np.prod(shape, dtype=object))
    if not 0 < size <= MAX_SIZE:
        raise ParameterError(f"chunk of shape {shape} has {size} values but must have 1 to {MAX_SIZE}; use smaller chunks")
    return axes


def check_finite(array: npt.NDArray[Any]) -> None:
    """Raise ParameterError if a chunk of floats has values that are not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise ParameterError(
            f"chunk has {count} values that are NaN or infinite, which a lossy codec cannot preserve; replace them "
            "(numpy.nan_to_num), or " + _LOSSLESS
        )
