"""Copies between the memory of the CPU and that of a device, through pinned memory, which PyTorch keeps for the next batch.

Only `fetch` waits for the device. A batch calls it once, so that the host can launch all work of a batch ahead.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.profiler import record_function


def send(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def stack(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Stack tensors of one shape, which are in the memory of the CPU, on the device, without waiting for the copy."""
    with record_function("pinned memory"):
        shape, pin = (len(tensors), *tensors[0].shape), device.type == "cuda"
        batch = torch.stack(tensors, out=torch.empty(shape, dtype=tensors[0].dtype, pin_memory=pin))
    with record_function("chunks in"):
        return batch.to(device, non_blocking=True)


def fetch(*tensors: Tensor) -> list[Tensor]:
    """Copy tensors of one device to the memory of the CPU, and wait until the device has done all that was launched before."""
    if not tensors[0].is_cuda:
        return [tensor.cpu() for tensor in tensors]
    with record_function("pinned memory"):
        pinned = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    with record_function("hand-over"):
        for target, tensor in zip(pinned, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return pinned
