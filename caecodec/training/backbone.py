"""The network that is trained: one backbone for several qualities, and a rate that follows from the channels before.

    x ── conv, modulate ── GDN ── ... ── conv, modulate ── y + noise ── scale ── conv', modulate ── IGDN ── ... ── x_hat
                                                            └─ bits of each channel, given |y| of the channels before it

A modulation is a scale and a shift per channel and quality; they fold into the convolutions, so every quality becomes a plain
FactorizedPrior (weights.fold). The rate is that of a logistic whose scale is a non-negative linear function of the magnitudes
of earlier channels, at the same place and in the 3x3 mean: a differentiable form of context coding (FORMAT.md, 7).
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bitstream.header import METRICS
from ..models.compressai import BETA_MINIMUM, PEDESTAL

LAYERS = 4
LOW_QUALITIES = 5  # up to this quality networks are narrow
METRIC_IDS = {name: number for number, name in METRICS.items()}
CLIP = 8.0
_SMALLEST_LIKELIHOOD = 1e-7


class _LowerBound(torch.autograd.Function):
    """max(x, bound), through which gradients pass that move x up (as CompressAI's)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) with a gradient that can leave the bound."""
    result: Tensor = _LowerBound.apply(x, bound)
    return result


class _Normalise(torch.autograd.Function):
    """x / sqrt(beta + gamma x^2), or the product, over rows (n, channels): fewer passes over memory than autograd's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
        norm = torch.addmm(beta, x * x, gamma.t())
        factor = norm.sqrt_() if inverse else norm.rsqrt_()
        ctx.save_for_backward(x, gamma, factor)
        ctx.inverse = inverse
        return x * factor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (x, gamma, factor), (gradient,) = ctx.saved_tensors, gradients
        slope = gradient * x  # becomes the gradient of the norm, but for a factor of +-1/2
        slope = slope.div_(factor) if ctx.inverse else slope.mul_(factor).mul_(factor).mul_(factor)
        half = 0.5 if ctx.inverse else -0.5
        of_x = torch.mm(slope, gamma).mul_(x).mul_(2 * half).addcmul_(gradient, factor)
        return of_x, slope.sum(0) * half, torch.mm(slope.t(), x * x) * half, None


class GDN(nn.Module):
    """Generalised divisive normalisation, its parameters stored as square roots so that they stay non-negative."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(self.stored(torch.ones(channels)))
        self.gamma = nn.Parameter(self.stored(0.002 * torch.eye(channels) + 0.0004))  # off the diagonal zero would stay zero

    @staticmethod
    def stored(value: Tensor) -> Tensor:
        """What is stored for an effective value."""
        return (value + PEDESTAL).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w), channels last -> the same."""
        beta = lower_bound(self.beta, (BETA_MINIMUM + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
        gamma = lower_bound(self.gamma, PEDESTAL**0.5) ** 2 - PEDESTAL
        rows = x.permute(0, 2, 3, 1)
        normalised: Tensor = _Normalise.apply(rows.reshape(-1, x.shape[1]), beta.to(x.dtype), gamma.to(x.dtype), self.inverse)
        return normalised.view(rows.shape).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """A scale exp(s) and a shift b for each quality and channel."""

    def __init__(self, qualities: int, channels: int, shift: bool = True) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(qualities, channels))
        self.b = nn.Parameter(torch.zeros(qualities, channels)) if shift else None


class ConditionalRate(nn.Module):
    """Bits of latents in coding order, each channel's scale following from the magnitudes of those before it."""

    mask: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((channels, 2 * channels), 0.003))
        self.b = nn.Parameter(torch.zeros(channels))
        before = torch.tril(torch.ones(channels, channels), -1)
        self.register_buffer("mask", torch.cat([before, before], 1))

    def bits(self, y: Tensor) -> Tensor:
        """-log2 of the probability of each value of y (n, M, h, w), noisy or rounded."""
        magnitude = y.abs().clamp(max=CLIP)
        known = torch.cat([magnitude, F.avg_pool2d(magnitude, 3, 1, 1, count_include_pad=False)], 1)
        weight = lower_bound(self.w, 0.0) * self.mask
        scale = F.conv2d(known, weight[:, :, None, None], F.softplus(self.b) + 0.05).clamp(0.08, 64)
        size = y.abs()
        likelihood = torch.sigmoid((0.5 - size) / scale) - torch.sigmoid((-0.5 - size) / scale)
        return -torch.log2(lower_bound(likelihood, _SMALLEST_LIKELIHOOD))


