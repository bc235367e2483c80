"""Arrays read by windows -> the same with other axes, or without alpha; nothing is held in memory but the window."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError
from .image import Windows


def chunks_of(source: Windows) -> tuple[int, ...] | None:
    """The shape of the chunks in which values are stored; None if they are not, or if the chunks differ in shape."""
    try:
        return getattr(source, "chunks", None)
    except NotImplementedError:  # zarr raises it where chunks differ in shape
        return None


class Rearranged:
    """A view with the axes of another array in another order; those that are left out have one position.

    Parameters
    ----------
    source
        The other array.
    order
        For each axis of the view, its number in `source`.
    """

    def __init__(self, source: Windows, order: Sequence[int]) -> None:
        self._source, self._order = source, tuple(order)
        self._left_out = tuple(i for i in range(len(source.shape)) if i not in self._order)
        self.shape = tuple(source.shape[i] for i in self._order)
        self.dtype: np.dtype[Any] = source.dtype
        if chunks := chunks_of(source):
            self.chunks = tuple(chunks[i] for i in self._order)

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        parts = [slice(0, 1)] * len(self._source.shape)
        for axis, part in zip(self._order, region, strict=True):
            parts[axis] = part
        values = np.asarray(self._source[tuple(parts)]).transpose(*self._order, *self._left_out)
        return values.reshape(values.shape[: len(self._order)])


class Opaque:
    """The channels of an array but the last, which is alpha and must not let anything through.

    Parameters
    ----------
    source
        The array.
    channel
        The axis of its channels.
    name
        What it is called if it is not opaque; reading then raises ParameterError.
    """

    def __init__(self, source: Windows, channel: int, name: object) -> None:
        self._source, self._channel, self._name = source, channel, name
        self._count = source.shape[channel] - 1
        self.shape = (*source.shape[:channel], self._count, *source.shape[channel + 1 :])
        self.dtype: np.dtype[Any] = source.dtype
        if chunks := chunks_of(source):
            self.chunks = chunks

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        before, after = region[: self._channel], region[self._channel + 1 :]
        values = np.asarray(self._source[(*before, slice(None), *after)])
        opaque = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        if (values.take(-1, axis=self._channel) != opaque).any():
            raise ParameterError(
                f"{self._name} has transparency (a channel marked as alpha), which RGB cannot hold; remove it, or, if it is an "
                "ordinary channel, save the file with photometric interpretation 'black is zero'"
            )
        channels = slice(*region[self._channel].indices(self._count))
        return values[(*[slice(None)] * self._channel, channels)]
