"""Chunks that a CUDA device codes whole: begun at once, and waited for where their bytes or values are needed.

Zarr asks for many chunks at a time, and the device takes what has been begun as one batch.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...bitstream import autoencoder
from ...bitstream.autoencoder import AutoencoderHeader, AutoencoderPayload
from ...bitstream.codings import Body
from ...chunks import planes, tiling
from ...chunks.axes import Axes, check_chunk
from ...chunks.device_planes import ChunkSpec
from ...chunks.planes import COLOURS, Layout
from ...engine import Gpu, Line, Model, Place, engine
from ...entropy.streams import Coded
from ...models.factorized.network import STRIDE
from ...weights import Source
from .parameters import Parameters


def decode(
    payload: AutoencoderPayload, axes: Axes, layout: Layout, source: Source, place: Place, keep: bool = False
) -> "Future[torch.Tensor | None] | None":
    """The chunk whose symbols a payload holds, as `Line.decode` gives it; None where no device takes it."""
    header = payload.header
    assert header.entropy is not None
    spec = ChunkSpec(header.shape, header.dtype, axes, layout)
    line, model, shape = _find(spec, source, header.quality, place)
    if line is None:
        return None
    return line.decode(model, header.entropy, Coded(payload.streams, payload.escapes), shape, spec, keep)


def encode(
    chunk: npt.NDArray[Any] | torch.Tensor, axes: Axes, layout: Layout, source: Source, quality: int, coding: str,
    place: Place,
) -> "Future[Coded] | None":  # fmt: skip
    """The coded symbols of a chunk, as `Line.encode` gives them; None where no device takes it."""
    dtype = chunk.dtype.name if isinstance(chunk, np.ndarray) else str(chunk.dtype).removeprefix("torch.")
    spec = ChunkSpec(tuple(chunk.shape), dtype, axes, layout)
    line, model, shape = _find(spec, source, quality, place)
    return None if line is None else line.encode(model, coding, chunk, shape, spec)


def _find(spec: ChunkSpec, source: Source, quality: int, place: Place) -> tuple[Line | None, Model, tuple[int, int, int, int]]:
    """What takes chunks such as this one, if any; the network, and the shape (m, M, rows, columns) of the symbols."""
    axes, shape, model = spec.axes, spec.shape, Model(source, quality, place)
    count = spec.layout.images(prod(shape[axis] for axis in axes.leading), spec.channels)
    size = tiling.latent_size(shape[axes.height], shape[axes.width], STRIDE)
    symbols = (count, engine().load(source, quality).latent, *size)
    line = engine().line(place)
    return line if line and line.takes(model, symbols) else None, model, symbols


@dataclass(frozen=True, eq=False)
class Encoding:
    """A chunk that a device is encoding, as the symbols of one quality."""

    header: AutoencoderHeader
    layout: Layout
    future: "Future[Coded]"

    def result(self) -> bytes:
        """What `codec.encode` returns; waits for it."""
        coded = self.future.result()
        return autoencoder.pack(AutoencoderPayload(self.header, coded.streams, coded.escapes, planes=self.layout.pack()))


def start_encode(parameters: Parameters, array: npt.NDArray[Any] | torch.Tensor, gpu: Gpu = None) -> Encoding | None:
    """Begin to encode an RGB chunk of uint8, at the quality asked for, on a device.

    None where `codec.encode_with` has to do it: for other chunks, those of one colour, other targets, or without such a device.
    """
    quality = parameters.quality
    if quality is None or parameters.max_error is not None:
        return None
    place, shape = Place.choose(gpu), tuple(array.shape)
    if engine().line(place) is None:
        return None
    dtype = np.dtype(str(array.dtype).removeprefix("torch."))
    axes = check_chunk(shape, dtype, parameters.channel_axis)
    if dtype != np.uint8 or axes.channels(shape) != COLOURS:
        return None
    if isinstance(array, torch.Tensor):
        corner = array[tuple(slice(None) if axis == axes.channel else slice(1) for axis in range(len(shape)))]
        constant = bool((array == corner).all())
    else:
        constant = planes.constant(array, axes) is not None
    if constant:
        return None
    layout, source = Layout(separate=False), parameters.sources()[quality]
    coding = engine().load(source, quality).coding(parameters.entropy)
    future = encode(array, axes, layout, source, quality, coding, place)
    if future is None:
        return None
    fortran = isinstance(array, np.ndarray) and array.flags.f_contiguous and not array.flags.c_contiguous
    header = AutoencoderHeader(
        quality, parameters.metric, Body.SYMBOLS, source.digest, shape, axes.channel, fortran, source.family, "uint8", coding
    )
    return Encoding(header, layout, future)


def from_cuda(array: Any) -> torch.Tensor:
    """A cupy array as a tensor of the same memory, in the order of this thread's streams."""
    tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor


def to_cuda(tensor: torch.Tensor) -> Any:
    """A tensor on the GPU as a cupy array of the same memory; one on the CPU as a copy."""
    import cupy  # here, because it is there only where somebody uses it

    return cupy.from_dlpack(tensor) if tensor.is_cuda else cupy.asarray(tensor.numpy())
