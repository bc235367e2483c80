"""The bmshj2018-factorized autoencoder (Ballé et al., 2018, https://arxiv.org/abs/1802.01436), folded for inference.

    x ── conv GDN conv GDN conv GDN conv ── y ── round ── symbols ── conv' IGDN conv' IGDN conv' IGDN conv' ── x_hat

Every conv is 5x5 with stride 2, and every conv' is its transposed mirror. The layers and state-dict names are those of
CompressAI's FactorizedPrior, but GDN holds its effective beta and gamma, and everything runs channels-last. On a CPU the
layers above a quarter of the resolution run in strips of rows that stay in cache; on a GPU a kernel makes GDN one pass.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused
from .precision import rounded

MAX_SYMBOL = 2**23
# On a CPU every call allocates large tensors anew, which costs more than the arithmetic on them; so work in parts.
BLOCK_PIXELS = 2**12
STRIP_PIXELS = 2**13  # at half the resolution, of N float32 channels: 4 MB for N = 128


def in_parts(device: torch.device) -> bool:
    """Whether to work in parts that stay in cache: on a CPU."""
    return device.type == "cpu"


def by_kernel(device: torch.device) -> bool:
    """Whether a kernel computes GDN: on a GPU, if Triton is installed."""
    return not in_parts(device) and fused.available()


class GDN(nn.Module):
    """Generalised divisive normalisation y = x / sqrt(beta + gamma x^2), or its inverse (https://arxiv.org/abs/1511.06281)."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels, channels, 1, 1))

    def forward(self, x: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Normalise x (n, channels, h, w), after adding the bias if there is one; computes in float32.

        The result has this dtype, by default that of x. It may reuse the memory of x if x has the dtype and is channels-last.
        """
        if by_kernel(x.device):
            return fused.normalise(x, bias, self.gamma, self.beta, self.inverse, dtype or x.dtype)
        n, channels, height, width = x.shape
        # Make sixteen images of one: with fewer, a single thread does not use oneDNN and takes twice as long.
        images = 16 if n * height * width % 16 == 0 else 1
        flat = x.permute(0, 2, 3, 1).reshape(images, 1, -1, channels)
        out = flat if dtype in (None, x.dtype) else torch.empty_like(flat, dtype=dtype)
        size = BLOCK_PIXELS // images if in_parts(x.device) else flat.shape[2]
        for block, target in zip(torch.split(flat, size, 2), torch.split(out, size, 2), strict=True):
            values = block.float() if bias is None else block + bias
            norm = F.conv2d((values * values).permute(0, 3, 1, 2), self.gamma, self.beta).permute(0, 2, 3, 1)
            torch.mul(values, norm.sqrt_() if self.inverse else norm.rsqrt_(), out=target)
        return out.view(n, height, width, channels).permute(0, 3, 1, 2)


def convolve(x: Tensor, layer: Any, norm: GDN, dtype: torch.dtype, **geometry: Any) -> Tensor:
    """Run a convolution of stride 2 in the precision of its weights, then the norm, whose result has this dtype."""
    run = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv_transpose2d
    # The norm adds a bias of another precision than the weights, and in a kernel any bias, which PyTorch would add in a pass.
    apart = layer.weight.dtype != torch.float32 or by_kernel(x.device)
    sums = run(x, layer.weight, None if apart else layer.bias, stride=2, **geometry)
    result: Tensor = norm(sums, layer.bias if apart else None, dtype)
    return result


def sub_pixel(weight: Tensor) -> Tensor:
    """Turn the kernel of a transposed conv (inputs, outputs, 5, 5) into that of a 3x3 conv (4 * outputs, inputs, 3, 3).

    This conv followed by pixel_shuffle(2) equals the transposed conv of stride 2; for few outputs it is much faster on a CPU.
    """
    # Row 2 m + p of the output uses taps 2 j + p of input rows m + 1 - j for j = 0, 1, 2; there is no tap 5.
    inputs, outputs = weight.shape[:2]
    phases = F.pad(weight, (0, 1, 0, 1)).view(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
    kernel = phases.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
    return kernel.contiguous(memory_format=torch.channels_last)


def strips(rows: int, pixels: int) -> Iterator[tuple[int, int]]:
    """Cut rows (a multiple of 4, with this many pixels) into [start, stop) of about STRIP_PIXELS."""
    count = min(rows // 4, -(-pixels // STRIP_PIXELS))
    for i in range(count):
        yield rows * i // count, rows * (i + 1) // count


def _stack(above: Tensor | None, strip: Tensor, border: int, last: bool) -> Tensor:
    """Stack a strip (n, c, rows, w) below rows of the one above, and `border` rows of zeros at both ends of the image."""
    zeros = torch.zeros_like(strip[:, :, :border])
    return torch.cat([zeros if above is None else above, strip, *([zeros] if last else [])], 2)


class FactorizedPrior(nn.Module):
    """The network of one quality, for inference only.

    hidden, latent : channel counts N and M, (128, 192) for quality 1 to 5 and (192, 320) for 6 to 8
    """

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden, self.latent = hidden, latent

        def conv(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)

        def deconv(inputs: int, outputs: int) -> nn.Module:
            return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)

        self.g_a: Any = nn.Sequential(
            conv(3, hidden), GDN(hidden), conv(hidden, hidden), GDN(hidden),
            conv(hidden, hidden), GDN(hidden), conv(hidden, latent),
        )  # fmt: skip
        self.g_s: Any = nn.Sequential(
            deconv(latent, hidden), GDN(hidden, inverse=True), deconv(hidden, hidden), GDN(hidden, inverse=True),
            deconv(hidden, hidden), GDN(hidden, inverse=True), deconv(hidden, 3),
        )  # fmt: skip
        self.medians = nn.Parameter(torch.zeros(latent))

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]]) -> "FactorizedPrior":
        """Build a network with exactly these parameters, named as in the state dict."""
        hidden, latent = len(tensors["g_a.0.weight"]), len(tensors["g_a.6.weight"])
        with torch.device("meta"):
            network = cls(hidden, latent)
        state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def reduce_precision(self, layers: Iterable[str]) -> None:
        """Run these of the inner convolutions of g_a and g_s in bfloat16."""
        for name in layers:
            layer: Any = self.get_submodule(name)
            weight = rounded(layer.weight, 2 if isinstance(layer, nn.ConvTranspose2d) else 1)
            layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)

    def analysis(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1], h and w multiples of 16 -> integer symbols (n, M, h/16, w/16), int32."""
        return self.latents(images).round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL).to(torch.int32)

    def latents(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> the latents (n, M, h/16, w/16) that `analysis` rounds."""
        third, norm, last = self.g_a[4:]
        hidden = convolve(self._shallow_analysis(images), third, norm, last.weight.dtype, padding=2)
        latents: Tensor = last(hidden) - self.medians[:, None, None]
        return latents

    def synthesis(self, symbols: Tensor) -> Tensor:
        """Symbols (n, M, h/16, w/16), int32 -> images (n, 3, h, w) in about [0, 1], not clipped."""
        latents = (symbols.float() + self.medians[:, None, None]).contiguous(memory_format=torch.channels_last)
        first, first_norm, second, norm, third = self.g_s[:5]
        hidden = convolve(latents, first, first_norm, second.weight.dtype, padding=2, output_padding=1)
        return self._shallow_synthesis(convolve(hidden, second, norm, third.weight.dtype, padding=2, output_padding=1))

    def _shallow_analysis(self, images: Tensor) -> Tensor:
        """Run g_a[:4], in strips on a CPU: images (n, 3, h, w) -> (n, N, h/4, w/4)."""
        first, norm, second, second_norm, third = self.g_a[:5]
        if not in_parts(images.device):
            hidden = convolve(images, first, norm, second.weight.dtype, padding=2)
            return convolve(hidden, second, second_norm, third.weight.dtype, padding=2)
        n, _, height, width = images.shape
        padded = F.pad(images, (0, 0, 2, 2))
        above: Tensor | None = None
        parts = []
        for start, stop in strips(height // 4, n * height * width // 4):
            strip = padded[:, :, 4 * start : 4 * stop + 3]
            strip = convolve(strip, first, norm, second.weight.dtype, padding=(0, 2))
            strip = _stack(above, strip, 2, stop == height // 4)
            above = strip[:, :, -4:].clone()
            parts.append(convolve(strip, second, second_norm, third.weight.dtype, padding=(0, 2)))
            del strip  # its memory is the next one's
        return torch.cat(parts, 2)

    def _shallow_synthesis(self, hidden: Tensor) -> Tensor:
        """Run g_s[4:], in strips on a CPU: (n, N, h/4, w/4) -> images (n, 3, h, w)."""
        layer, norm, last = self.g_s[4:]
        n, _, rows, width = hidden.shape
        kernel, bias = sub_pixel(last.weight), last.bias.repeat_interleave(4)
        if not in_parts(hidden.device):
            hidden = convolve(hidden, layer, norm, kernel.dtype, padding=2, output_padding=1)
            return F.pixel_shuffle(F.conv2d(hidden, kernel, bias, padding=1), 2)
        padded = F.pad(hidden, (0, 0, 1, 1))
        above: Tensor | None = None
        parts = []
        for start, stop in strips(rows, n * rows * width * 4):
            strip = padded[:, :, start : stop + 2]
            # Padding 4 drops the rows without a neighbour; an odd number of rows would be slower by a third.
            strip = convolve(strip, layer, norm, kernel.dtype, padding=(4, 2), output_padding=1)
            strip = _stack(above, strip, 1, stop == rows)
            above = strip[:, :, -2:].clone()
            parts.append(F.pixel_shuffle(F.conv2d(strip, kernel, bias, padding=(0, 1)), 2))
            del strip  # its memory is the next one's
        return torch.cat(parts, 2)
