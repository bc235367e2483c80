"""The network, folded into one quality for inference.

    x ── down, residual, down, attention, residual, down, residual, attention ── conv ── y ── round ── symbols
    symbols ── conv, sub-pixel ── attention, residual, up, residual, attention, up, residual, up ── x_hat

A residual block is conv, leaky ReLU, conv, GDN (in the synthesis its inverse), beside a shortcut. "down" has strides of 2, and
"up" is sub-pixel. An attention module multiplies one branch of residual blocks by another, which a sigmoid brings to between 0
and 1. Tensors are channels-last; on a CPU, images go through one by one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..factorized.network import GDN
from .architecture import ANALYSIS, BRANCH, SYNTHESIS, Kind, stages

MAX_SYMBOL = 2**23
SLOPE = 0.2  # of the leaky ReLU


class ResidualBlock(nn.Module):
    """conv 3x3, leaky ReLU, conv 3x3, GDN, and a shortcut around them; "down" halves the resolution, "up" doubles it."""

    def __init__(self, kind: Kind, inputs: int, outputs: int, inverse: bool) -> None:
        super().__init__()
        stride, first = (2 if kind == "down" else 1), (4 * outputs if kind == "up" else outputs)
        self.up = kind == "up"
        self.conv_in = nn.Conv2d(inputs, first, 3, stride, 1)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm = GDN(outputs, inverse)
        self.shortcut = nn.Conv2d(inputs, first, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, inputs, h, w) to (n, outputs, h, w), half or twice as high and wide in "down" and "up"."""
        normalised: Tensor = self.norm(self.conv_out(F.leaky_relu_(self._upsampled(self.conv_in(x)), SLOPE)))
        return normalised.add_(self._upsampled(self.shortcut(x)))

    def _upsampled(self, x: Tensor) -> Tensor:
        return sub_pixels(x) if self.up else x


class Attention(nn.Module):
    """sigmoid(gate(mask(x))) trunk(x) + shortcut(x): two branches of residual blocks, and 1x1 convolutions."""

    def __init__(self, channels: int, inverse: bool) -> None:
        super().__init__()
        self.trunk, self.mask = (
            nn.Sequential(*(ResidualBlock("residual", channels, channels, inverse) for _ in range(BRANCH))) for _ in range(2)
        )
        self.gate = nn.Conv2d(channels, channels, 1)
        self.shortcut = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, channels, h, w) to the same shape."""
        gate = self.gate(self.mask(x)).sigmoid_()
        gated: Tensor = gate.mul_(self.trunk(x))
        return gated.add_(self.shortcut(x))


class ResidualAttention(nn.Module):
    """The network of one quality, for inference only, with N = `hidden` and M = `latent` channels."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.g_a: Any = nn.ModuleDict(_modules(ANALYSIS, hidden, inverse=False))
        self.g_a["latent"] = nn.Conv2d(hidden, latent, 3, 2, 1)
        self.g_s: Any = nn.ModuleDict(_modules(SYNTHESIS, hidden, inverse=True))
        self.g_s["latent"] = nn.Conv2d(latent, 4 * hidden, 3, 1, 1)

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]]) -> "ResidualAttention":
        """Build a network with these parameters, as `file.fold` names them."""
        latent, hidden = tensors["g_a.latent.weight"].shape[:2]
        with torch.device("meta"):
            network = cls(hidden, latent)
        state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def analysis(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1], h and w multiples of 16 -> symbols (n, M, h/16, w/16), int32."""
        return self.latents(images).round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL).to(torch.int32)

    def latents(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> the latents (n, M, h/16, w/16) that `analysis` rounds."""
        return _run(self._latents, images)

    def synthesis(self, symbols: Tensor) -> Tensor:
        """Symbols (n, M, h/16, w/16), int32 -> images (n, 3, h, w) in about [0, 1], not clipped."""
        return _run(self._synthesis, symbols)

    def _latents(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        for number in range(len(ANALYSIS)):
            x = self.g_a[str(number)](x)
        latents: Tensor = self.g_a["latent"](x)
        return latents

    def _synthesis(self, symbols: Tensor) -> Tensor:
        x = sub_pixels(self.g_s["latent"](symbols.float().contiguous(memory_format=torch.channels_last)))
        for number in range(len(SYNTHESIS)):
            x = self.g_s[str(number)](x)
        return x


def sub_pixels(x: Tensor) -> Tensor:
    """Turn channels into positions: (n, 4 C, h, w) -> (n, C, 2 h, 2 w), channels last."""
    return F.pixel_shuffle(x, 2).contiguous(memory_format=torch.channels_last)


def _modules(kinds: tuple[Kind, ...], hidden: int, inverse: bool) -> dict[str, nn.Module]:
    return {
        name: Attention(hidden, inverse) if kind == "attention" else ResidualBlock(kind, inputs, outputs, inverse)
        for name, kind, inputs, outputs in stages(kinds, hidden)
    }


def _run(step: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Run the images of a batch one by one on a CPU, for the sake of its cache, and together elsewhere."""
    return torch.cat([step(part) for part in torch.split(batch, 1)]) if batch.device.type == "cpu" else step(batch)
