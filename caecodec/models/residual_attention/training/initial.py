"""Initialises a network from principal components, or from a weights file.

KLT: each layer that halves the resolution starts as the principal components of blocks of 2x2 positions, its mirror as their
transpose, and all blocks between pass their input on. With 192 channels nothing is lost down to an eighth of the resolution.
This is a usable codec before any training.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import WeightsError
from ...factorized.training.backbone import TrainableGDN
from ...factorized.training.initial import STEP, principal_axes
from ...family import Tensors
from ..architecture import ANALYSIS, SYNTHESIS
from .backbone import ResidualAttentionBackbone


@torch.no_grad()
def klt(backbone: ResidualAttentionBackbone, images: Tensor, lmbdas: list[float]) -> None:
    """Set the transforms from images (n, 3, size, size) in [0, 1], and the scales of the latents from the lmbdas."""
    mean = images.mean((0, 2, 3))
    x = images - mean[:, None, None]
    down = [backbone.g_a[str(number)].shortcut for number, kind in enumerate(ANALYSIS) if kind == "down"]
    up = [backbone.g_s[str(number)].shortcut for number, kind in enumerate(SYNTHESIS) if kind == "up"]
    for halve, double in zip(down, reversed(up), strict=True):
        blocks = F.pixel_unshuffle(x, 2)
        axes = principal_axes(blocks, len(halve.weight))
        halve.weight.zero_()
        halve.weight[: len(axes), : x.shape[1]] = axes.view(len(axes), -1, 2, 2)
        double.weight.zero_()
        double.weight[: blocks.shape[1], : len(axes), 0, 0] = axes.T
        x = torch.einsum("kj,njhw->nkhw", axes, blocks)
    down[0].bias.copy_(-down[0].weight.sum((2, 3)) @ mean)
    up[-1].bias.copy_(mean.repeat_interleave(4))
    first, last = backbone.g_a["latent"], backbone.g_s["latent"]
    blocks = F.pixel_unshuffle(x, 2)
    axes = principal_axes(blocks, len(first.weight))
    for parameter in (first.weight, last.weight, last.bias):
        parameter.zero_()
    first.weight[: len(axes), : x.shape[1], 1:, 1:] = axes.view(len(axes), -1, 2, 2)
    last.weight[: blocks.shape[1], : len(axes), 1, 1] = axes.T
    for index, lmbda in enumerate(lmbdas):
        scale = 0.5 * math.log(lmbda / STEP)
        first.s[index] = scale
        backbone.latent_scale[index] = -scale


@torch.no_grad()
def from_weights(backbone: ResidualAttentionBackbone, stored: Tensors, lmbdas: Mapping[int, float]) -> None:
    """Set the transforms from the tensors of a weights file; `lmbdas` must cover the qualities of both.

    A quality that the file lacks starts from the nearest one, with latents scaled by the square root of the ratio of lmbdas.
    Raises WeightsError if their sizes differ.
    """
    there = sorted({int(name[1 : name.index(".")]) for name in stored if name.endswith(".latent_scale")})
    qualities = backbone.qualities.tolist()
    nearest = [min(there, key=lambda other: abs(other - quality)) for quality in qualities]

    def put(target: Tensor, name: str, change: Callable[[Tensor], Tensor] = torch.Tensor.float) -> None:
        value = stored.get(name)
        if value is None or value.shape != _without_kernel(target).shape:
            found = "is absent from" if value is None else f"has shape {value.shape} in"
            raise WeightsError(
                f"{name} {found} these weights but must have {tuple(_without_kernel(target).shape)} for qualities {qualities}; "
                "start from weights for the same qualities, or from klt"
            )
        _without_kernel(target).copy_(change(torch.from_numpy(value).float()))

    for name, parameter in backbone.named_parameters():
        layer, _, part = name.rpartition(".")
        if part in ("s", "b") and not name.startswith("cond."):
            for row, quality in zip(parameter, nearest, strict=True):
                if part == "s":
                    put(row, f"q{quality}.{layer}.scale", torch.log)
                else:
                    put(row, f"q{quality}.{layer}.shift")
        elif layer.endswith(".norm"):
            put(parameter, name, TrainableGDN.stored)
        elif name.startswith(("g_a.", "g_s.")):
            put(parameter, name)
    last = backbone.g_a["latent"]
    for index, (quality, source) in enumerate(zip(qualities, nearest, strict=True)):
        scale = 0.5 * math.log(lmbdas[quality] / lmbdas[source])
        last.s[index] += scale
        last.b[index] *= math.exp(scale)
        put(backbone.latent_scale[index], f"q{source}.latent_scale", torch.log)
        backbone.latent_scale[index] -= scale


def _without_kernel(weight: Tensor) -> Tensor:
    """The matrix of a 1x1 convolution, and other tensors as they are."""
    return weight[:, :, 0, 0] if weight.shape[2:] == (1, 1) else weight
