"""The whole line: array -> images -> symbols -> streams -> payload, and back. The only file that sees all of it."""

import math
from bisect import bisect_left
from concurrent.futures import Future
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...bitstream.autoencoder import AutoencoderHeader, AutoencoderPayload, pack
from ...bitstream.codings import BYTES, PLAIN, PREDICTED, ZSTD, Body, BoundKind
from ...bitstream.prefix import RGB_VERSION
from ...chunks import planes, tiling
from ...chunks.axes import Axes, check_chunk, check_finite
from ...chunks.planes import COLOURS, Layout
from ...engine import Direction, Gpu, Model, Place, engine
from ...entropy import context, static
from ...entropy.streams import Coded
from ...errors import CorruptionError, ParameterError
from ...images import metrics
from ...models.factorized.network import HALO, STRIDE, pixel_bytes
from ...weights import DEFAULT, Source, Spec
from . import bounded, device
from .parameters import Parameters

_CODERS: dict[str, Any] = {"static": static, "context": context}  # modules, by name


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk that is being encoded: its values, how its planes become images, and what was asked for."""

    array: npt.NDArray[Any]
    axes: Axes
    layout: Layout
    parameters: Parameters
    gpu: Gpu

    def header(self, source: Source, quality: int, body: Body, entropy: str | None = None) -> AutoencoderHeader:
        """The header of such a body; `entropy` is the entropy model of symbols."""
        return AutoencoderHeader(
            quality=quality,
            metric=self.parameters.metric,
            body=body,
            digest=source.digest,
            shape=self.array.shape,
            channel_axis=self.axes.channel,
            fortran=self.array.flags.f_contiguous and not self.array.flags.c_contiguous,
            family=source.family,
            dtype=self.array.dtype.name,
            entropy=entropy,
        )

    def code(self, source: Source, quality: int) -> AutoencoderPayload:
        """The payload of the chunk's symbols at one quality."""
        network = engine().load(source, quality)
        coding = network.coding(self.parameters.entropy)
        coded = Coded((), b"")
        future = device.encode(self.array, self.axes, self.layout, source, quality, coding, Place.choose(self.gpu))
        if future:
            coded = future.result()
        elif self.layout.images(len(self.axes.images(self.array)), self.axes.channels(self.array.shape)):
            symbols = analyse(self.array, self.axes, self.layout, source, quality, self.gpu)
            coded = _CODERS[coding].encode(symbols, network.entropy_tables(coding))
        header = self.header(source, quality, Body.SYMBOLS, coding)
        return AutoencoderPayload(header, coded.streams, coded.escapes, planes=self.layout.pack())

    def bound(self, sources: dict[int, Source], error: float) -> AutoencoderPayload:
        """The smallest payload of the chunk whose values are within `error` of what they were."""
        quality = max(sources)
        grid = bounded.Grid.of(self.array, error)
        kinds = [BYTES] if grid is None else [PLAIN, ZSTD]
        if grid is not None and self.parameters.quality is not None:
            kinds.append(BoundKind(PREDICTED, engine().load(sources[quality], quality).coding(self.parameters.entropy)))
        found = (self.on_grid(sources[quality], quality, grid, kind) for kind in kinds)
        return min(found, key=lambda payload: len(pack(payload)))

    def on_grid(self, source: Source, quality: int, grid: bounded.Grid | None, kind: BoundKind) -> AutoencoderPayload:
        """The payload of the chunk on a grid, of one kind of bound."""
        header = self.header(source, quality, Body.BOUNDED)
        if kind.entropy is None:
            return AutoencoderPayload(header, bound=bounded.encode(self.array, self.axes, kind, grid))
        symbols = self.code(source, quality)
        prediction = _prediction(symbols, kind.entropy, self.axes, source, self.gpu)
        return replace(symbols, header=header, bound=bounded.encode(self.array, self.axes, kind, grid, prediction))


