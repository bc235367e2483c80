"""The network in training: one backbone for several qualities.

    x ── patches ── blocks ── merge ── blocks ── y ── round ── blocks ── split ── blocks ── patches ── x_hat
                                                  └─ + noise ── bits of each channel, given earlier ones

A modulation, a scale and a shift per channel and quality, is folded into the weights of a layer for each sample of a batch,
just as it is folded later into the plain network of one quality (file.fold). Tensors are (n, h, w, C).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....bitstream.autoencoder import METRICS
from ... import rate
from ..architecture import EXPANSION, PATCH, VALUES, Architecture, Transform
from ..network import SLOPE

METRIC_IDS = {name: number for number, name in METRICS.items()}


class Modulated(nn.Module):
    """A linear layer with a scale exp(s) and a shift b of its outputs for each quality."""

    def __init__(self, qualities: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)
        self.s = nn.Parameter(torch.zeros(qualities, outputs))
        self.b = nn.Parameter(torch.zeros(qualities, outputs))

    def forward(self, x: Tensor, quality: Tensor, dtype: torch.dtype) -> Tensor:
        """Map x (n, h, w, inputs) to (n, h, w, outputs)."""
        weight = (self.weight * self.s.exp()[..., None]).to(dtype).index_select(0, quality)
        rows = x.reshape(len(x), -1, x.shape[-1]).to(dtype)
        shift = self.b.to(dtype).index_select(0, quality)[:, None]
        out = torch.baddbmm(shift, rows, weight.transpose(1, 2))
        return out.view(*x.shape[:3], -1)


class TrainableBlock(nn.Module):
    """Two residual branches: linear, activation, depthwise, linear; and linear, activation, linear."""

    def __init__(self, qualities: int, channels: int) -> None:
        super().__init__()
        self.spatial_in = Modulated(qualities, channels, channels)
        self.depthwise = nn.Parameter(torch.randn(channels, 3, 3) / 3)
        self.spatial_out = nn.Parameter(torch.zeros(channels, channels))
        self.channel_in = Modulated(qualities, channels, EXPANSION * channels)
        self.channel_out = nn.Parameter(torch.zeros(channels, EXPANSION * channels))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Map x (n, h, w, channels) to the same shape and dtype."""
        hidden = F.leaky_relu(self.spatial_in(x, quality, x.dtype), SLOPE)
        kernel = self.depthwise.to(x.dtype)[:, None]
        hidden = F.conv2d(hidden.permute(0, 3, 1, 2), kernel, None, 1, 1, 1, len(kernel)).permute(0, 2, 3, 1)
        x = _add(x, hidden, self.spatial_out)
        return _add(x, F.leaky_relu(self.channel_in(x, quality, x.dtype), SLOPE), self.channel_out)


class Half(nn.Module):
    """The layers that analysis and synthesis have in common."""

    fine: Any  # lists of layers; nn.ModuleList does not declare their types
    coarse: Any

    def __init__(self, qualities: int, sizes: Transform) -> None:
        super().__init__()
        self.fine = nn.ModuleList(TrainableBlock(qualities, sizes.fine) for _ in range(sizes.fine_blocks))
        self.coarse = nn.ModuleList(TrainableBlock(qualities, sizes.coarse) for _ in range(sizes.coarse_blocks))


class Analysis(Half):
    """Images -> latents."""

    def __init__(self, qualities: int, sizes: Transform, latent: int) -> None:
        super().__init__(qualities, sizes)
        self.patch = Modulated(qualities, VALUES, sizes.fine)
        self.merge = Modulated(qualities, 4 * sizes.fine, sizes.coarse)
        self.latent = Modulated(qualities, sizes.coarse, latent)

    def forward(self, x: Tensor, quality: Tensor, dtype: torch.dtype) -> Tensor:
        """Images (n, 3, h, w) -> latents (n, M, h/16, w/16), float32."""
        x = self.patch(F.pixel_unshuffle(x, PATCH).permute(0, 2, 3, 1), quality, dtype)
        for block in self.fine:
            x = block(x, quality)
        x = self.merge(blocks_of(x), quality, dtype)
        for block in self.coarse:
            x = block(x, quality)
        latents: Tensor = self.latent(x, quality, torch.float32)
        return latents.permute(0, 3, 1, 2)


