"""Chooses the convolutions that run in bfloat16, and rounds their weights.

bfloat16 has eight bits of precision, and on processors that support it dot products take at most half as long as in float32.
Most of the arithmetic is in two layers on each side; everything else, including GDN, stays in float32. On a GPU, though, the
matrix products of GDN before and after such layers are in TF32, which adds 0.001 dB to the loss.
"""

import torch
from torch import Tensor

from ..bfloat16 import wanted

LAYERS = frozenset({"g_a.2", "g_a.4", "g_s.2", "g_s.4"})
# With these layers, encoder and decoder together lose less than 0.02 dB on Kodak (tests/benchmarks/precision.py).
_AUTO = {8: LAYERS - {"g_a.4"}}


def layers(precision: str, quality: int, device: str) -> frozenset[str]:
    """Names, as in the state dict, of the convolutions to run in bfloat16; `precision` is as in the settings."""
    if not wanted(precision, device):
        return frozenset()
    return _AUTO.get(quality, LAYERS) if precision == "auto" else LAYERS


def rounded(weight: Tensor, stride: int) -> Tensor:
    """Round a kernel (..., rows, columns) to bfloat16, and carry the rounding error of each tap over to the next.

    So the sum of the taps, which determines the result on smooth images, changes by one rounding only.

    stride : distance of taps that contribute to the same output; 2 in a transposed convolution of stride 2, else 1
    """
    out = torch.empty_like(weight, dtype=torch.bfloat16)
    height, width = weight.shape[-2:]
    for phase in range(stride * stride):
        rows, columns = range(phase // stride, height, stride), range(phase % stride, width, stride)
        left = torch.zeros_like(weight[..., 0, 0])
        for i, row in enumerate(rows):
            for column in columns[:: -1 if i % 2 else 1]:
                wanted = weight[..., row, column] + left
                out[..., row, column] = wanted
                left = wanted - out[..., row, column]
    return out