def encode(
    array: npt.NDArray[Any],
    quality: int | None = None,
    metric: str = "mse",
    channel_axis: int | None = -1,
    weights: str | Path | Spec = DEFAULT,
    gpu: bool | None = None,
    entropy: str | None = None,
    max_error: float | None = None,
    psnr: float | None = None,
    bpp: float | None = None,
) -> bytes:
    """Compress an image array into one self-contained payload.

    Parameters
    ----------
    array
        uint8, uint16, int16, float32 or float64, finite; two spatial axes of any size, channels if any, any leading axes.
        Three uint8 channels are taken for RGB; other planes are coded each by itself, within its own range of values, but
        for three that are alike.
    quality
        1 (smallest) to 8 (best); 8 where neither this nor psnr, bpp or max_error is given.
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        -1 for y, x, c; -3 for c, y, x; None for an array without channels.
    weights
        An installed name, the path of a .safetensors file or of a CompressAI checkpoint, or "compressai".
    gpu
        True: CUDA where present; False: CPU; None: as `caecodec.settings` says.
    entropy
        The entropy model: "context", "static" (more bytes, the same pixels), or None: context where the weights have it.
    max_error
        A bound on the error of every value, in the array's units; 0 is lossless. With quality, that of the network whose
        reconstruction is corrected; without, no network is used unless it makes the payload smaller.
    psnr
        Instead of quality: the PSNR in dB that the chunk must reach at least, by the lowest quality that does, or else by
        max_error. Its peak is 255 for uint8 and the range of the chunk's values for others.
    bpp
        Instead of quality: the most bits per pixel, all channels together, by the highest quality that keeps to it; the
        lowest quality where none does.

    Raises
    ------
    ParameterError
        The array's shape, dtype or values, or an argument, is not one the codec takes.
    WeightsError
        There are no such weights, or they have no context tables and entropy asks for them.
    """
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"array is a {type(array).__name__} but must be a numpy array; pass np.asarray(array)")
    return encode_with(Parameters.parse(quality, metric, channel_axis, weights, entropy, max_error, psnr, bpp), array, gpu)


