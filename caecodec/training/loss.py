"""Measures the crops of a step: bits per pixel, squared error, and the distortion that is traded off against bits."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.family import TrainableNetwork
from . import perceptual

Distortion = Callable[[Tensor, Tensor], Tensor]  # (x_hat, x), images (n, 3, h, w) -> (n,)

WINDOW, SIGMA = 11, 1.5
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 0.01**2, 0.03**2
LEAST = 1e-6  # lower limit of the similarity at a scale, because its power has no gradient below zero


def weighted(weights: Mapping[str, float], lpips_backbone: Path | None = None, device: str = "cpu") -> Distortion:
    """The weighted sum of distortions named as in `recipe.TERMS`; `perceptual.lpips` says what its backbone is and raises."""
    functions: dict[str, Distortion] = {"mse": squared_error, "mae": absolute_error, "ms-ssim": dissimilarity}
    if "lpips" in weights:
        functions["lpips"] = perceptual.lpips(lpips_backbone, device)

    def measure(x_hat: Tensor, x: Tensor) -> Tensor:
        return torch.stack([weight * functions[name](x_hat, x) for name, weight in weights.items()]).sum(0)

    return measure


def rate_distortion(
    network: TrainableNetwork, x: Tensor, quality: Tensor, measure: Distortion, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Bits per pixel, MSE, and the distortion of the loss, each (n,), of images x (n, 3, h, w) at these qualities (n,).

    Bits are of latents with uniform noise. The image is decoded from rounded latents, and gradients pass straight through the
    rounding.
    """
    y = network.analysis(x, quality)
    noise = torch.rand(y.shape, device=y.device, generator=random) - 0.5
    bpp = network.bits(y + noise, quality).sum((1, 2, 3)) / (x.shape[2] * x.shape[3])
    x_hat = network.synthesis(y + (y.round() - y).detach(), quality)
    return bpp, (x_hat - x).square().mean((1, 2, 3)), measure(x_hat, x)


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """255^2 MSE, that is, the MSE of grey levels."""
    return 255**2 * (x_hat - x).square().mean((1, 2, 3))


def absolute_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """The mean absolute error."""
    return (x_hat - x).abs().mean((1, 2, 3))


def dissimilarity(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 - MS-SSIM."""
    return 1 - ms_ssim(x_hat, x)


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM (n,) of images (n, 3, h, w), float32 in [0, 1], with h = w of at least 161 (Wang et al. 2003).

    The reference takes only windows inside the image. This takes a window around every pixel, cut off at the border, because
    otherwise the pixels at the border of a chunk would count least. Windows are products with banded matrices.
    """
    logarithms = []
    for scale, weight in enumerate(SCALES):
        means = _windows(torch.cat([a, b, a * a, b * b, a * b], 1))
        mean_a, mean_b, square_a, square_b, product = means.chunk(5, 1)
        covariance = product - mean_a * mean_b
        similarity = (2 * covariance + C2) / (square_a - mean_a**2 + square_b - mean_b**2 + C2)
        if scale == len(SCALES) - 1:
            similarity = similarity * (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        else:
            a, b = F.avg_pool2d(a, 2, padding=a.shape[2] % 2), F.avg_pool2d(b, 2, padding=b.shape[2] % 2)
        logarithms.append(weight * similarity.mean((2, 3)).clamp_min(LEAST).log())
    return torch.stack(logarithms).sum(0).exp().mean(1)


def _windows(images: Tensor) -> Tensor:
    """Gaussian means over the part inside the image of the 11x11 window around every pixel."""
    positions = torch.arange(images.shape[-1], device=images.device)
    distance = positions - positions[:, None]
    weight = torch.exp(-(distance**2) / (2 * SIGMA**2)) * (distance.abs() <= WINDOW // 2)
    band = weight / weight.sum(1, keepdim=True)
    return band @ images @ band.T
