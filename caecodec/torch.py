"""Reads parts of a stored array as PyTorch tensors, decoded on the device where they are used.

Only coded bytes are copied to a GPU. Batches of chunks are decoded and assembled there, so their pixels never leave it.
"""

import itertools
import math
import operator
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr

from .arrays import payloads
from .codecs.decoding import start_decode
from .engine import DevicePlacement
from .errors import ParameterError

GROUP = 512  # chunks whose coded bytes are in memory at once, while as many more are fetched
THREADS = 16  # that decode chunks if no device decodes them in batches


class _Axis(NamedTuple):
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
        The device that decodes and holds the tensor: "cpu", "cuda" or "cuda:N"; None: that of `caecodec.settings`.
    dtype
        The dtype of the tensor; None: that of the array.

    Raises
    ------
    ParameterError
        The array has other codecs, the selection is of another kind or outside the array, or there is no such device.
    CorruptionError, FormatVersionError, WeightsError
        As `caecodec.decode`.
    """
    dependencies = payloads.coded_by(array)[1].dependencies
    axes = _parse(selection, array.shape)
    place = DevicePlacement.choose(None if device is None else str(device))
    on_cpu = place.device == "cpu"
    shape = [axis.size for axis in axes]
    # On the CPU, PyTorch's threads would hang in a process that forks later, so numpy or a thread that ends does the work.
    native = array.dtype.newbyteorder("=")
    out: Any = np.empty(shape, native) if on_cpu else torch.empty(shape, dtype=_dtype(array), device=place.device)
    pieces = [list(axis.pieces(chunk)) for axis, chunk in zip(axes, array.chunks, strict=True)]
    groups = _grouped(itertools.product(*pieces))
    fill = 0 if array.fill_value is None else np.asarray(array.fill_value).item()

    def fetch(group: list[Any]) -> list[bytes | None]:
        return payloads.fetch(array, [tuple(number for number, _, _ in piece) for piece in group])

    def coded() -> Iterator[tuple[Any, bytes | None]]:
        """The coded bytes of each piece's chunk. While the chunks of one group are taken, the next group is fetched."""
        group = next(groups, None)
        coming = group and fetcher.submit(fetch, group)
        while group and coming:
            fetched, following = coming.result(), next(groups, None)
            coming = following and fetcher.submit(fetch, following)
            yield from zip(group, fetched, strict=True)
            group = following

    def start(data: bytes | None) -> Callable[[], Any]:
        """Begin to decode a chunk, and return a function that waits for its values."""
        if data is None:
            return lambda: fill
        decoding = start_decode(data, dependencies, place.device, array.chunks, array.dtype, keep=not on_cpu)
        if decoding.pending.begun:
            return partial(decoding.tensor, copy=False)
        return pool.submit(decoding.tensor if decoding.kept else decoding.result, copy=False).result

    def put(piece: Any, values: Any) -> None:
        if np.ndim(values):
            values = values[tuple(taken for _, taken, _ in piece)]
        moved = isinstance(values, np.ndarray) and not on_cpu
        out[tuple(target for _, _, target in piece)] = torch.from_numpy(values) if moved else values

    def take() -> None:
        piece, wait = started.popleft()
        put(piece, wait())

    most = max(THREADS, place.current_settings().memory // (math.prod(array.chunks) * array.dtype.itemsize))  # decoded at once
    started: deque[tuple[Any, Callable[[], Any]]] = deque()
    with ThreadPoolExecutor(1) as fetcher, ThreadPoolExecutor(THREADS) as pool:
        try:
            for piece, data in coded():
                if len(started) >= most:
                    take()
                started.append((piece, start(data)))
            while started:
                take()
            tensor = torch.from_numpy(out) if on_cpu else out
            tensor = tensor[tuple(slice(None) if axis.keep else 0 for axis in axes)]
            return pool.submit(tensor.to, dtype).result() if dtype and on_cpu else tensor.to(dtype or tensor.dtype)
        except BaseException:  # after an error or an interrupt, nobody needs the other chunks
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _dtype(array: zarr.Array[Any]) -> torch.dtype:
    """The dtype of a tensor that holds the values of an array."""
    return torch.from_numpy(np.empty(0, array.dtype.newbyteorder("="))).dtype


def _grouped(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Items in lists of at most GROUP."""
    while group := list(itertools.islice(items, GROUP)):
        yield group


def _parse(selection: Any, shape: tuple[int, ...]) -> list[_Axis]:
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


def _axis(part: Any, axis: int, size: int) -> _Axis:
    wrong = ParameterError(
        f"selection has {part!r} on axis {axis} but must have integers, slices and an ellipsis; select from the tensor instead"
    )
    if isinstance(part, slice):
        try:
            start, stop, step = part.indices(size)
        except (TypeError, ValueError):  # for bounds that are not integers, or a step of 0
            raise wrong from None
        if step < 0:
            raise ParameterError(f"selection has step {step} on axis {axis} but steps must be above 0; flip the tensor instead")
        return _Axis(start, step, len(range(start, stop, step)), keep=True)
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
    return _Axis(index % size, 1, 1, keep=False)
