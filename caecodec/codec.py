"""The whole line: array -> images -> symbols -> streams -> payload, and back. The only file that sees all of it."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import pixels, tiling
from .bitstream import container
from .bitstream.header import CODING_CONSTANT, CODING_CONTEXT, CODING_STATIC, Header
from .engine import Direction, Model, Place, engine
from .entropy import context, static
from .entropy.streams import Coded
from .errors import CorruptionError, ParameterError
from .models.factorized import HALO, STRIDE
from .parameters import Parameters
from .settings import current
from .weights import DEFAULT, Source, Spec

_CODERS: dict[int, Any] = {CODING_STATIC: static, CODING_CONTEXT: context}  # modules, by wire id
CPU_BATCH_PIXELS = 2**18  # four images of 256 x 256; larger batches only wait for fresh memory


def encode(
    array: npt.NDArray[np.uint8],
    quality: int = 8,
    metric: str = "mse",
    channel_axis: int | None = -1,
    weights: str | Path | Spec = DEFAULT,
    gpu: bool | None = None,
    entropy: str | None = None,
) -> bytes:
    """Compress an image array into one self-contained payload.

    Parameters
    ----------
    array
        uint8, with an axis of 3 channels (RGB), two spatial axes of any size, and any leading axes.
    quality
        1 (smallest) to 8 (best).
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        -1 for y, x, c; -3 for c, y, x.
    weights
        An installed name, the path of a .safetensors file or of a CompressAI checkpoint, or "compressai".
    gpu
        True: CUDA where present; False: CPU; None: as `caecodec.settings` says.
    entropy
        The entropy model: "context", "static" (more bytes, the same pixels), or None: context where the weights have it.

    Raises
    ------
    ParameterError
        The array's shape or dtype, or an argument, is not one the codec takes.
    WeightsError
        There are no such weights, or they have no context tables and entropy asks for them.
    """
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"array is a {type(array).__name__} but must be a numpy array; pass np.asarray(array)")
    return encode_with(Parameters.parse(quality, metric, channel_axis, weights, entropy), array, gpu)


def encode_with(parameters: Parameters, array: npt.NDArray[Any], gpu: bool | None = None) -> bytes:
    """`encode` with parameters that are parsed already."""
    axes = pixels.check(array.shape, array.dtype, parameters.channel_axis)
    source = parameters.source()

    def header(coding: int) -> Header:
        """The header of a body in this coding."""
        return Header(
            quality=parameters.quality,
            metric=parameters.metric,
            coding=coding,
            digest=source.digest,
            shape=array.shape,
            channel_axis=axes.channel,
            fortran=array.flags.f_contiguous and not array.flags.c_contiguous,
            family=source.family,
        )

    colour = pixels.constant(array, axes)
    if colour is not None:
        return container.pack(container.Payload(header(CODING_CONSTANT), colour=colour.tobytes()))
    network = engine().load(source, parameters.quality)
    coding = network.coding(parameters.entropy)
    symbols = analyse(array, axes, source, parameters.quality, gpu)
    coded: Coded = _CODERS[coding].encode(symbols, network.entropy_tables(coding))
    return container.pack(container.Payload(header(coding), coded.streams, coded.escapes))


def decode(
    data: bytes | bytearray | memoryview,
    weights: str | Path | Spec = DEFAULT,
    gpu: bool | None = None,
    expected_shape: tuple[int, ...] | None = None,
) -> npt.NDArray[np.uint8]:
    """The array in a payload, uint8 and of the shape that was encoded.

    Parameters
    ----------
    data
        What `encode` returned.
    weights
        Where to look, besides the installed ones, for the weights that the payload names by digest: a path or "compressai".
    gpu
        As in `encode`.
    expected_shape
        Refuse a payload of another shape, before anything is allocated for it.

    Raises
    ------
    CorruptionError
        The payload is damaged, cut short, or not of the expected shape.
    FormatVersionError
        A newer caecodec wrote it.
    WeightsError
        The weights it was written with are not here.
    """
    payload = container.parse(data)
    header = payload.header
    if expected_shape is not None and header.shape != tuple(expected_shape):
        raise CorruptionError(
            f"payload holds a chunk of shape {header.shape} but {tuple(expected_shape)} is expected here: "
            "it belongs to another array, or the array's metadata was changed"
        )
    axes = pixels.Axes.of(len(header.shape), header.channel_axis)
    if header.shape[axes.channel] != pixels.CHANNELS:
        raise CorruptionError(
            f"payload holds a chunk of shape {header.shape} without {pixels.CHANNELS} channels: it is damaged"
        )
    if header.coding == CODING_CONSTANT:
        array = pixels.fill(np.frombuffer(payload.colour, np.uint8), header.shape, axes)
    else:
        array = _pixels(payload, axes, Spec.parse(weights), gpu)
    return np.asfortranarray(array) if header.fortran else array


def analyse(
    array: npt.NDArray[np.uint8], axes: pixels.Axes, source: Source, quality: int, gpu: bool | None
) -> npt.NDArray[np.int32]:
    """Symbols (n, M, rows, columns) of a chunk."""
    images = tiling.pad(pixels.to_images(array, axes), STRIDE)
    return _transform(Model(source, quality, Place.choose(gpu)), "analysis", images, STRIDE, 1)


def _pixels(payload: container.Payload, axes: pixels.Axes, spec: Spec, gpu: bool | None) -> npt.NDArray[np.uint8]:
    """The chunk whose symbols a payload holds."""
    header = payload.header
    source = engine().source(header.digest, spec, header.metric, header.quality)
    network = engine().load(source, header.quality)
    height, width = header.shape[axes.height], header.shape[axes.width]
    rows, columns = tiling.latent_size(height, width, STRIDE)
    count = prod(header.shape[axis] for axis in axes.leading)
    shape, tables = (count, network.latent, rows, columns), network.entropy_tables(header.coding)
    symbols = _CODERS[header.coding].decode(Coded(payload.streams, payload.escapes), tables, shape)
    images = _transform(Model(source, header.quality, Place.choose(gpu)), "synthesis", symbols, 1, STRIDE)
    if not pixels.plausible(images):
        raise CorruptionError("payload holds symbols that decode to no pixels: it is damaged, or of other weights")
    return pixels.to_array(images[:, :, :height, :width], header.shape, axes)


def _transform(model: Model, direction: Direction, batch: npt.NDArray[Any], scale_in: int, scale_out: int) -> npt.NDArray[Any]:
    """Run the network over a batch of any size, in tiles and few images at once where memory asks for it."""
    now = current()
    # One pass holds about three arrays of the widest layer, which has hidden float32 channels at half the resolution.
    pixels_at_once = now.memory // (3 * engine().load(model.source, model.quality).hidden)

    def run(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        size = part.shape[2] * part.shape[3] * (STRIDE // scale_in) ** 2
        most = min(pixels_at_once, CPU_BATCH_PIXELS) if model.place.device == "cpu" else pixels_at_once
        limit = max(1, min(now.max_batch, most // size))
        return engine().run(model, direction, part, limit)

    return tiling.apply(run, batch, scale_in, scale_out, tiling.tile_positions(pixels_at_once, STRIDE, HALO), HALO)
