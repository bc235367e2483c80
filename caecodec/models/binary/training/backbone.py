"""The network in training: one backbone for several qualities.

    x ── conv, norm, modulate ── ReLU ── ... ── y ── tanh ── bits ── conv', norm, modulate ── ReLU ── ... ── x_hat
                                                             └─ rate of each pair of bits, given earlier pairs

The norm is batch normalisation, a modulation is a scale and a shift per channel and quality; both fold into the convolution
before them (file.fold). A bit is 1 with the probability (1 + tanh y) / 2, or else -1, and gradients pass straight through
to the tanh (Toderici et al. 2016, arXiv:1511.06085). Inference takes the sign of y. Each quality uses the first of the
channels, as many as ACTIVE says, and the others are 0.
"""

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....bitstream.autoencoder import METRICS
from ..file import COLOURS, EPSILON, KERNEL

HIDDEN = (32, 64)
BITS = 128
ACTIVE = (8, 16, 24, 32, 48, 64, 96, 128)  # bits at each position of a quality from 1 to 8
METRIC_IDS = {name: number for number, name in METRICS.items()}
RENORM_SCALE, RENORM_SHIFT = (1 / 3, 3), (-5, 5)
KEEP = 0.999  # of the running statistics, as of the running average of the parameters (training.loop)


class NormalisedConvolution(nn.Module):
    """A 5x5 convolution of stride 2, or a transposed one; then norm and modulation."""

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, qualities: int, inputs: int, outputs: int, transposed: bool = False, normalised: bool = True) -> None:
        super().__init__()
        self.transposed, self.normalised = transposed, normalised
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        taps = inputs * KERNEL**2 / (4 if transposed else 1)
        self.weight = nn.Parameter(torch.randn(*shape, KERNEL, KERNEL) * taps**-0.5)
        self.s = nn.Parameter(torch.zeros(qualities, outputs))
        self.b = nn.Parameter(torch.zeros(qualities, outputs))
        if normalised:
            self.register_buffer("mean", torch.zeros(outputs))
            self.register_buffer("variance", torch.ones(outputs))
            self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Map x (n, inputs, h, w) to half or twice the height and width."""
        weight = self.weight.contiguous(memory_format=torch.channels_last)
        x = F.conv_transpose2d(x, weight, None, 2, 2, 1) if self.transposed else F.conv2d(x, weight, None, 2, 2)
        if self.normalised:
            x = self._normalise(x)
        return torch.addcmul(self.b[quality][:, :, None, None], x, self.s[quality].exp()[:, :, None, None])

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise x (n, outputs, h, w) by running statistics, as inference does, with the gradient of a batch's own.

        This is batch renormalisation (Ioffe 2017, arXiv:1702.03275). Otherwise the brightness of an image would depend on its
        batch.
        """
        if self.training:
            x, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, EPSILON)
            with torch.no_grad():
                variance = inverse.pow(-2) - EPSILON
                new = 1 - ((1 + self.seen) / (10 + self.seen)).clamp(max=KEEP)
                self.mean.lerp_(mean, new)
                self.variance.lerp_(variance, new)
                self.seen.add_(1)
                running = (self.variance + EPSILON).rsqrt()
                scale, shift = (running / inverse).clamp(*RENORM_SCALE), ((mean - self.mean) * running).clamp(*RENORM_SHIFT)
            return torch.addcmul(shift[:, None, None], x, scale[:, None, None])
        return F.batch_norm(x, self.mean, self.variance, eps=EPSILON)


class PairRate(nn.Module):
    """The probability that the two bits of a pair are equal: logistic in the same of earlier pairs, and in its 3x3 mean."""

    mask: Tensor

    def __init__(self, qualities: int, pairs: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(qualities, pairs, 2 * pairs))
        self.b = nn.Parameter(torch.zeros(qualities, pairs))
        before = torch.tril(torch.ones(pairs, pairs), -1)
        self.register_buffer("mask", torch.cat([before, before], 1))

    def forward(self, equal: Tensor, quality: Tensor) -> Tensor:
        """-log2 of the probability of each value of equal (n, M, h, w), 0 or 1."""
        known = torch.cat([equal, F.avg_pool2d(equal, 3, 1, 1, count_include_pad=False)], 1).flatten(2)
        logit = torch.baddbmm(self.b[quality][..., None], (self.w * self.mask)[quality], known).view(equal.shape)
        return (F.softplus(logit) - logit * equal) / math.log(2)


