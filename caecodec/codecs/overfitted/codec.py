"""The whole line of the overfitted codec: array -> pictures -> fitted network and latents -> payload, and back.

Decoding needs only numpy and constriction. Probabilities are integers, so latents decode to the same values on every machine.
Pictures are computed from them in float32, and may be off by one grey level where a value is close to a rounding boundary.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bitstream.overfitted import CONSTANT, OWN_NETWORK, SHARED_NETWORK, OverfittedHeader, OverfittedPayload, pack
from ...chunks import planes
from ...chunks.axes import Axes, check_chunk, check_finite
from ...chunks.padding import trim
from ...chunks.planes import COLOURS, Layout
from ...errors import CorruptionError, ParameterError, WeightsError
from ..autoencoder.parameters import AutoencoderParameters
from ..base import Gpu
from ..padding import wrap
from . import wavefront
from .architecture import DECODERS, Decoder, choose
from .batches import batches
from .laplace import Coded
from .network import Network, digest, identify
from .parameters import OverfittedParameters

if TYPE_CHECKING:
    from .fit import Fitted

_SAMPLE = 2**18  # pixels to which a network for many chunks is fitted


def encode_with(parameters: OverfittedParameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
    """Fit a network and latents to a chunk, or latents alone if the network is shared, and return the payload.

    Raises ParameterError for a chunk that the codec does not accept.
    """
    axes = check_chunk(array.shape, array.dtype, parameters.channel_axis)
    content, padding = trim(array, axes)
    return wrap(_encode_content(parameters, content, axes, gpu), content.shape, padding)


def _encode_content(parameters: OverfittedParameters, array: npt.NDArray[Any], axes: Axes, gpu: Gpu) -> bytes:
    """`encode_with` for a chunk without padding."""
    check_finite(array)
    colour = planes.constant(array, axes)
    if colour is not None:
        data = colour.astype(array.dtype.newbyteorder("<")).tobytes()
        return pack(OverfittedPayload(_header(array, axes, choose(parameters.decoder, array.size), CONSTANT), colour=data))
    shared = parameters.shared()
    layout = _layout(array, axes, shared)
    count = layout.images(len(axes.images(array)), axes.channels(array.shape))
    size = count * array.shape[axes.height] * array.shape[axes.width]
    decoder = choose(parameters.decoder, size) if shared is None else shared.decoder
    header = _header(array, axes, decoder, OWN_NETWORK if shared is None else SHARED_NETWORK, parameters.section)
    if not count:
        return pack(OverfittedPayload(header, layout.pack()))
    pictures = planes.to_images(array, axes, layout)[:, : _channels(layout)]
    raw_bits = 8 * array.dtype.itemsize * _channels(layout)
    fitted = _fit(pictures, raw_bits, decoder, parameters, shared, gpu)
    if fitted is None:
        return _lossless(parameters, array, axes)
    section = fitted.network.section() if shared is None else b""
    return pack(OverfittedPayload(header, layout.pack(), section, *wavefront.encode(fitted.network, fitted.latents)))


def fit_network(parameters: OverfittedParameters, chunks: Sequence[npt.NDArray[Any]], gpu: Gpu = None) -> bytes | None:
    """The section of a network fitted to several chunks of one shape, for `network=` of a codec; None if all are constant.

    It uses at most 2^18 pixels: the middle of each chunk, or another part if the middle has only one value.

    Raises ParameterError for chunks that the codec does not accept, and if no network can be fitted to them.
    """
    crops = []
    for array in chunks:
        axes = check_chunk(array.shape, array.dtype, parameters.channel_axis)
        check_finite(array)
        for place in _places(array.shape[axes.height], array.shape[axes.width], len(chunks)):
            crop = array[axes.region(*place)]
            layout = Layout.of(crop, axes)
            if planes.constant(crop, axes) is None and layout.images(len(axes.images(crop)), axes.channels(crop.shape)):
                crops.append(planes.to_images(crop, axes, layout)[:, : _channels(layout)])
                break
    if not crops:
        return None
    channels = max(crop.shape[1] for crop in crops)
    pictures = np.concatenate([crop for crop in crops if crop.shape[1] == channels])
    decoder = choose(parameters.decoder, pictures[:, 0].size)
    fitted = _fit(pictures, math.inf, decoder, parameters, None, gpu)
    if fitted is None:
        raise ParameterError(f"no network could be fitted to these chunks with {parameters}; let each chunk have its own")
    return fitted.network.section()


def decode(payload: OverfittedPayload, axes: Axes, section: bytes | None) -> npt.NDArray[Any]:
    """The C-contiguous chunk in a payload that is not constant; `section` is the network that it may share with others.

    Raises
    ------
    CorruptionError
        The payload is damaged.
    WeightsError
        It needs a shared network, which is not `section`.
    """
    header = payload.header
    layout = Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    count = layout.images(prod(header.shape[axis] for axis in axes.leading), header.channels)
    height, width = header.shape[axes.height], header.shape[axes.width]
    if count:
        network = _network(payload, _channels(layout), section)
        coded = Coded(payload.stream, payload.escapes, payload.raw)
        images = batches().decode(network, coded, count, height, width)
        if not planes.plausible(images):
            raise CorruptionError("payload holds latents that decode to values that are not pixels: it is damaged")
    elif payload.network or payload.latent_bytes:
        raise CorruptionError("payload has latents but all its planes have one value: it is damaged")
    else:
        images = np.empty((0, _channels(layout), height, width), np.float32)
    return planes.to_array(images, header.shape, header.numpy_dtype, axes, layout)


def _fit(
    pictures: npt.NDArray[np.float32], raw_bits: float, decoder: Decoder, parameters: OverfittedParameters,
    shared: Network | None, gpu: Gpu,
) -> "Fitted | None":  # fmt: skip
    """A network and latents for pictures (m, C, height, width); None if `fit.fit` returns None for them."""
    from ...engine import DevicePlacement
    from .fitting import Task, fitted  # here, because they import torch

    device = DevicePlacement.choose(gpu).device
    return fitted(Task(decoder, parameters.trade_off, parameters.preset, parameters.seed, shared, device, raw_bits), pictures)


def _lossless(parameters: OverfittedParameters, array: npt.NDArray[Any], axes: Axes) -> bytes:
    """A payload without loss, which needs no network, for a chunk that could not be fitted."""
    from ..autoencoder import codec  # here, because it imports torch

    exact = AutoencoderParameters.parse(channel_axis=parameters.channel_axis, max_error=0)
    payload = codec.encode_content(exact, array, axes, gpu=False)
    warnings.warn(
        f"a chunk of shape {array.shape} could not be fitted with {parameters}; it is stored without loss, in {len(payload)} "
        "bytes. Another quality or a longer preset may fit it",
        RuntimeWarning,
        stacklevel=2,
    )
    return payload


def _places(height: int, width: int, count: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that may serve to fit a network, for `count` chunks of this size: the middle, then all parts."""
    side = max(64, math.isqrt(_SAMPLE // count))
    bottom, right = max(0, height - side), max(0, width - side)
    tops, lefts = ((*range(0, last, side), last) for last in (bottom, right))
    for top, left in ((bottom // 2, right // 2), *product(tops, lefts)):
        yield slice(top, top + side), slice(left, left + side)


def _header(array: npt.NDArray[Any], axes: Axes, decoder: Decoder, body: str, section: bytes | None = None) -> OverfittedHeader:
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    name = b"" if section is None else digest(section)
    return OverfittedHeader(decoder.name, body, array.shape, axes.channel, fortran, array.dtype.name, name)


def _channels(layout: Layout) -> int:
    """The number of channels of the pictures of a layout."""
    return 1 if layout.separate else COLOURS


def _layout(array: npt.NDArray[Any], axes: Axes, shared: Network | None) -> Layout:
    """How to code a chunk: as its values suggest, or as the network needs it."""
    layout = Layout.of(array, axes)
    if shared is None or shared.channels == _channels(layout):
        return layout
    if shared.channels == COLOURS != axes.channels(array.shape):
        raise ParameterError(
            f"network is for pictures of {COLOURS} channels but a chunk of shape {array.shape} has "
            f"{axes.channels(array.shape)} (channel_axis={axes.channel}); fit a network to chunks like it"
        )
    return Layout(shared.channels == 1, layout.ranges)


def _network(payload: OverfittedPayload, channels: int, section: bytes | None) -> Network:
    """The network of a payload: its own, or the one given."""
    header = payload.header
    decoder = DECODERS[header.decoder]
    if header.body == OWN_NETWORK:
        return Network.parse(payload.network, decoder, channels)
    if section is None or digest(section) != header.digest:
        given = "none is given" if section is None else f"the one given is {digest(section).hex()}"
        raise WeightsError(
            f"payload needs the network of digest {header.digest.hex()} but {given}; decode it with the codec of its array's "
            "metadata, or pass that codec's network"
        )
    network = identify(section)
    if (network.decoder, network.channels) != (decoder, channels):
        raise CorruptionError(
            f"payload has pictures of {channels} channels for decoder {decoder.name!r} but its network has "
            f"{network.channels} for {network.decoder.name!r}: it is damaged"
        )
    return network
