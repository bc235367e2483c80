"""A payload of any family -> the array in it. Loads no network but the one that the payload asks for."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..bitstream import families
from ..bitstream.autoencoder import AutoencoderPayload
from ..chunks import planes
from ..chunks.axes import Axes
from ..errors import CorruptionError
from ..weights import DEFAULT, Spec

if TYPE_CHECKING:
    from torch import Tensor


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
    return start_decode(data, weights, gpu, expected_shape, expected_dtype, network).result()


@dataclass(frozen=True, eq=False)
class Decoding:
    """A payload that is being decoded, by a device if `future` is there, and else when the result is asked for.

    by_cpu : decodes it
    fortran : the chunk was F-contiguous
    kept : what the device decodes stays there
    """

    by_cpu: Callable[[], npt.NDArray[Any]]
    fortran: bool
    future: "Future[Tensor | None] | None" = None
    kept: bool = False

    def result(self, copy: bool = True) -> npt.NDArray[Any]:
        """What `decode` returns; waits for it, and raises its errors.

        copy : so that it does not keep the other chunks of its batch in memory
        """
        found = self.future.result() if self.future else None  # None, too, where a device found damage that it cannot explain
        array = self.by_cpu() if found is None else found.cpu().numpy()
        if self.fortran:
            return np.asfortranarray(array)
        return array.copy() if copy and found is not None else array

    def tensor(self, copy: bool = True) -> "Tensor":
        """The same as a tensor, on the device where it was kept there; for this thread's stream.

        copy : as for `result`
        """
        import torch

        found = self.future.result() if self.future else None
        if found is None:
            return torch.from_numpy(self.by_cpu())
        if found.is_cuda:
            found.record_stream(torch.cuda.current_stream(found.device))
        return found.clone() if copy else found


def start_decode(
    data: bytes | bytearray | memoryview,
    weights: str | Path | Spec = DEFAULT,
    gpu: bool | str | None = None,
    expected_shape: tuple[int, ...] | None = None,
    expected_dtype: npt.DTypeLike | None = None,
    network: bytes | None = None,
    keep: bool = False,
) -> Decoding:
    """Begin what `decode` does; with `keep`, what a device decodes stays there. Raises what is plain from the payload."""
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
    axes = Axes.of(len(header.shape), header.channel_axis)
    if header.constant:
        return Decoding(partial(_fill, payload, axes), header.fortran)
    if isinstance(payload, AutoencoderPayload):
        from .autoencoder import codec  # here, because it imports torch

        spec = Spec.parse(weights)
        future = codec.start(payload, axes, spec, gpu, keep)
        return Decoding(partial(codec.decode, payload, axes, spec, gpu), header.fortran, future, keep and future is not None)
    from .overfitted import codec as overfitted

    return Decoding(partial(overfitted.decode, payload, axes, network), header.fortran)


def _fill(payload: families.Payload, axes: Axes) -> npt.NDArray[Any]:
    header = payload.header
    colour = np.frombuffer(payload.colour, header.numpy_dtype.newbyteorder("<")).astype(header.dtype)
    return planes.fill(colour, header.shape, axes)
