"""Parts of a stored array as PyTorch tensors, decoded on the device that they are wanted on.

On a GPU the pixels never leave it: the coded bytes go in, and batches of chunks are decoded and put together there.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr

from . import payloads
from .decoding import Decoding, start_decode
from .engine import Place
from .errors import ParameterError
from .overfitted.parameters import OverfittedParameters
from .weights import DEFAULT, Spec

GROUP = 512  # chunks whose bytes are in memory at once, while as many more are fetched
THREADS = 16  # decode chunks side by side where no device takes them in batches


class _Axis(NamedTuple):
    """What is selected of an axis: `size` places from `start` on, `step` apart; of an int, the axis itself goes."""

    start: int
    step: int
    size: int
    keep: bool

    def pieces(self, chunk: int) -> Iterator[tuple[int, slice, slice]]:
        """For each chunk that is touched: its number, what is taken of it, and where in the selection that is."""
        done = 0
        while done < self.size:
            number, inside = divmod(self.start + done * self.step, chunk)
            taken = min(self.size - done, -(-(chunk - inside) // self.step))
            yield number, slice(inside, inside + (taken - 1) * self.step + 1, self.step), slice(done, done + taken)
            done += taken


def read(
    array: zarr.Array[Any],
    selection: Any = ...,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`array[selection]` as a tensor.

    Parameters
    ----------
    array
        A Zarr array that caecodec codes, of either format, sharded or not.
    selection
        Integers, slices with steps above 0, and an ellipsis, as in ``array[0, 100:200, ...]``.
    device
        Where it is decoded, and where the tensor is: "cpu", "cuda" or "cuda:N"; None: as `caecodec.settings` says.
    dtype
        Of the tensor; None: that of the array.

    Raises
    ------
    ParameterError
        Another codec has a part in the array, the selection is of another kind or beyond the array, or there is no such device.
    CorruptionError, FormatVersionError, WeightsError
        As `caecodec.decode`.
    """
    parameters = payloads.parameters(array)
    if isinstance(parameters, OverfittedParameters):
        spec, section = Spec(DEFAULT), parameters.section
    else:
        spec, section = parameters.weights, None
    axes = _parse(selection, array.shape)
    where = Place.choose(None if device is None else str(device)).device
    shape = [axis.size for axis in axes]
    # In numpy on the CPU, because PyTorch's threads would hang in a process that forks later.
    out: Any = np.empty(shape, array.dtype) if where == "cpu" else torch.empty(shape, dtype=_dtype(array), device=where)
    pieces = [list(axis.pieces(chunk)) for axis, chunk in zip(axes, array.chunks, strict=True)]
    groups = _grouped(itertools.product(*pieces))
    fill = 0 if array.fill_value is None else np.asarray(array.fill_value).item()

    def fetch(group: list[Any]) -> list[bytes | None]:
        return payloads.fetch(array, [tuple(number for number, _, _ in piece) for piece in group])

    def start(data: bytes | None) -> Decoding | None:
        return (
            None if data is None else start_decode(data, spec, where, array.chunks, array.dtype, section, keep=where != "cpu")
        )

    with ThreadPoolExecutor(1) as fetcher, ThreadPoolExecutor(THREADS) as pool:
        group = next(groups, None)
        coming = group and fetcher.submit(fetch, group)
        while group and coming:
            fetched, following = coming.result(), next(groups, None)
            coming = following and fetcher.submit(fetch, following)
            decodings = [start(data) for data in fetched]
            arrays = {i: pool.submit(each.result, copy=False) for i, each in enumerate(decodings) if each and not each.kept}
            for i, (piece, decoding) in enumerate(zip(group, decodings, strict=True)):
                target = tuple(place for _, _, place in piece)
                taken = tuple(taken for _, taken, _ in piece)
                if decoding is None:
                    out[target] = fill
                elif decoding.kept:
                    out[target] = decoding.tensor(copy=False)[taken]
                else:
                    values = arrays.pop(i).result()[taken]
                    out[target] = values if where == "cpu" else torch.from_numpy(values)
            group = following
    tensor = out if isinstance(out, torch.Tensor) else torch.from_numpy(out)
    return tensor[tuple(slice(None) if axis.keep else 0 for axis in axes)].to(dtype or tensor.dtype)


def _dtype(array: zarr.Array[Any]) -> torch.dtype:
    """That of tensors with the values of an array."""
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


def _grouped(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Items in lists of at most GROUP."""
    while group := list(itertools.islice(items, GROUP)):
        yield group


def _parse(selection: Any, shape: tuple[int, ...]) -> list[_Axis]:
    """What is selected of each axis of an array of this shape; ParameterError unless that is a basic selection."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    gaps = [i for i, part in enumerate(parts) if part is ...]
    if len(gaps) > 1 or len(parts) - len(gaps) > len(shape):
        raise ParameterError(f"selection is {selection!r}, which is for more axes than the array's {len(shape)}")
    at = gaps[0] if gaps else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + len(gaps))
    return [_axis(part, axis, size) for axis, (part, size) in enumerate(zip(parts, shape, strict=True))]


def _axis(part: Any, axis: int, size: int) -> _Axis:
    if isinstance(part, slice):
        start, stop, step = part.indices(size)
        if step < 0:
            raise ParameterError(
                f"selection has step {step} on axis {axis} but must have steps above 0; flip the tensor instead"
            )
        return _Axis(start, step, len(range(start, stop, step)), keep=True)
    if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__"):
        raise ParameterError(
            f"selection has {part!r} on axis {axis} but must be of integers, slices and an ellipsis; "
            "select from the tensor instead"
        )
    if not -size <= part < size:
        raise ParameterError(f"selection has {part} on axis {axis} but the array has {size} there, so -{size} to {size - 1}")
    return _Axis(int(part) % size, 1, 1, keep=False)
