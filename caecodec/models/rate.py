"""The rate in training: the scale of each latent channel follows from the magnitudes of earlier channels.

A logistic whose scale is a non-negative linear function of these magnitudes, at the same position and in the 3x3 mean, is a
differentiable form of context coding (FORMAT.md, 7).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLIP = 8.0
FIT_STEPS = 100
FIT_BATCH = 8
FIT_LR = 0.08
RATES = {"transforms": 1.0, "modulations": 3.0, "rate weights": 5.0, "rate biases": 30.0}  # relative learning rates
_SMALLEST_LIKELIHOOD = 1e-7


class _LowerBound(torch.autograd.Function):
    """max(x, bound), which passes gradients that increase x (like CompressAI's)."""

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
    """max(x, bound), with a gradient that lets x leave the bound."""
    result: Tensor = _LowerBound.apply(x, bound)
    return result


class ConditionalRate(nn.Module):
    """For one quality, how the scale of each latent channel depends on the magnitudes of earlier channels."""

    mask: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((channels, 2 * channels), 0.003))
        self.b = nn.Parameter(torch.zeros(channels))
        before = torch.tril(torch.ones(channels, channels), -1)
        self.register_buffer("mask", torch.cat([before, before], 1))

    def effective(self) -> tuple[Tensor, Tensor]:
        """Weights (M, 2 M) of the magnitudes of earlier channels, zero for all other channels, and biases (M,)."""
        return lower_bound(self.w, 0.0) * self.mask, F.softplus(self.b) + 0.05


def bits(network: Any, y: Tensor, quality: Tensor) -> Tensor:
    """The estimated bits of each value of latents y (n, M, h, w), in coding order; see `TrainableNetwork.bits`.

    network : has `cond`, a ConditionalRate for each quality, and `order`, the channels in coding order
    """
    weight, bias = (torch.stack(parts)[quality] for parts in zip(*(rate.effective() for rate in network.cond), strict=True))
    return conditional_bits(y[:, network.order], weight, bias)


def conditional_bits(y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """-log2 of the probability of each value of noisy or rounded latents y (n, M, h, w), in coding order.

    weight, bias : (M, 2 M) and (M,) of one ConditionalRate, or (n, M, 2 M) and (n, M) with one for each sample
    """
    n, channels = y.shape[:2]
    size = y.abs()
    magnitude = size.clamp(max=CLIP)
    known = torch.cat([magnitude, F.avg_pool2d(magnitude, 3, 1, 1, count_include_pad=False)], 1)
    scale = torch.matmul(weight, known.view(n, 2 * channels, -1)) + bias[..., None]
    scale = scale.clamp(0.08, 64).view(y.shape)
    likelihood = torch.sigmoid((0.5 - size) / scale) - torch.sigmoid((-0.5 - size) / scale)
    return -torch.log2(lower_bound(likelihood, _SMALLEST_LIKELIHOOD))


def learning_groups(network: nn.Module, transforms: Callable[[str], bool]) -> list[tuple[float, list[nn.Parameter]]]:
    """See `TrainableNetwork.learning_groups`; `transforms` says which of the names outside `cond` are not of modulations."""
    groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in RATES}
    for name, parameter in network.named_parameters():
        if name.startswith("cond."):
            kind = "rate weights" if name.endswith(".w") else "rate biases"
        else:
            kind = "transforms" if transforms(name) else "modulations"
        groups[kind].append(parameter)
    return [(RATES[kind], parameters) for kind, parameters in groups.items()]


def fit(network: Any, images: Tensor) -> None:
    """Order the channels by variance, and fit the rate of each quality to the latents of images (n, 3, size, size).

    network : as for `bits`, and a `TrainableNetwork`
    """
    with torch.no_grad():
        everywhere = torch.zeros(len(images), dtype=torch.long, device=images.device)
        latents = [network.analysis(images, everywhere + index) for index in range(len(network.cond))]
        variance = torch.stack([y.pow(2).mean((0, 2, 3)) for y in latents]).mean(0)
        network.order.copy_(variance.argsort(descending=True))
    for rate, y in zip(network.cond, latents, strict=True):
        assert isinstance(rate, ConditionalRate)
        ordered = y[:, network.order]
        with torch.no_grad():
            rate.b.copy_((0.4 * ordered.abs().mean((0, 2, 3))).clamp_min(0.02).expm1().log())
        groups = [{"params": [rate.w], "lr": FIT_LR / 20}, {"params": [rate.b], "lr": FIT_LR}]
        optimiser = torch.optim.Adam(groups)
        for step in range(FIT_STEPS):
            batch = ordered[torch.randint(len(ordered), (FIT_BATCH,), device=y.device)]
            estimated = conditional_bits(batch + torch.rand_like(batch) - 0.5, *rate.effective())
            optimiser.zero_grad()
            estimated.mean().backward()  # type: ignore[no-untyped-call]  # Tensor.backward has no annotations
            for group, lr in zip(optimiser.param_groups, (FIT_LR / 20, FIT_LR), strict=True):
                group["lr"] = lr * (1 - step / FIT_STEPS)
            optimiser.step()
