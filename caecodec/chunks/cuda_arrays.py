"""Arrays on a GPU, such as cupy's, which zarr.config.enable_gpu() makes of chunks and bytes <-> tensors of the same memory."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def is_cuda(array: Any) -> bool:
    """Whether an array is on a GPU."""
    return hasattr(array, "__cuda_array_interface__")


def from_cuda(array: Any) -> "Tensor":
    """An array on a GPU as a tensor of the same memory, in the order of this thread's streams."""
    import torch

    tensor: Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor


def to_cuda(tensor: "Tensor") -> Any:
    """A tensor on the GPU as a cupy array of the same memory; one on the CPU as a copy."""
    import cupy  # here, because it is there only where somebody uses it

    return cupy.from_dlpack(tensor) if tensor.is_cuda else cupy.asarray(tensor.numpy())
