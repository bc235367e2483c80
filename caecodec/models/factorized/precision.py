"""Which convolutions run in bfloat16, and weights for it.

bfloat16 has eight bits, and dot products of it take half the time or less of float32's on processors that have them. Most
of the arithmetic is in two layers on each side; all else, GDN included, stays in float32.
"""

import torch
from torch import Tensor

LAYERS = frozenset({"g_a.2", "g_a.4", "g_s.2", "g_s.4"})
# By quality, as tests/benchmarks/precision.py measures it on Kodak: encoder and decoder together lose less than 0.02 dB.
_AUTO = {7: LAYERS - {"g_s.2"}, 8: frozenset({"g_a.2"})}
_GPU_BFLOAT16 = (8, 0)  # compute capability


def layers(precision: str, quality: int, device: str) -> frozenset[str]:
    """The convolutions to run in bfloat16, by their names in the state dict.

    precision : of the settings; "auto" is none but on a processor or GPU that has such dot products
    """
    if precision == "auto":
        there = processor_has_bfloat16() if device == "cpu" else torch.cuda.get_device_capability(device) >= _GPU_BFLOAT16
        return _AUTO.get(quality, LAYERS) if there else frozenset()
    return LAYERS if precision == "bf16" else frozenset()


def processor_has_bfloat16() -> bool:
    """Whether the processor has instructions for dot products in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported()


def rounded(weight: Tensor, stride: int) -> Tensor:
    """A kernel (..., rows, columns) in bfloat16; what rounding takes from one tap is given to the next.

    So the sum of the taps, which is what smooth images see, stays the same but for one rounding.

    stride : of taps that meet the same output: 2 in a transposed convolution of that stride, else 1
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
