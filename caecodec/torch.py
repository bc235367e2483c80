"""Reads parts of a stored array, or its latents, as PyTorch tensors; pixels are decoded on the device where they are used.

Only coded bytes are copied to a GPU. Batches of chunks are decoded and assembled there, so their pixels never leave it.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from .arrays import payloads
from .arrays.opening import opened_array
from .arrays.selection import parse_selection
from .codecs.decoding import start_decode
from .engine import DevicePlacement
from .errors import ParameterError
from .latents import Latents, Region

THREADS = 16  # that decode chunks if no device decodes them in batches


def read(
    array: zarr.Array[Any] | str | Path,
    selection: Any = ...,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    layers: int | None = None,
) -> torch.Tensor:
    """`array[selection]` as a tensor.

    Parameters
    ----------
    array
        A Zarr array that caecodec codes, of either format, sharded or not; or its path or URL.
    selection
        Integers, slices with steps above 0, and an ellipsis, as in ``array[0, 100:200, ...]``.
    device
        The device that decodes and holds the tensor: "cpu", "cuda" or "cuda:N"; None: that of `caecodec.settings`.
    dtype
        The dtype of the tensor; None: that of the array.
    layers
        Fetch and decode only so many layers of an array of `ScalableAutoencoder`; None: as many as `caecodec.settings` say.

    Raises
    ------
    ParameterError
        There is no such array, it has other codecs, chunks of several shapes, or no layers although `layers` is given; the
        selection is of another kind or outside the array; or there is no such device.
    CorruptionError, FormatVersionError, WeightsError
        As `caecodec.decode`.
    """
    array = opened_array(array)
    codec, parameters = payloads.coded_by(array)
    first = codec.first_layers(layers)
    dependencies = parameters.dependencies._replace(layers=first)
    axes = parse_selection(selection, array.shape)
    place = DevicePlacement.choose(None if device is None else str(device))
    on_cpu = place.device == "cpu"
    shape = [axis.size for axis in axes]
    # On the CPU, PyTorch's threads would hang in a process that forks later, so numpy or a thread that ends does the work.
    native = array.dtype.newbyteorder("=")
    out: Any = np.empty(shape, native) if on_cpu else torch.empty(shape, dtype=_dtype(array), device=place.device)
    pieces = [list(axis.pieces(chunk)) for axis, chunk in zip(axes, array.chunks, strict=True)]
    fill = 0 if array.fill_value is None else np.asarray(array.fill_value).item()

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
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for piece, data in payloads.fetch_pieces(
                array, itertools.product(*pieces), lambda piece: [n for n, _, _ in piece], first
            ):
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


class LatentDataset(torch.utils.data.Dataset[Any]):
    """The latents of an array in windows beside each other, for a DataLoader, with any number of workers.

    An item is a tensor (*leading, M, rows, columns), float32, or with `label` a pair of it and a label. All items have one
    shape: beyond the edges of the array they are 0.

    Parameters
    ----------
    latents
        From `caecodec.open_latents`.
    window
        Rows and columns of latent positions in an item; None: those of a chunk. On axes before M, an item has as much as a
        chunk.
    label
        Takes the region of the array, as slices in pixels, and returns what the DataLoader collates. With workers that are
        spawned it must be picklable.

    Raises ParameterError for what are no latents, and for a window that is not of whole rows and columns.
    """

    def __init__(
        self, latents: Latents, window: tuple[int, int] | None = None, label: Callable[[Region], Any] | None = None
    ) -> None:
        if not isinstance(latents, Latents):
            raise ParameterError(f"latents are {latents!r} but must be those of an array; pass caecodec.open_latents(array)")
        sides = np.asarray(latents.chunks[-2:] if window is None else window)
        if sides.shape != (2,) or sides.dtype.kind not in "iu" or sides.min() < 1:
            raise ParameterError(f"window is {window} but must be two numbers of latent positions, rows and columns, above 0")
        self.latents, self.label = latents, label
        self._size = (*latents.chunks[:-2], *map(int, sides))
        self._grid = [-(-whole // part) for whole, part in zip(latents.shape, self._size, strict=True)]

    def __len__(self) -> int:
        return math.prod(self._grid)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"index is {index} but there are {len(self)} items")
        place = np.unravel_index(index, self._grid)
        starts = [int(number) * part for number, part in zip(place, self._size, strict=True)]
        region = tuple(
            slice(start, min(start + part, whole))
            for start, part, whole in zip(starts, self._size, self.latents.shape, strict=True)
        )
        item = torch.zeros(self._size)
        found = self.latents[region]
        item[tuple(slice(n) for n in found.shape)] = torch.from_numpy(found)
        return item if self.label is None else (item, self.label(self.latents.pixels(region)))
