"""Takes padding off a chunk, and puts it back: rows, columns and planes at its end that have one value.

Zarr fills chunks that reach over the edge of an array with the array's fill value, whatever that is: 65535, -9999, 1e20, NaN.
A codec sees its own chunk alone, neither the array's shape nor, in Zarr v2, its fill value. Therefore whatever ends in one
value counts as padding, bit by bit.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .axes import Axes
from .planes import COLOURS

if TYPE_CHECKING:
    from torch import Tensor


class Padding(NamedTuple):
    """What surrounds the content of a chunk, which is at the start of each axis.

    shape : the shape of the whole chunk
    value : the value of everything behind the content, as an array of shape () of the chunk's dtype
    """

    shape: tuple[int, ...]
    value: npt.NDArray[Any]

    def restore(self, content: "npt.NDArray[Any] | Tensor") -> "npt.NDArray[Any] | Tensor":
        """The whole chunk, C-contiguous, on the device of its content."""
        region = tuple(slice(n) for n in content.shape)
        if isinstance(content, np.ndarray):
            whole = np.full(self.shape, self.value)
            whole[region] = content
            return whole
        import torch

        if content.is_cuda:  # its memory must not be used again before this thread's stream has copied it
            content.record_stream(torch.cuda.current_stream(content.device))
        filled = torch.from_numpy(self.value.reshape(1)).to(content.device).expand(self.shape).clone()
        filled[region] = content
        return filled


def trim(chunk: npt.NDArray[Any], axes: Axes) -> tuple[npt.NDArray[Any], Padding | None]:
    """The content of a chunk, in the chunk's memory order, and its padding; the chunk itself and None if it has none.

    Rows, columns, whole images and channels are padding, except that three channels of uint8 stay together, as RGB, and that a
    single channel of integers costs fewer bytes as a plane of one value. One value alone is none. A chunk all of whose planes
    have one finite value each has no padding: they are exact as they are.
    """
    bits = chunk.view(f"u{chunk.dtype.itemsize}")  # so that NaN is equal to itself, and 0.0 not to -0.0
    corner = chunk[(-1,) * chunk.ndim]
    colours = chunk.dtype == np.uint8 and axes.channels(chunk.shape) == COLOURS
    shape = list(chunk.shape)
    for axis in _ends(bits).nonzero()[0]:
        others = tuple(other for other in range(chunk.ndim) if other != axis)
        inside = (bits != corner.view(bits.dtype)).any(others).nonzero()[0]
        if not len(inside):
            return chunk, None
        margin = shape[axis] - 1 - int(inside[-1])
        kept = axis == axes.channel and (colours or (margin == 1 and chunk.dtype.kind != "f"))
        if not kept and margin * chunk.size > chunk.shape[axis]:
            shape[axis] -= margin
    if shape == list(chunk.shape):
        return chunk, None
    images = axes.images(bits)
    if not colours and np.isfinite(corner) and (images == images[:, :1, :1]).all():
        return chunk, None
    content = chunk[tuple(slice(n) for n in shape)]
    fortran = chunk.flags.f_contiguous and not chunk.flags.c_contiguous
    content = np.asfortranarray(content) if fortran else np.ascontiguousarray(content)  # as a caller would give it alone
    return content, Padding(chunk.shape, np.array(corner))


def trim_tensor(chunk: "Tensor", axes: Axes) -> "tuple[npt.NDArray[Any] | Tensor, Padding | None]":
    """`trim` for a tensor of uint8 on any device; the content of one with padding is an array."""
    if not bool(_ends(chunk).any()):
        return chunk, None
    content, padding = trim(chunk.cpu().numpy(), axes)
    return (chunk, None) if padding is None else (content, padding)


def _ends(chunk: Any) -> Any:
    """For each axis, whether everything at its last position has the value of the last corner; an array or a tensor."""
    corner = chunk[(-1,) * chunk.ndim]
    ends = [(chunk[(slice(None),) * axis + (-1,)] == corner).all() for axis in range(chunk.ndim)]
    if isinstance(chunk, np.ndarray):
        return np.array(ends)
    import torch

    return torch.stack(ends)