class Backbone(nn.Module):
    """The trainable network of these qualities, 128 hidden and 192 latent channels wide for 1 to 5, 192 and 320 from 6.

    Its state dict is what `caecodec export` reads. Methods take the index of a quality in `qualities`. The layers between
    the outermost ones compute in `dtype`.
    """

    order: Tensor
    qualities: Tensor
    ga: Any  # lists of layers, whose types nn.ModuleList does not say
    gs: Any
    gan: Any
    gsn: Any
    fa: Any
    fs: Any
    cond: Any

    def __init__(self, qualities: tuple[int, ...], metric: str = "mse", dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        hidden, latent = (128, 192) if qualities[0] <= LOW_QUALITIES else (192, 320)
        self.hidden, self.latent, self.dtype = hidden, latent, dtype
        count = len(qualities)
        down, up = (3, hidden, hidden, hidden, latent), (latent, hidden, hidden, hidden, 3)
        self.ga = nn.ModuleList(nn.Conv2d(i, o, 5, 2, 2) for i, o in pairwise(down))
        self.gs = nn.ModuleList(nn.ConvTranspose2d(i, o, 5, 2, 2, 1) for i, o in pairwise(up))
        self.gan = nn.ModuleList(GDN(hidden) for _ in range(LAYERS - 1))
        self.gsn = nn.ModuleList(GDN(hidden, inverse=True) for _ in range(LAYERS - 1))
        self.fa = nn.ModuleList(Modulation(count, channels) for channels in down[1:])
        self.fi = Modulation(count, latent, shift=False)
        self.fs = nn.ModuleList(Modulation(count, channels) for channels in up[1:])
        self.cond = nn.ModuleList(ConditionalRate(latent) for _ in range(count))
        self.register_buffer("order", torch.arange(latent))
        self.register_buffer("qualities", torch.tensor(qualities))
        self.register_buffer("metric", torch.tensor(METRIC_IDS[metric]))

    def analysis(self, x: Tensor, quality: int) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> latents (n, M, h/16, w/16), float32."""
        for i, (conv, modulation) in enumerate(zip(self.ga, self.fa, strict=True)):
            scale = modulation.s[quality].exp()
            weight, bias = conv.weight * scale[:, None, None, None], conv.bias * scale + modulation.b[quality]
            dtype = torch.float32 if i == LAYERS - 1 else self.dtype
            x = F.conv2d(x.to(dtype), _last(weight, dtype), bias.to(dtype), 2, 2)
            if i < LAYERS - 1:
                x = self.gan[i](x)
        return x

    def synthesis(self, y: Tensor, quality: int) -> Tensor:
        """Latents (n, M, h/16, w/16), float32 -> images (n, 3, h, w), float32."""
        for i, (conv, modulation) in enumerate(zip(self.gs, self.fs, strict=True)):
            scale = modulation.s[quality].exp()
            weight, bias = conv.weight * scale[:, None, None], conv.bias * scale + modulation.b[quality]
            if i == 0:
                weight = weight * self.fi.s[quality].exp()[:, None, None, None]
            dtype = torch.float32 if i == 0 else self.dtype
            y = F.conv_transpose2d(y.to(dtype), _last(weight, dtype), None, 2, 2, 1)
            if i < LAYERS - 1:
                y = self.gsn[i]((y + bias.to(dtype)[:, None, None]).to(self.dtype))
        images: Tensor = y.float() + bias[:, None, None]  # pixels in half precision would be half a grey level off
        return images

    def bits(self, y: Tensor, quality: int) -> Tensor:
        """Estimated bits of each value of latents (n, M, h, w), in coding order."""
        rate = self.cond[quality]
        assert isinstance(rate, ConditionalRate)
        return rate.bits(y[:, self.order])


def _last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype, memory_format=torch.channels_last)
