"""array -> payload of layers, and back; the engine's lines make symbols and code all layers of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ... import weights
from ...bitstream import padded
from ...bitstream.prefix import Prefix
from ...bitstream.scalable import FAMILY, BaseLayer, ScalablePayload, pack
from ...chunks import planes
from ...chunks.axes import Axes, check_chunk, check_finite
from ...chunks.padding import Padding, trim
from ...chunks.pending import Pending
from ...chunks.planes import Layout
from ...chunks.spec import ChunkSpec
from ...engine import ChunkTask, DevicePlacement, PlacedNetwork, engine
from ...entropy import layered
from ...entropy.streams import CodedSymbols
from ...errors import CorruptionError
from ...settings import current
from ..base import Decoding, Dependencies, Gpu
from .parameters import ScalableParameters


def start_encode(parameters: ScalableParameters, array: npt.NDArray[Any] | Tensor, gpu: Gpu = None) -> Pending[bytes]:
    """Begin to encode a chunk; ParameterError for one that the codec does not accept."""
    values = array.cpu().numpy() if isinstance(array, Tensor) else array
    axes = check_chunk(values.shape, values.dtype, parameters.channel_axis)
    return Pending(lambda: _start(parameters, values, axes, gpu).result())


def _start(parameters: ScalableParameters, array: npt.NDArray[Any], axes: Axes, gpu: Gpu) -> Pending[bytes]:
    """Look at the values of a chunk, and begin to encode it."""
    content, padding = trim(array, axes)
    check_finite(content)
    layout, source = Layout.of(content, axes), parameters.source()
    flags = content.flags
    header = Prefix(FAMILY, array.shape, axes.channel, flags.f_contiguous and not flags.c_contiguous, array.dtype.name)
    about: dict[str, Any] = {"metric": source.metric, "family": source.family, "digest": source.digest}
    if padding is not None:
        about["padding"] = padded.pack_padding(array.shape, content.shape, _little(padding.value))
    colour = planes.constant(content, axes)
    if colour is not None:
        plain = ScalablePayload(header, **about, colour=_little(colour))
        return Pending(lambda: pack(plain))
    count = max(source.qualities)
    weights.require_tables(source, count, layered.MODEL.name)
    network = PlacedNetwork(source, count, DevicePlacement.choose(gpu))
    task = ChunkTask(network, layered.MODEL, ChunkSpec(content.shape, content.dtype.name, axes, layout))

    def layers(coded: CodedSymbols) -> bytes:
        split = max(0, len(coded.streams) - (count - 1))
        refinements = coded.streams[split:] or (b"",) * (count - 1)  # no symbols: every plane has one value
        every = (BaseLayer(coded.streams[:split], coded.escapes).pack(), *refinements)
        return pack(ScalablePayload(header, **about, planes=layout.pack(), layers=every[: parameters.layers]))

    return engine().line(network.placement).encode(task, content).then(layers)


def start_decode(payload: ScalablePayload, dependencies: Dependencies, gpu: Gpu, keep: bool) -> Decoding:
    """Begin to decode the first layers of a payload; `Codec.start_decode` explains the arguments."""
    header = payload.header
    if payload.padding:
        shape, padding = _unpad(payload)
        content = replace(payload, header=replace(header, shape=shape), padding=b"")
        decoding = start_decode(content, dependencies, gpu, keep)
        return replace(decoding, pending=decoding.pending.then(padding.restore))
    if payload.colour:
        return Decoding.constant(header, payload.colour)
    wanted = dependencies.layers or current().layers or len(payload.layers)
    count = min(wanted, len(payload.layers))
    source = engine().source(payload.digest, dependencies.weights, payload.metric, count)
    if source.family != payload.family:
        raise CorruptionError(
            f"payload is of family {payload.family!r} but its weights {source.spec} are of {source.family!r}: it is damaged"
        )
    axes = Axes.of(len(header.shape), header.channel_axis)
    layout = Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    network = PlacedNetwork(source, count, DevicePlacement.choose(gpu))
    task = ChunkTask(network, layered.MODEL, ChunkSpec(header.shape, header.dtype, axes, layout))
    base, refinements = BaseLayer.parse(payload.layers[0]), payload.layers[1:count]
    if not task.spec.images and not any(refinements):
        refinements = ()
    coded = CodedSymbols((*base.streams, *refinements), base.escapes)
    return Decoding(engine().line(network.placement).decode(task, coded, keep), header.fortran, keep)


def _unpad(payload: ScalablePayload) -> tuple[tuple[int, ...], Padding]:
    """The shape of the content of a padded chunk, and what surrounds it."""
    header = payload.header
    shape, value = padded.parse_margins(payload.padding, header)
    little = np.frombuffer(value, header.numpy_dtype.newbyteorder("<"))
    return shape, Padding(header.shape, little.astype(header.dtype).reshape(()))


def _little(values: npt.NDArray[Any]) -> bytes:
    """The little-endian bytes of values."""
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