def encode_with(parameters: Parameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
    """`encode` with parameters that are parsed already."""
    axes = check_chunk(array.shape, array.dtype, parameters.channel_axis)
    check_finite(array)
    sources = parameters.sources()
    chunk = Chunk(array, axes, Layout.of(array, axes), parameters, gpu)
    colour = planes.constant(array, axes)
    if colour is not None:
        quality = max(sources)
        payload = AutoencoderPayload(
            chunk.header(sources[quality], quality, Body.CONSTANT), colour=colour.astype(_little(array.dtype)).tobytes()
        )
    elif parameters.max_error is not None:
        payload = chunk.bound(sources, parameters.max_error)
    elif parameters.quality is not None:
        payload = chunk.code(sources[parameters.quality], parameters.quality)
    elif parameters.psnr is not None:
        payload = _reach_psnr(chunk, sources, parameters.psnr)
    else:
        assert parameters.bpp is not None
        payload = _keep_to_bpp(chunk, sources, parameters.bpp)
    return pack(payload)


def _reach_psnr(chunk: Chunk, sources: dict[int, Source], psnr: float) -> AutoencoderPayload:
    """The chunk at the lowest quality whose reconstruction has this PSNR, found by bisection."""
    payloads = {}

    def reached(quality: int) -> bool:
        payloads[quality] = chunk.code(sources[quality], quality)
        decoded = _pixels(payloads[quality], chunk.axes, sources[quality], chunk.gpu)
        return metrics.psnr(chunk.array, decoded) >= psnr

    qualities = sorted(sources)
    first = bisect_left(qualities, True, key=reached)
    return payloads[qualities[first]] if first < len(qualities) else _bound_for_psnr(chunk, sources, psnr)


def _bound_for_psnr(chunk: Chunk, sources: dict[int, Source], psnr: float) -> AutoencoderPayload:
    """The chunk within the largest bound that was found to give this PSNR."""
    error = math.sqrt(3) * metrics.peak(chunk.array) * 10 ** (-psnr / 20)  # of uniform errors
    while True:
        payload = chunk.bound(sources, error)
        decoded = _bounded(payload, chunk.axes, chunk.parameters.weights, chunk.gpu)
        if metrics.psnr(chunk.array, decoded) >= psnr:
            return payload
        error = 0.9 * error if error >= 1 or chunk.array.dtype.kind == "f" else 0


def _keep_to_bpp(chunk: Chunk, sources: dict[int, Source], bpp: float) -> AutoencoderPayload:
    """The chunk at the highest quality that takes at most this many bits per pixel; at the lowest if none does."""
    payloads = {}

    def exceeded(quality: int) -> bool:
        payloads[quality] = chunk.code(sources[quality], quality)
        return 8 * len(pack(payloads[quality])) > bpp * chunk.array.size / chunk.axes.channels(chunk.array.shape)

    qualities = sorted(sources)
    return payloads[qualities[max(0, bisect_left(qualities, True, key=exceeded) - 1)]]


def start(payload: AutoencoderPayload, axes: Axes, spec: Spec, gpu: Gpu, keep: bool) -> "Future[Tensor | None] | None":
    """Have a device decode a payload, if one takes its chunk whole: `decode` does it otherwise, and where the result is None.

    keep : what the device decodes stays there
    """
    header = payload.header
    if header.body is not Body.SYMBOLS:
        return None
    source = engine().source(header.digest, spec, header.metric, header.quality)
    return device.decode(payload, axes, _layout(payload, axes), source, Place.choose(gpu), keep)


def decode(payload: AutoencoderPayload, axes: Axes, spec: Spec, gpu: Gpu) -> npt.NDArray[Any]:
    """The C-contiguous chunk in a payload that is not constant; `caecodec.decode` says what the arguments are."""
    header = payload.header
    if header.body is Body.BOUNDED:
        return _bounded(payload, axes, spec, gpu)
    source = engine().source(header.digest, spec, header.metric, header.quality)
    return _on_cpu(payload, axes, source, gpu)


def analyse(
    array: npt.NDArray[Any], axes: Axes, layout: Layout, source: Source, quality: int, gpu: Gpu
) -> npt.NDArray[np.int32]:
    """Symbols (m, M, rows, columns) of a chunk."""
    model = Model(source, quality, Place.choose(gpu))
    rows, columns = tiling.latent_size(array.shape[axes.height], array.shape[axes.width], STRIDE)
    out = None
    for tile in _tiles(model, rows, columns):
        crop = array[axes.region(*tile.seen(STRIDE))]
        part = engine().run(model, "analysis", tiling.pad(planes.to_images(crop, axes, layout), STRIDE))
        if part.shape[2:] == (rows, columns):
            return part
        if out is None:
            out = np.empty((*part.shape[:2], rows, columns), part.dtype)
        out[:, :, *tile.place()] = part[:, :, *tile.kept()]
    assert out is not None
    return out


def _bounded(payload: AutoencoderPayload, axes: Axes, spec: Spec, gpu: Gpu) -> npt.NDArray[Any]:
    """The chunk that a bounded payload holds."""
    header, kind = payload.header, payload.bound_kind
    prediction = None
    if kind.entropy is not None:
        source = engine().source(header.digest, spec, header.metric, header.quality)
        prediction = _prediction(payload, kind.entropy, axes, source, gpu)
    elif payload.streams or payload.escapes or payload.planes:
        raise CorruptionError("payload has symbols but its kind of bound has none: it is damaged")
    return bounded.decode(kind, payload.bound[1:], header.shape, header.numpy_dtype, axes, prediction)


def _pixels(payload: AutoencoderPayload, axes: Axes, source: Source, gpu: Gpu) -> npt.NDArray[Any]:
    """The chunk whose symbols a payload holds."""
    future = device.decode(payload, axes, _layout(payload, axes), source, Place.choose(gpu))
    found = future.result() if future else None
    return found.numpy() if found is not None else _on_cpu(payload, axes, source, gpu)


def _on_cpu(payload: AutoencoderPayload, axes: Axes, source: Source, gpu: Gpu) -> npt.NDArray[Any]:
    """The same, with symbols and pixels handled by the CPU, in tiles if need be."""
    header = payload.header
    layout = _layout(payload, axes)
    assert header.entropy is not None
    symbols = _symbols(payload, header.entropy, axes, layout, source)
    model = Model(source, header.quality, Place.choose(gpu))
    chunk = np.empty(header.shape, header.numpy_dtype)
    for tile in _tiles(model, *symbols.shape[2:]):
        region = chunk[axes.region(*tile.place(STRIDE))]
        images = _images(model, "synthesis", symbols[:, :, *tile.seen()])[:, :, *tile.kept(STRIDE)]
        images = images[:, :, : region.shape[axes.height], : region.shape[axes.width]]
        if images.size and not planes.plausible(images):
            raise CorruptionError("payload holds symbols that decode to no pixels: it is damaged, or of other weights")
        region[...] = planes.to_array(images, region.shape, region.dtype, axes, layout)
    return chunk


def _prediction(payload: AutoencoderPayload, entropy: str, axes: Axes, source: Source, gpu: Gpu) -> npt.NDArray[np.float64]:
    """The values (n, height, width, channels) that the symbols of a payload stand for: the same everywhere."""
    layout = _layout(payload, axes)
    header = payload.header
    symbols = _symbols(payload, entropy, axes, layout, source)
    levels = _images(Model(source, header.quality, Place.choose(gpu)), "exact", symbols)
    levels = levels[:, :, : header.shape[axes.height], : header.shape[axes.width]]
    return bounded.predicted(levels, header.shape, axes, layout)


def _layout(payload: AutoencoderPayload, axes: Axes) -> Layout:
    header = payload.header
    if header.version == RGB_VERSION:
        return Layout(separate=False)
    return Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)


