"""The whole line of the overfitted codec: array -> pictures -> fitted network and latents -> payload, and back.

Decoding takes numpy and constriction alone. Probabilities are integers, so latents decode to the same values on every machine.
Pictures are made of them in float32, and may be one grey level off where a value lies next to a rounding boundary.
"""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import pixels
from ..bitstream.overfitted import CODING_CONSTANT, CODING_OWN, CODING_SHARED, Header, Payload, pack
from ..errors import CorruptionError, ParameterError, WeightsError
from . import wavefront
from .architecture import DECODERS, Decoder, choose
from .batches import batches
from .laplace import Coded
from .network import Network, digest, identify
from .parameters import OverfittedParameters
from .wavefront import Latents


def encode_with(parameters: OverfittedParameters, array: npt.NDArray[Any]) -> bytes:
    """A chunk as a payload, fitting a network and latents to it (or latents alone, where the network is shared).

    Raises ParameterError for a chunk that the codec does not take.
    """
    axes = pixels.check(array.shape, array.dtype, parameters.channel_axis)
    pixels.check_finite(array)
    colour = pixels.constant(array, axes)
    if colour is not None:
        data = colour.astype(array.dtype.newbyteorder("<")).tobytes()
        return pack(Payload(_header(array, axes, choose(parameters.decoder, array.size), CODING_CONSTANT), colour=data))
    shared = parameters.shared()
    layout = _layout(array, axes, shared)
    count = layout.images(len(axes.images(array)), axes.channels(array.shape))
    size = count * array.shape[axes.height] * array.shape[axes.width]
    decoder = choose(parameters.decoder, size) if shared is None else shared.decoder
    header = _header(array, axes, decoder, CODING_OWN if shared is None else CODING_SHARED, parameters.section)
    if not count:
        return pack(Payload(header, layout.pack()))
    pictures = pixels.to_images(array, axes, layout)[:, : _channels(layout)]
    network, latents = _fit(pictures, decoder, parameters, shared)
    section = network.section() if shared is None else b""
    return pack(Payload(header, layout.pack(), section, *wavefront.encode(network, latents)))


def decode(payload: Payload, axes: pixels.Axes, section: bytes | None) -> npt.NDArray[Any]:
    """The C-contiguous chunk in a payload that is not constant; `section` is the network that it may share with others.

    Raises
    ------
    CorruptionError
        The payload is damaged.
    WeightsError
        It shares a network, which is not the one given.
    """
    header = payload.header
    layout = pixels.Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    count = layout.images(prod(header.shape[axis] for axis in axes.leading), header.channels)
    height, width = header.shape[axes.height], header.shape[axes.width]
    if count:
        network = _network(payload, _channels(layout), section)
        coded = Coded(payload.stream, payload.escapes, payload.raw)
        images = batches().decode(network, coded, count, height, width)
        if not pixels.plausible(images):
            raise CorruptionError("payload holds latents that decode to no pixels: it is damaged")
    elif payload.network or payload.latent_bytes:
        raise CorruptionError("payload has latents but all its planes have one value: it is damaged")
    else:
        images = np.empty((0, _channels(layout), height, width), np.float32)
    return pixels.to_array(images, header.shape, header.numpy_dtype, axes, layout)


def _fit(
    pictures: npt.NDArray[np.float32], decoder: Decoder, parameters: OverfittedParameters, shared: Network | None
) -> tuple[Network, Latents]:
    """A network and latents for pictures (m, C, height, width)."""
    from . import fit  # here, because it imports torch

    fitted = fit.fit(pictures[None], decoder, parameters.trade_off, parameters.preset, parameters.seed, shared)[0]
    return fitted.network, fitted.latents


def _header(array: npt.NDArray[Any], axes: pixels.Axes, decoder: Decoder, coding: int, section: bytes | None = None) -> Header:
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    name = b"" if section is None else digest(section)
    return Header(decoder.name, coding, array.shape, axes.channel, fortran, array.dtype.name, name)


def _channels(layout: pixels.Layout) -> int:
    """Of the pictures that a network has."""
    return 1 if layout.separate else pixels.COLOURS


def _layout(array: npt.NDArray[Any], axes: pixels.Axes, shared: Network | None) -> pixels.Layout:
    """How to code a chunk: as its values suggest, or as the network needs it."""
    layout = pixels.layout(array, axes)
    if shared is None or shared.channels == _channels(layout):
        return layout
    if shared.channels == pixels.COLOURS != axes.channels(array.shape):
        raise ParameterError(
            f"network is of pictures of {pixels.COLOURS} channels but a chunk of shape {array.shape} has "
            f"{axes.channels(array.shape)} (channel_axis={axes.channel}); fit one to chunks like it"
        )
    return pixels.Layout(shared.channels == 1, layout.ranges)


def _network(payload: Payload, channels: int, section: bytes | None) -> Network:
    """The network of a payload: its own, or the one given."""
    header = payload.header
    decoder = DECODERS[header.decoder]
    if header.coding == CODING_OWN:
        return Network.parse(payload.network, decoder, channels)
    if section is None or digest(section) != header.digest:
        given = "none is given" if section is None else f"the one given is {digest(section).hex()}"
        raise WeightsError(
            f"payload shares a network of digest {header.digest.hex()} but {given}; decode it with the codec of its array's "
            "metadata, or pass that codec's network"
        )
    network = identify(section)
    if (network.decoder, network.channels) != (decoder, channels):
        raise CorruptionError(
            f"payload has pictures of {channels} channels for decoder {decoder.name!r} but its network is one of "
            f"{network.channels} for {network.decoder.name!r}: it is damaged"
        )
    return network