class Synthesis(Half):
    """Latents -> images."""

    def __init__(self, qualities: int, sizes: Transform, latent: int) -> None:
        super().__init__(qualities, sizes)
        self.latent = Modulated(qualities, latent, sizes.coarse)
        self.split = Modulated(qualities, sizes.coarse, 4 * sizes.fine)
        self.patch = Modulated(qualities, sizes.fine, VALUES)

    def forward(self, y: Tensor, quality: Tensor, dtype: torch.dtype) -> Tensor:
        """Latents (n, M, h/16, w/16), float32 -> images (n, 3, h, w), float32."""
        x = self.latent(y.permute(0, 2, 3, 1), quality, torch.float32).to(dtype)
        for block in self.coarse:
            x = block(x, quality)
        x = from_blocks(self.split(x, quality, dtype))
        for block in self.fine:
            x = block(x, quality)
        # In half precision, pixels would be wrong by half a level.
        return F.pixel_shuffle(self.patch(x, quality, torch.float32).permute(0, 3, 1, 2), PATCH)


class DepthwiseBackbone(nn.Module):
    """The trainable network for `qualities`; `caecodec export` reads its state dict.

    Methods take `quality`, int64 (n,): the index of each sample's quality in `qualities`. All layers but those of pixels and
    latents compute in `dtype`.
    """

    order: Tensor
    qualities: Tensor

    def __init__(
        self, architecture: Architecture, qualities: tuple[int, ...], metric: str = "mse", dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__()
        count, latent = len(qualities), architecture.latent
        self.dtype = dtype
        self.g_a = Analysis(count, architecture.analysis, latent)
        self.g_s = Synthesis(count, architecture.synthesis, latent)
        self.latent_scale = nn.Parameter(torch.zeros(count, latent))
        self.cond = nn.ModuleList(rate.ConditionalRate(latent) for _ in range(count))
        self.register_buffer("order", torch.arange(latent))
        self.register_buffer("qualities", torch.tensor(qualities))
        self.register_buffer("metric", torch.tensor(METRIC_IDS[metric]))

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.analysis`."""
        latents: Tensor = self.g_a(x, quality, self.dtype)
        return latents

    def synthesis(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.synthesis`."""
        images: Tensor = self.g_s(y * self.latent_scale[quality].exp()[:, :, None, None], quality, self.dtype)
        return images

    def bits(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.bits`."""
        return rate.bits(self, y, quality)

    def learning_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """See `TrainableNetwork.learning_groups`."""
        return rate.learning_groups(self, lambda name: not name.endswith((".s", ".b", "latent_scale")))

    def use_compiled(self, compiled: bool) -> None:
        """See `TrainableNetwork.use_compiled`: there is nothing to compile."""


def _add(x: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """The sum x + hidden weight^T, for x (n, h, w, C) and hidden (n, h, w, inputs)."""
    rows = torch.addmm(x.reshape(-1, x.shape[-1]), hidden.reshape(-1, hidden.shape[-1]), weight.to(x.dtype).t())
    return rows.view(x.shape)


def blocks_of(x: Tensor) -> Tensor:
    """Join blocks of 2x2 positions: (n, h, w, C) -> (n, h/2, w/2, 4 C), row by row."""
    n, height, width, channels = x.shape
    blocks = x.view(n, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, height // 2, width // 2, 4 * channels)


def from_blocks(x: Tensor) -> Tensor:
    """Take blocks of 2x2 positions apart: (n, h, w, 4 C) -> (n, 2 h, 2 w, C)."""
    n, height, width, channels = x.shape
    blocks = x.view(n, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, 2 * height, 2 * width, channels // 4)
