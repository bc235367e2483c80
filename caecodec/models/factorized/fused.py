"""GDN on a GPU in one pass: the kernel reads each activation once, and writes its result."""

import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor

TILE = 2**13  # sums of a program, one for each position and channel
STEP = 32  # channels whose squares are multiplied at once
# With these, two programs of 128 channels fit on a multiprocessor, and no register is spilled.
OPTIONS = {"num_warps": 8, "num_stages": 2}


@cache
def available() -> bool:
    """Whether Triton, which the kernel needs, is installed; it comes with PyTorch for CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def load_kernels() -> Any:
    """The module of kernels."""
    from . import kernels  # here, because it imports Triton

    return kernels


def sizes(channels: int) -> dict[str, int]:
    """The sizes for which the kernel is compiled."""
    padded = max(STEP, 1 << (channels - 1).bit_length())
    return {"channels": channels, "padded": padded, "block": max(16, TILE // padded), "step": STEP}


def normalise(x: Tensor, bias: Tensor | None, gamma: Tensor, beta: Tensor, inverse: bool, dtype: torch.dtype) -> Tensor:
    """GDN, or its inverse, of x (n, channels, h, w) + bias, in new channels-last memory of this dtype.

    gamma, beta : (channels, channels, 1, 1) and (channels,) float32

    It computes in float32, but multiplies squares and gamma in TF32 (10 bits of precision) if x or the result is bfloat16.
    """
    n, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()
    out = torch.empty_like(rows, dtype=dtype)
    precision = "tf32" if torch.bfloat16 in (x.dtype, dtype) else "ieee"
    constants = sizes(channels)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # PyTorch does not annotate device_of
        load_kernels().normalise[(-(-len(rows) // constants["block"]),)](
            rows, bias, gamma, beta, out, len(rows), inverse=inverse, precision=precision, **constants, **OPTIONS
        )
    return out.view(n, height, width, channels).permute(0, 3, 1, 2)
