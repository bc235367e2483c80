"""A payload of any codec -> the array in it. Only the network that the payload needs is loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError, ParameterError
from ..weights import DEFAULT, Spec
from .base import Decoding, Dependencies, Gpu, Payload
from .registry import owner


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
        A payload, as `encode` or a codec's `encode` returns it.
    weights
        Where to look, besides the installed ones, for the weights that the payload names by digest: a path or "compressai".
    gpu
        As in `encode`; overfitted payloads are decoded by the CPU.
    expected_shape, expected_dtype
        Raise CorruptionError for a payload of another shape or dtype, before anything is allocated for it.
    network
        The network section that overfitted payloads share, if they share one.

    Raises
    ------
    CorruptionError
        The payload is damaged, cut short, or not of the expected shape or dtype.
    FormatVersionError
        A newer caecodec wrote it.
    WeightsError
        The weights or the network that it was written with are not found.
    ParameterError
        `data` is a path instead of what is in the file.
    """
    if isinstance(data, str | Path):
        raise ParameterError(
            f"data is the text or path {str(data)!r} but must be a payload; pass Path({str(data)!r}).read_bytes()"
        )
    dependencies = Dependencies(Spec.parse(weights), network)
    return start_decode(data, dependencies, gpu, expected_shape, expected_dtype).result()


def start_decode(
    data: bytes | bytearray | memoryview,
    dependencies: Dependencies = Dependencies(),  # noqa: B008  # immutable, so calls can share it
    gpu: Gpu = None,
    expected_shape: tuple[int, ...] | None = None,
    expected_dtype: npt.DTypeLike | None = None,
    keep: bool = False,
) -> Decoding:
    """Begin to decode a payload, as `decode` does. Errors that the payload alone shows are raised at once.

    keep : leave what a device decodes on the device
    """
    codec = owner(data)
    payload: Payload = codec.parse_payload(data)
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
    return replace(codec.start_decode(payload, dependencies, gpu, keep), big_endian=header.big_endian)


def parse_payload(data: bytes | bytearray | memoryview) -> Payload:
    """A payload of any codec, parsed. Raises the errors of `registry.owner` and `Codec.parse_payload`."""
    payload: Payload = owner(data).parse_payload(data)
    return payload
