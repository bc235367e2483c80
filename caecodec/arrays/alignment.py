"""Finds writes to parts of chunks, which decode the chunks and encode them again, at a further loss with a lossy codec."""

import math
import operator
from typing import Any, NamedTuple, Protocol

from ..errors import ParameterError


class Chunked(Protocol):
    """An array that is stored in chunks of one shape. For a sharded array, `chunks` is the shape of the inner chunks."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis."""


class _Span(NamedTuple):
    """A selection along one axis: how many chunks it touches, how many it covers, and the range of whole chunks around it."""

    touched: int
    whole: int
    around: slice


def check_aligned(array: Chunked, selection: Any) -> None:
    """Raise an error unless ``array[selection] = values`` writes whole chunks only.

    A chunk of which only a part is written is decoded, changed and encoded again: its other pixels lose quality once more.
    A chunk at a far edge of the array is whole if the selection reaches that edge. In a sharded array the chunks count, not the
    shards.

    Parameters
    ----------
    array
        A zarr array, of either format, or anything else with `shape` and `chunks`.
    selection
        What stands between the brackets: integers, slices and an ellipsis.

    Raises
    ------
    ParameterError
        Some chunks are written in part (the message says how many, and which selection covers them whole), or the selection is
        of another kind.
    """
    try:
        chunks = array.chunks
    except NotImplementedError as error:  # zarr raises it where chunks differ in shape
        raise ParameterError("array has chunks of several shapes, but must have chunks of one to be checked") from error
    parts = _expand(array.shape, selection)
    spans = [_span(*axis) for axis in zip(parts, array.shape, chunks, strict=True)]
    touched, whole = math.prod(span.touched for span in spans), math.prod(span.whole for span in spans)
    if touched != whole:
        around = ", ".join(f"{span.around.start}:{span.around.stop}" for span in spans)
        raise ParameterError(
            f"selection writes only a part of {touched - whole} of the {touched} chunks (of shape {chunks}) it touches: "
            f"their other pixels would be decoded and encoded again, at a further loss; write whole chunks, such as [{around}]"
        )


def _expand(shape: tuple[int, ...], selection: Any) -> list[Any]:
    """An integer or a slice for each axis."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    if sum(part is ... for part in parts) > 1 or sum(part is not ... for part in parts) > len(shape):
        raise ParameterError(f"selection is {selection!r}, which does not fit an array of shape {shape}")
    missing = len(shape) - sum(part is not ... for part in parts)
    at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    return [*parts[:at], *[slice(None)] * missing, *parts[at + 1 :]]


def _span(part: Any, length: int, chunk: int) -> _Span:
    """The selection `part` along an axis of this length and chunk length."""
    try:
        start, stop, step = part.indices(length) if isinstance(part, slice) else _one(operator.index(part), length)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"selection has {part!r} but must have integers, slices and an ellipsis ({error})") from error
    if step < 1:
        raise ParameterError(f"selection has {part!r} but a slice's step must be at least 1")
    indices = range(start, stop, step)
    if not indices:
        return _Span(0, 0, slice(0, 0))
    first, last = indices[0] // chunk, indices[-1] // chunk
    around = slice(first * chunk, min((last + 1) * chunk, length))
    if step > 1 and len(indices) > 1:
        whole = len(indices) if chunk == 1 else 0
        return _Span(len(indices) if step >= chunk else last - first + 1, whole, around)
    end = indices[-1] + 1
    whole = -(-end // chunk) if end == length else end // chunk
    return _Span(last - first + 1, max(0, whole - -(-start // chunk)), around)


def _one(index: int, length: int) -> tuple[int, int, int]:
    """The slice of one position."""
    if not -length <= index < length:
        raise ValueError(f"index {index} is outside an axis of length {length}")
    return index % length, index % length + 1, 1
