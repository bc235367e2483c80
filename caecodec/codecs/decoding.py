"""A payload of any family -> the array in it. Loads no network but the one that the payload asks for."""

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
from ..chunks.pending import Pending
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
    """A payload that is being decoded.

    pending : the C-contiguous chunk, an array or a tensor
    fortran : the chunk was F-contiguous
    kept : the chunk is a tensor on the device that was asked for
    """

    pending: "Pending[npt.NDArray[Any] | Tensor]"
    fortran: bool
    kept: bool = False

    def result(self, copy: bool = True) -> npt.NDArray[Any]:
        """What `decode` returns; waits for it, and raises its errors.

        copy : so that it does not keep the other chunks of its batch in memory
        """
        found = self.pending.result()
        array = found if isinstance(found, np.ndarray) else found.cpu().numpy()
        if self.fortran:
            return np.asfortranarray(array)
        return array.copy() if copy and self.pending.begun else array

    def tensor(self, copy: bool = True) -> "Tensor":
        """The same as a tensor, on the device where it was kept there; for this thread's stream.

        copy : as for `result`
        """
        import torch

        found = self.pending.result()
        if isinstance(found, np.ndarray):
            return torch.from_numpy(found)
        if found.is_cuda:
            found.record_stream(torch.cuda.current_stream(found.device))
        return found.clone() if copy and self.pending.begun else found


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
        return Decoding(Pending(partial(_fill, payload, axes)), header.fortran)
    if isinstance(payload, AutoencoderPayload):
        from .autoencoder import codec  # here, because it imports torch

        return Decoding(codec.start_decode(payload, axes, Spec.parse(weights), gpu, keep), header.fortran, keep)
    from .overfitted import codec as overfitted

    return Decoding(Pending(partial(overfitted.decode, payload, axes, network)), header.fortran)


def _fill(payload: families.Payload, axes: Axes) -> npt.NDArray[Any]:
    header = payload.header
    colour = np.frombuffer(payload.colour, header.numpy_dtype.newbyteorder("<")).astype(header.dtype)
    return planes.fill(colour, header.shape, axes)
