"""GDN's kernel against its formula in float64.

On a GPU or, with TRITON_INTERPRET=1, in Triton's interpreter: `PYTHONPATH=.:tests python tests/device/check_norm.py cuda`.
"""

import itertools
import sys

import torch

from caecodec.models.factorized import fused

# Relative: float32 sums of 192 products; TF32, of which the GPU drops the last bits; bfloat16, which the interpreter truncates.
EXACT, TF32, BFLOAT16 = 1e-5, 2e-3, 2.0**-7
LAYOUTS = (torch.contiguous_format, torch.channels_last)
TYPES = (torch.float32, torch.bfloat16)


def formula(x, bias, gamma, beta, inverse):
    values = x.double() if bias is None else x.double() + bias.double()[:, None, None]
    norm = beta.double()[:, None, None] + torch.einsum("ij,njyx->niyx", gamma[:, :, 0, 0].double(), values**2)
    return values * norm.sqrt() if inverse else values / norm.sqrt()


def check(on, channels, shapes):
    torch.manual_seed(channels)
    gamma, beta = torch.rand(channels, channels, 1, 1, device=on) / 10, torch.rand(channels, device=on) + 0.5
    biases = None, torch.randn(channels, device=on)
    for shape, inverse, bias, *types, layout in itertools.product(shapes, (False, True), biases, TYPES, TYPES, LAYOUTS):
        x = 3 * torch.randn(shape[0], channels, *shape[1:], device=on)
        x = x.to(types[0]).contiguous(memory_format=layout)
        before = x.clone()
        found = fused.normalise(x, bias, gamma, beta, inverse, types[1])
        assert found.dtype == types[1]
        assert found.permute(0, 2, 3, 1).is_contiguous()
        assert torch.equal(x, before)
        wide = on == "cpu" or torch.bfloat16 not in types
        rounding = (EXACT if wide else TF32) + (BFLOAT16 if types[1] == torch.bfloat16 else 0)
        expected = formula(x, bias, gamma, beta, inverse)
        torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=1e-9)
    x = torch.zeros(1, channels, 1, 2, device=on)
    x[0, channels - 1, 0, 0] = torch.nan
    broken = fused.normalise(x, None, gamma, beta, True, torch.float32).isnan()
    assert broken.any(1).tolist() == [[[True, False]]]  # of this position alone


def main(on):
    check(on, 7, [(1, 1, 1), (2, 5, 3)])
    for channels in (128, 192):
        check(on, channels, [(3, 250, 301)] if on == "cuda" else [(2, 5, 7)])
    print("same values")


if __name__ == "__main__":
    main(sys.argv[1])
