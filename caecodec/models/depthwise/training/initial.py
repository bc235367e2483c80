"""Initialises a network from principal components, or from a weights file.

KLT: the patches of 8x8 pixels as their principal components, then blocks of 2x2 of these; the synthesis is the transpose. With
all blocks zero at first, this is a usable codec before any training.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import WeightsError
from ...family import Tensors
from ..architecture import PATCH, VALUES
from .backbone import DepthwiseBackbone, Modulated, blocks_of

STEP = 4e-4  # lmbda at which the quantisation step of latents is 1 in units of the principal components


@torch.no_grad()
def klt(backbone: DepthwiseBackbone, images: Tensor, lmbdas: list[float]) -> None:
    """Set the transforms from images (n, 3, size, size) in [0, 1], and the scales of the latents from the lmbdas."""
    analysis, synthesis = backbone.g_a, backbone.g_s
    mean = images.mean((0, 2, 3)).repeat_interleave(PATCH**2)
    values = F.pixel_unshuffle(images, PATCH).permute(0, 2, 3, 1) - mean
    patches = _principal(values)
    for layer, axes in ((analysis.patch, patches), (synthesis.patch, patches.T)):
        _fill(layer, axes)
    analysis.patch.b.copy_(-analysis.patch.weight @ mean)
    synthesis.patch.b.copy_(mean)
    fine = len(synthesis.split.weight) // 4
    blocks = _principal(blocks_of(F.pad(values @ patches.T, (0, analysis.patch.weight.shape[0] - VALUES))))
    _fill(analysis.merge, blocks)
    by_position = blocks.view(len(blocks), 4, -1)[:, :, :fine]
    _fill(synthesis.split, by_position.reshape(len(blocks), -1).T)
    for layer in (analysis.latent, synthesis.latent):
        _fill(layer, torch.eye(max(layer.weight.shape)))
    for index, lmbda in enumerate(lmbdas):
        scale = 0.5 * math.log(lmbda / STEP)
        analysis.latent.s[index] = scale
        backbone.latent_scale[index] = -scale


@torch.no_grad()
def from_weights(backbone: DepthwiseBackbone, stored: Tensors, lmbdas: Mapping[int, float]) -> None:
    """Set the transforms from the tensors of a weights file; `lmbdas` must cover the qualities of both.

    A quality that the file lacks starts from the nearest one, with latents scaled by the square root of the ratio of lmbdas.
    Raises WeightsError if their sizes differ.
    """
    there = sorted({int(name[1 : name.index(".")]) for name in stored if name.endswith(".latent_scale")})
    nearest = [min(there, key=lambda other: abs(other - quality)) for quality in backbone.qualities.tolist()]

    def put(target: Tensor, name: str) -> None:
        value = stored.get(name)
        if value is None or value.shape != target.shape:
            there = "is absent from" if value is None else f"has shape {value.shape} in"
            raise WeightsError(
                f"{name} {there} these weights but must have {tuple(target.shape)} for qualities "
                f"{backbone.qualities.tolist()}; start from weights for the same qualities, or from klt"
            )
        target.copy_(torch.from_numpy(value).float())

    for name, module in backbone.named_modules():
        if isinstance(module, Modulated):
            put(module.weight, f"{name}.weight")
            for index, quality in enumerate(nearest):
                put(module.s[index], f"q{quality}.{name}.scale")
                module.s[index].log_()
                put(module.b[index], f"q{quality}.{name}.shift")
    for name, parameter in backbone.named_parameters():
        if name.endswith(("depthwise", "_out")):
            put(parameter, f"{name}.weight")
    for index, (quality, source) in enumerate(zip(backbone.qualities.tolist(), nearest, strict=True)):
        scale = 0.5 * math.log(lmbdas[quality] / lmbdas[source])
        backbone.g_a.latent.s[index] += scale
        backbone.g_a.latent.b[index] *= math.exp(scale)
        put(backbone.latent_scale[index], f"q{source}.latent_scale")
        backbone.latent_scale[index].log_().sub_(scale)


def _principal(x: Tensor) -> Tensor:
    """All principal axes (C, C) of x (n, h, w, C), the largest first."""
    rows = x.reshape(-1, x.shape[-1]).double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    axes: Tensor = vectors[:, values.argsort(descending=True)].T.float()
    return axes


def _fill(layer: Modulated, axes: Tensor) -> None:
    """Set a layer's weight (outputs, inputs) to the part of a matrix that it has room for, and zeros."""
    outputs, inputs = layer.weight.shape
    part = axes[:outputs, :inputs]
    layer.weight.zero_()
    layer.weight[: part.shape[0], : part.shape[1]] = part
