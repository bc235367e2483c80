"""A payload of any family -> the array in it. Loads no network but the one that the payload asks for."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import pixels
from .bitstream import container, families
from .bitstream.header import CODING_CONSTANT
from .errors import CorruptionError
from .weights import DEFAULT, Spec


def decode(
    data: bytes | bytearray | memoryview,
    weights: str | Path | Spec = DEFAULT,
    gpu: bool | None = None,
    expected_shape: tuple[int, ...] | None = None,
    expected_dtype: npt.DTypeLike | None = None,
    network: bytes | None = None,
) -> npt.NDArray[Any]:
    """The array in a payload, of the dtype and shape that were encoded.

    Parameters
    ----------
    data
        What `encode`, or a codec's `encode`, returned.
    weights
        Where to look, besides the installed ones, for the weights that the payload names by digest: a path or "compressai".
    gpu
        As in `encode`; overfitted payloads are decoded by the CPU.
    expected_shape, expected_dtype
        Refuse a payload of another shape or dtype, before anything is allocated for it.
    network
        The network section that overfitted payloads share, where they do.

    Raises
    ------
    CorruptionError
        The payload is damaged, cut short, or not of the expected shape.
    FormatVersionError
        A newer caecodec wrote it.
    WeightsError
        The weights or the network it was written with are not here.
    """
    payload = families.parse(data)
    header = payload.header
    if expected_shape is not None and header.shape != tuple(expected_shape):
        raise CorruptionError(
            f"payload holds a chunk of shape {header.shape} but {tuple(expected_shape)} is expected here: "
            "it belongs to another array, or the array's metadata was changed"
        )
    if expected_dtype is not None and header.dtype != np.dtype(expected_dtype).name:
        raise CorruptionError(
            f"payload holds a chunk of {header.dtype} but {np.dtype(expected_dtype)} is expected here: "
            "it belongs to another array, or the array's metadata was changed"
        )
    axes = pixels.Axes.of(len(header.shape), header.channel_axis)
    if header.coding == CODING_CONSTANT:
        colour = np.frombuffer(payload.colour, header.numpy_dtype.newbyteorder("<")).astype(header.dtype)
        array = pixels.fill(colour, header.shape, axes)
    elif isinstance(payload, container.Payload):
        from . import codec  # here, because it imports torch

        array = codec.decode(payload, axes, Spec.parse(weights), gpu)
    else:
        from .overfitted import codec as overfitted

        array = overfitted.decode(payload, axes, network)
    return np.asfortranarray(array) if header.fortran else array
