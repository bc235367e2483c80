"""Basic selections of arrays, and the pieces of chunks that they consist of."""

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import ParameterError


class AxisSelection(NamedTuple):
    """The selection on one axis: `size` positions from `start` on, `step` apart. An integer drops the axis: `keep` is False."""

    start: int
    step: int
    size: int
    keep: bool

    def pieces(self, chunk: int) -> Iterator[tuple[int, slice, slice]]:
        """For each chunk that the selection touches: its number, the slice of the chunk, and the slice of the result."""
        done = 0
        while done < self.size:
            number, inside = divmod(self.start + done * self.step, chunk)
            taken = min(self.size - done, -(-(chunk - inside) // self.step))
            yield number, slice(inside, inside + (taken - 1) * self.step + 1, self.step), slice(done, done + taken)
            done += taken


def parse_selection(selection: Any, shape: tuple[int, ...]) -> list[AxisSelection]:
    """The selection on each axis of an array of this shape; ParameterError unless it is a basic selection."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    gaps = [i for i, part in enumerate(parts) if part is ...]
    if len(gaps) > 1 or len(parts) - len(gaps) > len(shape):
        raise ParameterError(
            f"selection is {selection!r}, which has more axes than the array's {len(shape)}, or several ellipses; "
            "leave out the surplus"
        )
    at = gaps[0] if gaps else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + len(gaps))
    return [_axis(part, axis, size) for axis, (part, size) in enumerate(zip(parts, shape, strict=True))]


def _axis(part: Any, axis: int, size: int) -> AxisSelection:
    wrong = ParameterError(
        f"selection has {part!r} on axis {axis} but must have integers, slices and an ellipsis; select from the result instead"
    )
    if isinstance(part, slice):
        try:
            start, stop, step = part.indices(size)
        except (TypeError, ValueError):  # for bounds that are not integers, or a step of 0
            raise wrong from None
        if step < 0:
            raise ParameterError(f"selection has step {step} on axis {axis} but steps must be above 0; flip the result instead")
        return AxisSelection(start, step, len(range(start, stop, step)), keep=True)
    if isinstance(part, bool | np.bool_) or np.ndim(part):
        raise wrong
    try:
        index = operator.index(part)
    except TypeError:
        raise wrong from None
    if not -size <= index < size:
        raise ParameterError(
            f"selection has {index} on axis {axis} but the array has {size} positions there; use -{size} to {size - 1}"
        )
    return AxisSelection(index % size, 1, 1, keep=False)
