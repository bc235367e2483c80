"""The network in training: one backbone for several qualities, and a rate conditioned on earlier channels.

    x ── conv, modulate ── GDN ── ... ── conv, modulate ── y ── round ── scale ── conv', modulate ── IGDN ── ... ── x_hat
                                                           └─ + noise ── bits of each channel, given earlier ones

A modulation is a scale and a shift per channel and quality. In training it is applied to the output of a convolution, so that
a batch can have samples of all qualities; later it folds into the convolution, and every quality becomes a plain
FactorizedPrior (file.fold). Rounding passes gradients straight through, so the synthesis learns from the latents that it will
decode. The rate assumes a logistic whose scale is a non-negative linear function of the magnitudes of earlier channels, at the
same position and in the 3x3 mean: a differentiable form of context coding (FORMAT.md, 7).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....bitstream.autoencoder import METRICS
from ... import rate
from ..compressai import BETA_MINIMUM, PEDESTAL
from .normalise import EAGER, ModulatedNormalisation, Pointwise

LAYERS = 4
LOW_QUALITIES = 5  # networks are narrow up to this quality
METRIC_IDS = {name: number for number, name in METRICS.items()}


class Width(NamedTuple):
    """The channel counts of a network: N between the layers, and M of the latents."""

    hidden: int
    latent: int


NARROW, WIDE = Width(128, 192), Width(192, 320)


class TrainableGDN(nn.Module):
    """Generalised divisive normalisation, with parameters stored as square roots so that they stay non-negative."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(self.stored(torch.ones(channels)))
        self.gamma = nn.Parameter(self.stored(0.002 * torch.eye(channels) + 0.0004))  # zeros off the diagonal would stay zero

    @staticmethod
    def stored(value: Tensor) -> Tensor:
        """The square root that is stored for an effective value."""
        return (value + PEDESTAL).sqrt()

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor, parts: Pointwise = EAGER) -> Tensor:
        """Multiply x (n, channels, h, w), channels last, by scale and add shift (n, channels); then normalise it."""
        beta = rate.lower_bound(self.beta, (BETA_MINIMUM + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
        gamma = rate.lower_bound(self.gamma, PEDESTAL**0.5) ** 2 - PEDESTAL
        n, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n, height * width, channels).contiguous()
        normalised: Tensor = ModulatedNormalisation.apply(
            rows, scale, shift, beta.to(x.dtype), gamma.to(x.dtype), self.inverse, parts
        )
        return normalised.view(n, height, width, channels).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """A scale exp(s) and a shift b for each quality and channel."""

    def __init__(self, qualities: int, channels: int, shift: bool = True) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(qualities, channels))
        self.b = nn.Parameter(torch.zeros(qualities, channels)) if shift else None


