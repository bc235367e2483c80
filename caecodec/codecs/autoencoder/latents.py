"""payload -> latents, which the synthesis would make pixels of. No network runs.

payload ── entropy model ──▶ symbols ── offsets, scales ──▶ latents
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...bitstream.codings import Body
from ...bitstream.prefix import ChunkHeader
from ...chunks import tiling
from ...chunks.axes import Axes
from ...engine import engine
from ...entropy.streams import CodedSymbols
from ...errors import ParameterError
from ...weights import DEFAULT, Spec
from ..padding import apart
from ..registry import owner
from .codec import source_of, task_of
from .interface import AUTOENCODER

Floats = npt.NDArray[np.float32]


class ChunkLatents(NamedTuple):
    """The latents of a chunk.

    values : float32 (*leading, images, M, rows, columns); `images` is 1 if the channels are one image, else their number
    joint : whether the channels are one image, or there is no axis of channels; None if nothing of the chunk is coded, and then
        `images` is 1
    stride : pixels a side of a latent position
    """

    values: Floats
    joint: bool | None
    stride: int


def decode_latents(data: bytes | bytearray | memoryview, weights: str | Path | Spec = DEFAULT) -> Floats:
    """The latents in a payload, as its synthesis would take them (FORMAT.md, 9).

    Returns float32 (*leading, M, ceil(height / s), ceil(width / s)), where `leading` are the axes of the chunk before its
    spatial ones, and s is the stride of the network. If the channels are coded one by one, they are an axis before M. All is 0
    where nothing is coded: in chunks of one colour, in planes of one value, and in padding.

    Parameters
    ----------
    data
        A payload of `ConvolutionalAutoencoder`.
    weights
        Where to look, besides the installed ones, for the weights that the payload names by digest: a path or "compressai".

    Raises
    ------
    ParameterError
        The payload has no latents: it is of another codec, or bounded without a network.
    CorruptionError, FormatVersionError, WeightsError
        As `caecodec.decode`.
    """
    found = chunk_latents(data, Spec.parse(weights))
    return found.values if found.joint is False else found.values[..., 0, :, :, :]


def chunk_latents(data: bytes | bytearray | memoryview, spec: Spec) -> ChunkLatents:
    """The latents of a chunk, 0 where nothing is coded; raises the errors of `decode_latents`."""
    codec = owner(data)
    if codec is not AUTOENCODER:
        raise ParameterError(
            f"payload is of codec {codec.name!r}, whose latents are not those of a network that chunks share; name an array of "
            f"codec {AUTOENCODER.name!r}"
        )
    payload = AUTOENCODER.parse_payload(data)
    whole: ChunkHeader = payload.header
    content, _ = apart(payload)
    header = content.header
    entropy = content.bound_kind.entropy if header.body is Body.BOUNDED else header.entropy
    if entropy is None and not header.constant:
        raise ParameterError("payload is bounded and no network predicts its values: it has no latents; encode with a quality")
    source = source_of(header, spec)
    loaded = engine().load(source, header.quality)
    axes, channels = Axes.of(len(header.shape), header.channel_axis), loaded.network.latent_channels
    stride = loaded.family.stride
    if entropy is None:
        return ChunkLatents(_zeros(whole.shape, axes, 1, channels, stride), None, stride)
    task = task_of(content, entropy, axes, source, gpu=False)
    coded = loaded.network.latents(engine().cpu.symbols(task, CodedSymbols(content.streams, content.escapes)))
    layout = task.spec.layout
    if layout.separate and layout.ranges is not None:
        varied = ~layout.ranges.constant.reshape(-1)
        planes = np.zeros((len(varied), *coded.shape[1:]), np.float32)
        planes[varied] = coded
        coded = planes
    values = coded.reshape(*(header.shape[axis] for axis in axes.leading), -1, *coded.shape[1:])
    if whole.shape != header.shape:
        images = axes.channels(whole.shape) if layout.separate else 1
        padded = _zeros(whole.shape, axes, images, channels, stride)
        padded[tuple(slice(n) for n in values.shape)] = values
        values = padded
    return ChunkLatents(values, not layout.separate or axes.channel is None, stride)


def _zeros(shape: tuple[int, ...], axes: Axes, images: int, channels: int, stride: int) -> Floats:
    """Latents of a chunk of this shape, all 0."""
    rows, columns = tiling.latent_size(shape[axes.height], shape[axes.width], stride)
    return np.zeros((*(shape[axis] for axis in axes.leading), images, channels, rows, columns), np.float32)
