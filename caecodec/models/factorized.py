"""The bmshj2018-factorized autoencoder (Ballé et al., 2018, https://arxiv.org/abs/1802.01436), folded for running.

    x ── conv GDN conv GDN conv GDN conv ── y ── round ── symbols ── conv' IGDN conv' IGDN conv' IGDN conv' ── x_hat

Every conv is 5x5 with stride 2, every conv' its transposed mirror. Same layers and state-dict names as CompressAI's
FactorizedPrior, but GDN holds its effective beta and gamma, and runs channels-last.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 16
HALO = 2  # latent positions: the analysis sees 30 pixels to each side, the synthesis 2 latents
MAX_SYMBOL = 2**23
CONVOLUTIONS = (0, 2, 4, 6)
NORMALISATIONS = (1, 3, 5)


class GDN(nn.Module):
    """Generalised divisive normalisation, y = x / sqrt(beta + gamma x^2), or its inverse (https://arxiv.org/abs/1511.06281)."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same."""
        norm = F.conv2d(x * x, self.gamma, self.beta)
        return (norm.sqrt_() if self.inverse else norm.rsqrt_()).mul_(x)


class FactorizedPrior(nn.Module):
    """The network of one quality; for inference alone.

    hidden, latent : channel counts N and M, (128, 192) for quality 1 to 5, (192, 320) for 6 to 8
    """

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden, self.latent = hidden, latent

        def conv(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)

        def deconv(inputs: int, outputs: int) -> nn.Module:
            return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)

        self.g_a = nn.Sequential(
            conv(3, hidden), GDN(hidden), conv(hidden, hidden), GDN(hidden),
            conv(hidden, hidden), GDN(hidden), conv(hidden, latent),
        )  # fmt: skip
        self.g_s = nn.Sequential(
            deconv(latent, hidden), GDN(hidden, inverse=True), deconv(hidden, hidden), GDN(hidden, inverse=True),
            deconv(hidden, hidden), GDN(hidden, inverse=True), deconv(hidden, 3),
        )  # fmt: skip
        self.medians = nn.Parameter(torch.zeros(latent))

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]]) -> "FactorizedPrior":
        """A network with these parameters, named as in the state dict; all must be there, and no others."""
        hidden, latent = len(tensors["g_a.0.weight"]), len(tensors["g_a.6.weight"])
        with torch.device("meta"):
            network = cls(hidden, latent)
        state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def reduce_precision(self) -> None:
        """Run in bfloat16, but for the layers at both ends of the latents and the last one, whose values need all digits."""
        self.g_a[:-1].to(torch.bfloat16)
        self.g_s[1:-1].to(torch.bfloat16)

    def analysis(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1], h and w multiples of 16 -> integer symbols (n, M, h/16, w/16), int32."""
        hidden = self.g_a[:-1](images.to(self.g_a[0].weight.dtype))
        latents = self.g_a[-1](hidden.float()) - self.medians[:, None, None]
        return latents.round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL).to(torch.int32)

    def synthesis(self, symbols: Tensor) -> Tensor:
        """Symbols (n, M, h/16, w/16), int32 -> images (n, 3, h, w), about [0, 1], not clipped."""
        latents = (symbols.float() + self.medians[:, None, None]).contiguous(memory_format=torch.channels_last)
        hidden = self.g_s[1:-1](self.g_s[0](latents).to(self.g_s[2].weight.dtype))
        images: Tensor = self.g_s[-1](hidden.float())
        return images
