"""The network in training: one backbone for several qualities.

    x ── stages ── conv, modulate ── y ── round ── scale ── conv, sub-pixel ── stages ── x_hat
                                      └─ + noise ── bits of each channel, given earlier ones

A modulation is a scale and a shift per channel and quality, of the second convolution of a residual block and of the latents;
later it folds into the convolution (file.fold). At first a residual block is its shortcut alone, since its second convolution
is zero, and where the resolution stays the same that is the identity. An attention module is the identity as well.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....bitstream.autoencoder import METRICS
from ... import rate
from ...factorized.training.backbone import TrainableGDN
from ...factorized.training.normalise import EAGER, Pointwise
from ..architecture import ANALYSIS, BRANCH, SYNTHESIS, Kind, stages
from ..network import SLOPE, sub_pixels

METRIC_IDS = {name: number for number, name in METRICS.items()}


class ModulatedConv(nn.Module):
    """The kernel of a 3x3 convolution, with a scale exp(s) and a shift b of its outputs for each quality."""

    def __init__(self, qualities: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) * (9 * inputs) ** -0.5)
        self.s = nn.Parameter(torch.zeros(qualities, outputs))
        self.b = nn.Parameter(torch.zeros(qualities, outputs))

    def sums(self, x: Tensor, stride: int = 1) -> Tensor:
        """The convolution alone, in the dtype of x."""
        return F.conv2d(x, self.weight.to(x.dtype, memory_format=torch.channels_last), None, stride, 1)


class TrainableResidual(nn.Module):
    """A `network.ResidualBlock` in training."""

    def __init__(self, qualities: int, kind: Kind, inputs: int, outputs: int, inverse: bool) -> None:
        super().__init__()
        stride, first = (2 if kind == "down" else 1), (4 * outputs if kind == "up" else outputs)
        self.up = kind == "up"
        self.conv_in = nn.Conv2d(inputs, first, 3, stride, 1)
        self.conv_out = ModulatedConv(qualities, outputs, outputs)
        self.norm = TrainableGDN(outputs, inverse)
        self.shortcut = nn.Conv2d(inputs, first, stride, stride)
        with torch.no_grad():
            self.conv_out.weight.zero_()
            self.shortcut.bias.zero_()  # type: ignore[union-attr]  # this layer has a bias
            if kind == "residual":
                nn.init.dirac_(self.shortcut.weight)
            else:
                nn.init.orthogonal_(self.shortcut.weight)

    def forward(self, x: Tensor, quality: Tensor, parts: Pointwise) -> Tensor:
        """Map x (n, inputs, h, w) to (n, outputs, h, w), half or twice as high and wide in "down" and "up"."""
        sums = self.conv_out.sums(F.leaky_relu(self._upsampled(convolved(x, self.conv_in)), SLOPE))
        normalised = self.norm(sums, self.conv_out.s[quality].exp(), self.conv_out.b[quality], parts)
        result: Tensor = normalised + self._upsampled(convolved(x, self.shortcut))
        return result

    def _upsampled(self, x: Tensor) -> Tensor:
        return sub_pixels(x) if self.up else x


class TrainableAttention(nn.Module):
    """A `network.Attention` in training: at first the gate is a half, and the shortcut brings the other half."""

    def __init__(self, qualities: int, channels: int, inverse: bool) -> None:
        super().__init__()
        self.trunk, self.mask = (
            nn.ModuleList(TrainableResidual(qualities, "residual", channels, channels, inverse) for _ in range(BRANCH))
            for _ in range(2)
        )
        self.gate = nn.Conv2d(channels, channels, 1)
        self.shortcut = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            for layer in (self.gate, self.shortcut):
                layer.weight.zero_()
                layer.bias.zero_()  # type: ignore[union-attr]  # this layer has a bias
            self.shortcut.weight += 0.5 * torch.eye(channels)[:, :, None, None]

    def forward(self, x: Tensor, quality: Tensor, parts: Pointwise) -> Tensor:
        """Map x (n, channels, h, w) to the same shape."""
        trunk = mask = x
        for block in self.trunk:
            trunk = block(trunk, quality, parts)
        for block in self.mask:
            mask = block(mask, quality, parts)
        return torch.addcmul(convolved(x, self.shortcut), convolved(mask, self.gate).sigmoid(), trunk)


class ResidualAttentionBackbone(nn.Module):
    """The trainable network for `qualities`; `caecodec export` reads its state dict.

    Methods take `quality`, int64 (n,): the index of each sample's quality in `qualities`. All layers but those of pixels and
    latents compute in `dtype`.

    hidden, latent : the numbers of channels N and M
    """

    order: Tensor
    qualities: Tensor
    g_a: Any  # modules by name; nn.ModuleDict does not declare their types
    g_s: Any

    def __init__(
        self,
        hidden: int,
        latent: int,
        qualities: tuple[int, ...],
        metric: str = "mse",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        count = len(qualities)
        self.dtype, self.parts = dtype, EAGER
        self.g_a = nn.ModuleDict(_modules(ANALYSIS, hidden, count, inverse=False))
        self.g_a["latent"] = ModulatedConv(count, hidden, latent)
        self.g_s = nn.ModuleDict(_modules(SYNTHESIS, hidden, count, inverse=True))
        self.g_s["latent"] = nn.Conv2d(latent, 4 * hidden, 3, 1, 1)
        self.latent_scale = nn.Parameter(torch.zeros(count, latent))
        self.cond = nn.ModuleList(rate.ConditionalRate(latent) for _ in range(count))
        self.register_buffer("order", torch.arange(latent))
        self.register_buffer("qualities", torch.tensor(qualities))
        self.register_buffer("metric", torch.tensor(METRIC_IDS[metric]))

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.analysis`."""
        x = x.to(self.dtype, memory_format=torch.channels_last)
        for number in range(len(ANALYSIS)):
            x = self.g_a[str(number)](x, quality, self.parts)
        last = self.g_a["latent"]
        scale, shift = last.s[quality].exp()[:, :, None, None], last.b[quality][:, :, None, None]
        latents: Tensor = torch.addcmul(shift, last.sums(x.float(), 2), scale)
        return latents

    def synthesis(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.synthesis`."""
        y = (y * self.latent_scale[quality].exp()[:, :, None, None]).contiguous(memory_format=torch.channels_last)
        x = sub_pixels(convolved(y, self.g_s["latent"])).to(self.dtype)
        *inner, last = (self.g_s[str(number)] for number in range(len(SYNTHESIS)))
        for module in inner:
            x = module(x, quality, self.parts)
        images: Tensor = last(x.float(), quality, self.parts)  # in half precision, pixels would be wrong by half a level
        return images

    def bits(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.bits`."""
        return rate.bits(self, y, quality)

    def learning_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """See `TrainableNetwork.learning_groups`."""
        return rate.learning_groups(self, lambda name: not name.endswith((".s", ".b", "latent_scale")))

    def use_compiled(self, compiled: bool) -> None:
        """See `TrainableNetwork.use_compiled`."""
        self.parts = EAGER.compiled() if compiled else EAGER


def convolved(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """A convolution in the dtype of x."""
    assert layer.bias is not None
    weight = layer.weight.to(x.dtype, memory_format=torch.channels_last)
    return F.conv2d(x, weight, layer.bias.to(x.dtype), layer.stride, layer.padding)


def _modules(kinds: tuple[Kind, ...], hidden: int, count: int, inverse: bool) -> dict[str, nn.Module]:
    return {
        name: TrainableAttention(count, hidden, inverse)
        if kind == "attention"
        else TrainableResidual(count, kind, inputs, outputs, inverse)
        for name, kind, inputs, outputs in stages(kinds, hidden)
    }
