"""Chunks that a CUDA device codes whole: begun at once, and waited for where their bytes or values are needed.

Zarr asks for many chunks at a time, and the device takes what has been begun as one batch.
"""

from concurrent.futures import Future
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from . import pixels, tiling
from .bitstream import container
from .device_pixels import Picture
from .engine import Line, Model, Place, engine
from .entropy.streams import Coded
from .models.factorized import STRIDE
from .weights import Source


def decode(
    payload: container.Payload, axes: pixels.Axes, layout: pixels.Layout, source: Source, place: Place, keep: bool = False
) -> "Future[torch.Tensor | None] | None":
    """The chunk whose symbols a payload holds, as `Line.decode` gives it; None where no device takes it."""
    header = payload.header
    picture = Picture(header.shape, header.dtype, axes, layout)
    line, model, shape = _find(picture, source, header.quality, place)
    if line is None:
        return None
    return line.decode(model, header.coding, Coded(payload.streams, payload.escapes), shape, picture, keep)


def encode(
    chunk: npt.NDArray[Any] | torch.Tensor, axes: pixels.Axes, layout: pixels.Layout, source: Source, quality: int, coding: int,
    place: Place,
) -> "Future[Coded] | None":  # fmt: skip
    """The coded symbols of a chunk, as `Line.encode` gives them; None where no device takes it."""
    dtype = chunk.dtype.name if isinstance(chunk, np.ndarray) else str(chunk.dtype).removeprefix("torch.")
    picture = Picture(tuple(chunk.shape), dtype, axes, layout)
    line, model, shape = _find(picture, source, quality, place)
    return None if line is None else line.encode(model, coding, chunk, shape, picture)


def _find(picture: Picture, source: Source, quality: int, place: Place) -> tuple[Line | None, Model, tuple[int, int, int, int]]:
    """What takes chunks such as this one, if any; the network, and the shape (m, M, rows, columns) of the symbols."""
    axes, shape, model = picture.axes, picture.shape, Model(source, quality, place)
    count = picture.layout.images(prod(shape[axis] for axis in axes.leading), picture.channels)
    size = tiling.latent_size(shape[axes.height], shape[axes.width], STRIDE)
    symbols = (count, engine().load(source, quality).latent, *size)
    line = engine().line(place)
    return line if line and line.takes(model, symbols) else None, model, symbols


def from_cuda(array: Any) -> torch.Tensor:
    """A cupy array as a tensor of the same memory, in the order of this thread's streams."""
    tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor


def to_cuda(tensor: torch.Tensor) -> Any:
    """A tensor on the GPU as a cupy array of the same memory; one on the CPU as a copy."""
    import cupy  # here, because it is there only where somebody uses it

    return cupy.from_dlpack(tensor) if tensor.is_cuda else cupy.asarray(tensor.numpy())
