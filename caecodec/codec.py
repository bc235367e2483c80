"""The whole line: array -> images -> symbols -> streams -> payload, and back. The only file that sees all of it."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import pixels, tiling
from .bitstream import container
from .bitstream.header import CODING_CONSTANT, CODING_STATIC, Header
from .engine import Direction, Place, engine
from .entropy import static
from .errors import CorruptionError, ParameterError
from .models.factorized import FactorizedPrior
from .parameters import Parameters
from .settings import current
from .weights import DEFAULT, Source, Spec


def encode(
    array: npt.NDArray[np.uint8],
    quality: int = 8,
    metric: str = "mse",
    channel_axis: int | None = -1,
    weights: str | Path = DEFAULT,
    gpu: bool | None = None,
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

    Raises
    ------
    ParameterError
        The array's shape or dtype, or an argument, is not one the codec takes.
    WeightsError
        There are no such weights.
    """
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"array is a {type(array).__name__} but must be a numpy array; pass np.asarray(array)")
    return encode_with(Parameters.parse(quality, metric, channel_axis, weights), array, gpu)


def encode_with(parameters: Parameters, array: npt.NDArray[Any], gpu: bool | None = None) -> bytes:
    """`encode` with parameters that are parsed already."""
    axes = pixels.check(array.shape, array.dtype, parameters.channel_axis)
    source = parameters.source()

    def header(coding: int) -> Header:
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
    coded = static.encode(
        analyse(array, axes, source, parameters.quality, gpu), engine().tables(source, parameters.quality)
    )
    return container.pack(container.Payload(header(CODING_STATIC), coded.streams, coded.escapes))


def decode(
    data: bytes | bytearray | memoryview,
    weights: str | Path = DEFAULT,
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
        raise CorruptionError(f"payload holds a chunk of shape {header.shape} without {pixels.CHANNELS} channels: it is damaged")
    if header.coding == CODING_CONSTANT:
        array = pixels.fill(np.frombuffer(payload.colour, np.uint8), header.shape, axes)
    else:
        array = _pixels(payload, axes, Spec.parse(weights), gpu)
    return np.asfortranarray(array) if header.fortran else array


def analyse(
    array: npt.NDArray[np.uint8], axes: pixels.Axes, source: Source, quality: int, gpu: bool | None
) -> npt.NDArray[np.int32]:
    """Symbols (n, M, rows, columns) of a chunk."""
    place = Place.choose(gpu)
    network = engine().network(source, quality, place)
    images = tiling.pad(pixels.to_images(array, axes), network.stride)
    return _transform("analysis", network, place, images, network.stride, 1)


def _pixels(payload: container.Payload, axes: pixels.Axes, spec: Spec, gpu: bool | None) -> npt.NDArray[np.uint8]:
    """The chunk whose symbols a payload holds."""
    header = payload.header
    source = engine().source(header.digest, spec, header.metric, header.quality)
    tables = engine().tables(source, header.quality)
    place = Place.choose(gpu)
    network = engine().network(source, header.quality, place)
    height, width = header.shape[axes.height], header.shape[axes.width]
    rows, columns = tiling.latent_size(height, width, network.stride)
    count = prod(header.shape[axis] for axis in axes.leading)
    coded = static.Coded(payload.streams, payload.escapes)
    symbols = static.decode(coded, tables, (count, network.latent, rows, columns))
    images = _transform("synthesis", network, place, symbols, 1, network.stride)
    return pixels.to_array(images[:, :, :height, :width], header.shape, axes)


def _transform(
    direction: Direction, network: FactorizedPrior, place: Place, batch: npt.NDArray[Any], scale_in: int, scale_out: int
) -> npt.NDArray[Any]:
    """Run the network over a batch of any size, in tiles where memory asks for it."""
    tile = tiling.tile_positions(current().memory // network.pixel_bytes, network.stride, network.halo)
    return tiling.apply(
        lambda part: engine().run(direction, network, place, part), batch, scale_in, scale_out, tile, network.halo
    )