class BinaryBackbone(nn.Module):
    """The trainable network for `qualities`; `caecodec export` reads its state dict.

    Methods take `quality`, int64 (n,): the index of each sample's quality in `qualities`. Latents are bits (n, 2 M, h/8, w/8).
    """

    active: Tensor
    qualities: Tensor
    g_a: Any  # lists of layers; nn.ModuleList does not declare their types
    g_s: Any

    def __init__(
        self, qualities: tuple[int, ...], metric: str = "mse", hidden: tuple[int, int] = HIDDEN, bits: int = BITS
    ) -> None:
        super().__init__()
        count, widths = len(qualities), (COLOURS, *hidden, bits)
        self.g_a = nn.ModuleList(NormalisedConvolution(count, i, o) for i, o in pairwise(widths))
        self.g_s = nn.ModuleList(
            NormalisedConvolution(count, i, o, transposed=True, normalised=o != COLOURS) for i, o in pairwise(widths[::-1])
        )
        with torch.no_grad():  # bits that are seldom by chance, and grey images
            self.g_a[-1].s.fill_(1.0)
            self.g_s[-1].s.fill_(math.log(0.1))
            self.g_s[-1].b.fill_(0.5)
        self.latent_scale = nn.Parameter(torch.zeros(count, bits))  # logarithm
        self.pair_rate = PairRate(count, bits // 2)
        used = torch.tensor([[ACTIVE[quality - 1] * bits // (2 * BITS)] for quality in qualities])
        self.register_buffer("active", (torch.arange(bits // 2) < used).to(torch.uint8))
        self.register_buffer("qualities", torch.tensor(qualities))
        self.register_buffer("metric", torch.tensor(METRIC_IDS[metric]))

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """Images (n, 3, h, w) -> bits (n, 2 M, h/8, w/8): -1 or 1, or 0 in channels that the quality leaves out."""
        y = self.latents(x, quality)
        expected = y.tanh()
        one = torch.rand_like(y) < (1 + expected) / 2 if self.training else y >= 0
        bits = expected + (2.0 * one - 1 - expected).detach()
        return bits * self._active(quality).repeat_interleave(2, 1)

    def latents(self, x: Tensor, quality: Tensor) -> Tensor:
        """Images (n, 3, h, w) -> the latents (n, 2 M, h/8, w/8) that bits are made of."""
        for i, layer in enumerate(self.g_a):
            x = layer(x.relu() if i else x, quality)
        return x

    def synthesis(self, y: Tensor, quality: Tensor) -> Tensor:
        """Bits (n, 2 M, h/8, w/8) -> images (n, 3, h, w)."""
        y = y * self.latent_scale[quality].exp()[:, :, None, None]
        for i, layer in enumerate(self.g_s):
            y = layer(y.relu() if i else y, quality)
        return y

    def bits(self, y: Tensor, quality: Tensor) -> Tensor:
        """The cost (n, M, h/8, w/8) of each pair of bits, which may have noise: one bit for the sign, and the magnitude's."""
        active = self._active(quality)
        bits = y + (2.0 * (y >= 0) - 1 - y).detach()
        equal = active * (1 + bits[:, 0::2] * bits[:, 1::2]) / 2
        cost: Tensor = active * (1 + self.pair_rate(equal, quality))
        return cost

    def learning_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """See `TrainableNetwork.learning_groups`; the recipe's rate is meant for networks that are trained already."""
        parameters = dict(self.named_parameters())
        slow = [parameter for name, parameter in parameters.items() if name.endswith(".weight")]
        fast = [parameter for name, parameter in parameters.items() if not name.endswith(".weight")]
        return [(5.0, slow), (10.0, fast)]

    def use_compiled(self, compiled: bool) -> None:
        """See `TrainableNetwork.use_compiled`: there is nothing to compile."""

    def _active(self, quality: Tensor) -> Tensor:
        """Which of the pairs each sample uses (n, M, 1, 1), 0 or 1."""
        return self.active[quality].float()[:, :, None, None]