class Backbone(nn.Module):
    """The trainable network for `qualities`, with 128 hidden and 192 latent channels for 1 to 5, and 192 and 320 from 6.

    `caecodec export` reads its state dict. Methods take `quality`, int64 (n,): the index of each sample's quality in
    `qualities`. All layers but the outermost ones compute in `dtype`; `parts` does the point-wise work.
    """

    order: Tensor
    qualities: Tensor
    ga: Any  # lists of layers; nn.ModuleList does not declare their types
    gs: Any
    gan: Any
    gsn: Any
    fa: Any
    fs: Any
    cond: Any

    def __init__(self, qualities: tuple[int, ...], metric: str = "mse", dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        hidden, latent = NARROW if qualities[0] <= LOW_QUALITIES else WIDE
        self.hidden, self.latent, self.dtype, self.parts = hidden, latent, dtype, EAGER
        count = len(qualities)
        down, up = (3, hidden, hidden, hidden, latent), (latent, hidden, hidden, hidden, 3)
        self.ga = nn.ModuleList(nn.Conv2d(i, o, 5, 2, 2) for i, o in pairwise(down))
        self.gs = nn.ModuleList(nn.ConvTranspose2d(i, o, 5, 2, 2, 1) for i, o in pairwise(up))
        self.gan = nn.ModuleList(TrainableGDN(hidden) for _ in range(LAYERS - 1))
        self.gsn = nn.ModuleList(TrainableGDN(hidden, inverse=True) for _ in range(LAYERS - 1))
        self.fa = nn.ModuleList(Modulation(count, channels) for channels in down[1:])
        self.fi = Modulation(count, latent, shift=False)
        self.fs = nn.ModuleList(Modulation(count, channels) for channels in up[1:])
        self.cond = nn.ModuleList(rate.ConditionalRate(latent) for _ in range(count))
        self.register_buffer("order", torch.arange(latent))
        self.register_buffer("qualities", torch.tensor(qualities))
        self.register_buffer("metric", torch.tensor(METRIC_IDS[metric]))

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> latents (n, M, h/16, w/16), float32."""
        for i, (conv, modulation) in enumerate(zip(self.ga, self.fa, strict=True)):
            scale, shift = _modulation(conv, modulation, quality)
            if i == 0:
                x = F.conv2d(_last(F.pixel_unshuffle(x, 2), self.dtype), _last(_by_blocks(conv.weight), self.dtype), None, 1, 1)
            else:
                dtype = torch.float32 if i == LAYERS - 1 else self.dtype
                x = F.conv2d(x.to(dtype), _last(conv.weight, dtype), None, 2, 2)
            if i < LAYERS - 1:
                x = self.gan[i](x, scale, shift, self.parts)
        return x * scale[:, :, None, None] + shift[:, :, None, None]

    def synthesis(self, y: Tensor, quality: Tensor) -> Tensor:
        """Latents (n, M, h/16, w/16), float32 -> images (n, 3, h, w), float32."""
        y = y * self.fi.s[quality].exp()[:, :, None, None]
        for i, (conv, modulation) in enumerate(zip(self.gs, self.fs, strict=True)):
            scale, shift = _modulation(conv, modulation, quality)
            if i == LAYERS - 1:
                weight = _last(_to_blocks(conv.weight), self.dtype)
                # In half precision, pixels would be wrong by half a level.
                y = F.pixel_shuffle(F.conv2d(y, weight, None, 1, 1).float(), 2)
            else:
                dtype = torch.float32 if i == 0 else self.dtype
                y = F.conv_transpose2d(y.to(dtype), _last(conv.weight, dtype), None, 2, 2, 1)
                y = self.gsn[i](y.to(self.dtype), scale, shift, self.parts)
        images: Tensor = y * scale[:, :, None, None] + shift[:, :, None, None]
        return images

    def bits(self, y: Tensor, quality: Tensor) -> Tensor:
        """The estimated bits of each value of latents (n, M, h, w), in coding order."""
        return rate.bits(self, y, quality)

    def learning_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """See `TrainableNetwork.learning_groups`."""
        return rate.learning_groups(self, lambda name: name.startswith(("ga.", "gan.", "gs.", "gsn.")))

    def use_compiled(self, compiled: bool) -> None:
        """See `TrainableNetwork.use_compiled`."""
        self.parts = EAGER.compiled() if compiled else EAGER


def _modulation(conv: nn.Conv2d | nn.ConvTranspose2d, modulation: Modulation, quality: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and shift (n, channels) of each sample; the shift includes the bias of the convolution."""
    scale = modulation.s[quality].exp()
    assert modulation.b is not None
    assert conv.bias is not None
    return scale, conv.bias * scale + modulation.b[quality]


def _by_blocks(weight: Tensor) -> Tensor:
    """Turn a 5x5 kernel of stride 2 (out, in, 5, 5) into the equal 3x3 kernel on 2x2 blocks of pixels (out, 4 in, 3, 3).

    Processors with matrix units work better with twelve channels than with three.
    """
    out, channels = weight.shape[:2]
    blocks = F.pad(weight, (0, 1, 0, 1)).view(out, channels, 3, 2, 3, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(out, 4 * channels, 3, 3)


def _to_blocks(weight: Tensor) -> Tensor:
    """Turn a transposed 5x5 kernel of stride 2 (in, out, 5, 5) into the equal 3x3 kernel to 2x2 blocks (4 out, in, 3, 3)."""
    channels, out = weight.shape[:2]
    blocks = F.pad(weight, (0, 1, 0, 1)).view(channels, out, 3, 2, 3, 2).flip((2, 4))
    return blocks.permute(1, 3, 5, 0, 2, 4).reshape(4 * out, channels, 3, 3)


def _last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype, memory_format=torch.channels_last)
