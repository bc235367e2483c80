"""array -> payload, and back: chooses how a chunk is coded, and its header; the engine's lines make symbols and streams."""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...bitstream.autoencoder import AutoencoderHeader, AutoencoderPayload, pack
from ...bitstream.codings import BYTES, PLAIN, PREDICTED, ZSTD, Body, BoundKind
from ...bitstream.prefix import RGB_VERSION
from ...chunks import planes
from ...chunks.axes import Axes, check_chunk, check_finite
from ...chunks.given import as_chunk
from ...chunks.padding import trim, trim_tensor
from ...chunks.pending import Pending
from ...chunks.planes import COLOURS, Layout
from ...chunks.spec import ChunkSpec
from ...engine import ChunkTask, DevicePlacement, Gpu, PlacedNetwork, engine
from ...entropy import registry
from ...entropy.streams import CodedSymbols
from ...errors import CorruptionError, ParameterError
from ...images import metrics
from ...weights import DEFAULT, Source, Spec
from ..padding import wrap
from . import bounded
from .parameters import AutoencoderParameters

RGB = Layout(separate=False)


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk that is being encoded: its values, how its planes become images, and what was asked for."""

    array: npt.NDArray[Any] | Tensor
    spec: ChunkSpec
    parameters: AutoencoderParameters
    gpu: Gpu

    @property
    def values(self) -> npt.NDArray[Any]:
        """The chunk in the memory of the CPU."""
        return self.array.cpu().numpy() if isinstance(self.array, Tensor) else self.array

    def header(self, source: Source, quality: int, body: Body, entropy: str | None = None) -> AutoencoderHeader:
        """The header of a payload with this body; `entropy` is the entropy model of its symbols."""
        flags = None if isinstance(self.array, Tensor) else self.array.flags
        return AutoencoderHeader(
            quality=quality,
            metric=self.parameters.metric,
            body=body,
            digest=source.digest,
            shape=self.spec.shape,
            channel_axis=self.spec.axes.channel,
            fortran=flags is not None and flags.f_contiguous and not flags.c_contiguous,
            family=source.family,
            dtype=self.spec.dtype,
            entropy=entropy,
        )

    def code(self, source: Source, quality: int) -> Pending[AutoencoderPayload]:
        """The payload of the chunk's symbols at one quality."""
        model = engine().load(source, quality).writing_model(self.parameters.entropy)
        placement = DevicePlacement.choose(self.gpu)
        task = ChunkTask(PlacedNetwork(source, quality, placement), model, self.spec)
        header = self.header(source, quality, Body.SYMBOLS, model.name)
        return engine().line(placement).encode(task, self.array).then(
            lambda coded: AutoencoderPayload(header, coded.streams, coded.escapes, planes=self.spec.layout.pack())
        )  # fmt: skip

    def bound(self, sources: dict[int, Source], error: float) -> AutoencoderPayload:
        """The smallest payload whose values are within `error` of the chunk's."""
        quality = max(sources)
        source, grid = sources[quality], bounded.Grid.of(self.values, error)
        kinds = [BYTES] if grid is None else [PLAIN, ZSTD]
        if self.parameters.quality is not None:
            loaded = engine().load(source, quality)
            if not loaded.family.exact:
                raise ParameterError(
                    f"max_error is given with quality {quality} but networks of family {loaded.family.name!r} have no exact "
                    "synthesis to correct; leave quality out, so that no network is used, or choose weights of another family"
                )
            if grid is not None:
                kinds.append(BoundKind(PREDICTED, loaded.writing_model(self.parameters.entropy).name))
        found = (self.on_grid(source, quality, grid, kind) for kind in kinds)
        return min(found, key=lambda payload: len(pack(payload)))

    def on_grid(self, source: Source, quality: int, grid: bounded.Grid | None, kind: BoundKind) -> AutoencoderPayload:
        """The payload of the chunk on a grid, of one kind of bound."""
        header, axes = self.header(source, quality, Body.BOUNDED), self.spec.axes
        if kind.entropy is None:
            return AutoencoderPayload(header, bound=bounded.encode(self.values, axes, kind, grid))
        symbols = self.code(source, quality).result()
        prediction = _prediction(symbols, kind.entropy, axes, source, self.gpu)
        return replace(symbols, header=header, bound=bounded.encode(self.values, axes, kind, grid, prediction))


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
        uint8, uint16, int16, float32 or float64 of either byte order, with two spatial axes of any size, channels or none, and
        any leading axes. Its values are finite, unless max_error is 0 or they are padding: rows, columns or images of one value
        at the end. Three uint8 channels are coded as RGB. Other planes are each coded by itself, within its own range of
        values, unless three are alike.
    quality
        1 (smallest) to 8 (best); 8 if none of quality, psnr, bpp and max_error is given.
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        -1 for y, x, c; -3 for c, y, x; None for an array without channels.
    weights
        An installed name, the path of a .safetensors file or of a CompressAI checkpoint, or "compressai".
    gpu
        True: CUDA if present; False: the CPU; None: the device of `caecodec.settings`.
    entropy
        The entropy model: "context", "binary-context" (weights of the family binary alone), "static" (more bytes, the same
        pixels), or None for the best that the weights have tables for.
    max_error
        A bound on the error of every value, in the array's units; 0 is lossless. If quality is given too, the network of that
        quality may predict the values, if that makes the payload smaller; otherwise no network is used.
    psnr
        Instead of quality: the least PSNR in dB. The lowest quality that reaches it is used or, if none does, a bound on the
        error. The peak is 255 for uint8 and the range of the chunk's values for other dtypes.
    bpp
        Instead of quality: the most bits per pixel, all channels together. The highest quality that stays within it is used
        or, if none does, the lowest.

    Raises
    ------
    ParameterError
        The codec does not accept an argument, or the array's shape, dtype or values.
    WeightsError
        There are no such weights, or they lack the tables that entropy asks for.
    """
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"array is a {type(array).__name__} but must be a numpy array; pass np.asarray(array)")
    parameters = AutoencoderParameters.parse(
        quality=quality, metric=metric, channel_axis=channel_axis, weights=weights,
        entropy=entropy, max_error=max_error, psnr=psnr, bpp=bpp,
    )  # fmt: skip
    return encode_with(parameters, as_chunk(array), gpu)


def encode_with(parameters: AutoencoderParameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
    """`encode` with parameters that are parsed already."""
    return start_encode(parameters, array, gpu).result()


def start_encode(parameters: AutoencoderParameters, array: npt.NDArray[Any] | Tensor, gpu: Gpu = None) -> Pending[bytes]:
    """Begin to encode, as `encode` does; an array on a GPU is a tensor.

    A line that works on batches begins at once with RGB chunks of uint8 whose target is a quality. For others the CPU must look
    at the values first; the thread that asks for the result does so.
    """
    dtype = np.dtype(str(array.dtype).removeprefix("torch.")) if isinstance(array, Tensor) else array.dtype
    axes = check_chunk(tuple(array.shape), dtype, parameters.channel_axis)
    rgb = dtype == np.uint8 and axes.channels(tuple(array.shape)) == COLOURS
    of_quality = parameters.quality is not None and parameters.max_error is None
    if rgb and of_quality and engine().line(DevicePlacement.choose(gpu)).batches:
        return _start(parameters, array, axes, gpu)
    values = array.cpu().numpy() if isinstance(array, Tensor) else array
    return Pending(lambda: _start(parameters, values, axes, gpu).result())


def encode_content(parameters: AutoencoderParameters, array: npt.NDArray[Any], axes: Axes, gpu: Gpu = None) -> bytes:
    """`encode_with` for a chunk without padding."""
    return pack(_start_content(parameters, array, axes, gpu).result())


def _start(parameters: AutoencoderParameters, array: npt.NDArray[Any] | Tensor, axes: Axes, gpu: Gpu) -> Pending[bytes]:
    """Look at the values of a chunk, and begin to encode it; a tensor is uint8 and RGB."""
    content, padding = trim_tensor(array, axes) if isinstance(array, Tensor) else trim(array, axes)
    coded = _start_content(parameters, content, axes, gpu)
    return coded.then(lambda payload: wrap(pack(payload), tuple(content.shape), padding))


def _start_content(
    parameters: AutoencoderParameters, array: npt.NDArray[Any] | Tensor, axes: Axes, gpu: Gpu
) -> Pending[AutoencoderPayload]:
    """`_start` for a chunk without padding."""
    sources = parameters.sources()
    dtype, layout = np.dtype(np.uint8), RGB
    if isinstance(array, np.ndarray):
        dtype = array.dtype
        if dtype.kind != "f" or parameters.max_error != 0:  # the bits of lossless floats are stored, whatever they are
            check_finite(array)
            layout = Layout.of(array, axes)
    chunk = Chunk(array, ChunkSpec(tuple(array.shape), dtype.name, axes, layout), parameters, gpu)
    colour = _colour(array, axes)
    if colour is not None:
        quality = max(sources)
        header = chunk.header(sources[quality], quality, Body.CONSTANT)
        payload = AutoencoderPayload(header, colour=colour.astype(_little(colour.dtype)).tobytes())
        return Pending(lambda: payload)
    if parameters.max_error is not None:
        error = parameters.max_error
        return Pending(lambda: chunk.bound(sources, error))
    if parameters.quality is not None:
        return chunk.code(sources[parameters.quality], parameters.quality)
    if parameters.psnr is not None:
        psnr = parameters.psnr
        return Pending(lambda: _reach_psnr(chunk, sources, psnr))
    assert parameters.bpp is not None
    bpp = parameters.bpp
    return Pending(lambda: _keep_to_bpp(chunk, sources, bpp))


def _colour(array: npt.NDArray[Any] | Tensor, axes: Axes) -> npt.NDArray[Any] | None:
    """See `planes.constant`; a tensor is compared on its own device."""
    if isinstance(array, Tensor):
        corner = array[tuple(slice(None) if axis == axes.channel else slice(1) for axis in range(array.ndim))]
        if not bool((array == corner).all()):
            return None
        array = array.cpu().numpy()
    return planes.constant(array, axes)


def _reach_psnr(chunk: Chunk, sources: dict[int, Source], psnr: float) -> AutoencoderPayload:
    """The chunk at the lowest quality whose reconstruction has this PSNR, found by bisection."""
    payloads = {}

    def reached(quality: int) -> bool:
        payloads[quality] = chunk.code(sources[quality], quality).result()
        decoding = _start_symbols(payloads[quality], chunk.spec.axes, sources[quality], chunk.gpu, keep=False)
        return metrics.psnr(chunk.values, np.asarray(decoding.result())) >= psnr

    qualities = sorted(sources)
    first = bisect_left(qualities, True, key=reached)
    return payloads[qualities[first]] if first < len(qualities) else _bound_for_psnr(chunk, sources, psnr)


def _bound_for_psnr(chunk: Chunk, sources: dict[int, Source], psnr: float) -> AutoencoderPayload:
    """The chunk within the largest bound that was found to give this PSNR."""
    error = math.sqrt(3) * metrics.peak(chunk.values) * 10 ** (-psnr / 20)  # the bound of uniform errors with this PSNR
    while True:
        payload = chunk.bound(sources, error)
        decoded = _bounded(payload, chunk.spec.axes, chunk.parameters.weights, chunk.gpu)
        if metrics.psnr(chunk.values, decoded) >= psnr:
            return payload
        error = 0.9 * error if error >= 1 or chunk.values.dtype.kind == "f" else 0


def _keep_to_bpp(chunk: Chunk, sources: dict[int, Source], bpp: float) -> AutoencoderPayload:
    """The chunk at the highest quality that takes at most this many bits per pixel; at the lowest if none does."""
    payloads = {}

    def exceeded(quality: int) -> bool:
        payloads[quality] = chunk.code(sources[quality], quality).result()
        return 8 * len(pack(payloads[quality])) > bpp * chunk.values.size / chunk.spec.axes.channels(chunk.array.shape)

    qualities = sorted(sources)
    return payloads[qualities[max(0, bisect_left(qualities, True, key=exceeded) - 1)]]


def start_decode(
    payload: AutoencoderPayload, axes: Axes, spec: Spec, gpu: Gpu, keep: bool = False
) -> Pending[npt.NDArray[Any] | Tensor]:
    """Begin to decode a payload that is not constant; `caecodec.decode` explains the arguments.

    keep : return the C-contiguous chunk as a tensor on the device, not as an array
    """
    if payload.header.body is Body.BOUNDED:
        bound = Pending(lambda: _bounded(payload, axes, spec, gpu))
        return bound.then(lambda array: torch.from_numpy(array).to(DevicePlacement.choose(gpu).device)) if keep else bound
    return _start_symbols(payload, axes, source_of(payload.header, spec), gpu, keep)


def source_of(header: AutoencoderHeader, spec: Spec) -> Source:
    """The weights that a payload names."""
    source = engine().source(header.digest, spec, header.metric, header.quality)
    if source.family != header.family:
        raise CorruptionError(
            f"payload is of family {header.family!r} but its weights {source.spec} are of {source.family!r}: it is damaged"
        )
    return source


def _start_symbols(
    payload: AutoencoderPayload, axes: Axes, source: Source, gpu: Gpu, keep: bool
) -> Pending[npt.NDArray[Any] | Tensor]:
    """Begin to decode the chunk whose symbols a payload holds."""
    assert payload.header.entropy is not None
    task = task_of(payload, payload.header.entropy, axes, source, gpu)
    return engine().line(task.network.placement).decode(task, CodedSymbols(payload.streams, payload.escapes), keep)


def _bounded(payload: AutoencoderPayload, axes: Axes, spec: Spec, gpu: Gpu) -> npt.NDArray[Any]:
    """The chunk that a bounded payload holds."""
    header, kind = payload.header, payload.bound_kind
    prediction = None
    if kind.entropy is not None:
        prediction = _prediction(payload, kind.entropy, axes, source_of(header, spec), gpu)
    elif payload.streams or payload.escapes or payload.planes:
        raise CorruptionError("payload has symbols but its kind of bound uses none: it is damaged")
    return bounded.decode(kind, payload.bound[1:], header.shape, header.numpy_dtype, axes, prediction)


def _prediction(payload: AutoencoderPayload, entropy: str, axes: Axes, source: Source, gpu: Gpu) -> npt.NDArray[np.float64]:
    """The values (n, height, width, channels) that the symbols of a payload stand for, which are the same everywhere."""
    task = task_of(payload, entropy, axes, source, gpu)
    if not engine().load(source, payload.header.quality).family.exact:
        raise CorruptionError(
            f"payload corrects an exact synthesis, which family {source.family!r} does not have: it is damaged"
        )
    levels = engine().cpu.exact_levels(task, CodedSymbols(payload.streams, payload.escapes))
    return bounded.predicted(levels, task.spec.shape, axes, task.spec.layout)


def task_of(payload: AutoencoderPayload, entropy: str, axes: Axes, source: Source, gpu: Gpu) -> ChunkTask:
    """The task of decoding the symbols of a payload, for a line."""
    header = payload.header
    layout = RGB
    if header.version != RGB_VERSION:
        layout = Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    network = PlacedNetwork(source, header.quality, DevicePlacement.choose(gpu))
    return ChunkTask(network, registry.by_name(entropy), ChunkSpec(header.shape, header.dtype, axes, layout))


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")