def _symbols(payload: AutoencoderPayload, entropy: str, axes: Axes, layout: Layout, source: Source) -> npt.NDArray[np.int32]:
    """The symbols (m, M, rows, columns) that a payload holds, coded with this entropy model."""
    header = payload.header
    network = engine().load(source, header.quality)
    count = layout.images(prod(header.shape[axis] for axis in axes.leading), header.channels)
    size = tiling.latent_size(header.shape[axes.height], header.shape[axes.width], STRIDE)
    if count:
        coded = Coded(payload.streams, payload.escapes)
        symbols: npt.NDArray[np.int32] = _CODERS[entropy].decode(
            coded, network.entropy_tables(entropy), (count, network.latent, *size)
        )
        return symbols
    if payload.streams or payload.escapes:
        raise CorruptionError("payload has streams but all its planes have one value: it is damaged")
    return np.empty((0, network.latent, *size), np.int32)


def _images(model: Model, direction: Direction, symbols: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """What the synthesis makes (m, 3, 16 rows, 16 columns) of symbols (m, M, rows, columns), m possibly 0."""
    if len(symbols):
        return engine().run(model, direction, symbols)
    height, width = (STRIDE * side for side in symbols.shape[2:])
    return np.empty((0, COLOURS, height, width), np.float32)


def _tiles(model: Model, rows: int, columns: int) -> list[tiling.Tile]:
    """What the network sees at once of latents of this size, as the memory setting allows."""
    pixels_at_once = model.place.current_settings().memory // pixel_bytes(
        engine().load(model.source, model.quality).hidden, model.place.device
    )
    return tiling.tiles(rows, columns, tiling.tile_positions(pixels_at_once, STRIDE, HALO), HALO)


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")
