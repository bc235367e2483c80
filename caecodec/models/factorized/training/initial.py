"""Initialises a network from principal components, or from existing weights, widened and rescaled if they differ.

KLT: every stride-2 layer is the PCA of 2x2 blocks of the layer below, and its mirror is the inverse. This is a usable codec
before any training.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ....errors import WeightsError
from ...family import Tensors
from .backbone import LAYERS, Backbone, TrainableGDN

NOISE = 1e-3  # in weights that would otherwise start at zero, so that they can learn
SPARE = 0.02  # noise in channels that have no start
STEP = 4e-4  # lmbda at which the quantisation step of latents is 1 in units of the PCA
ROWS = 200_000


@torch.no_grad()
def klt(backbone: Backbone, images: Tensor, lmbdas: list[float]) -> None:
    """Set the transforms from images (n, 3, size, size) in [0, 1], and the scales of the latents from the lmbdas."""
    mean = images.mean((0, 2, 3))
    x = images - mean[:, None, None]
    for layer in range(LAYERS):
        blocks = torch.cat([x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)], 1)
        basis = principal_axes(blocks, len(backbone.ga[layer].weight))
        down, up = backbone.ga[layer], backbone.gs[LAYERS - 1 - layer]
        _fill(down.weight, basis, x.shape[1])
        _fill(up.weight, basis, x.shape[1])
        down.weight[len(basis) :] += SPARE * torch.randn_like(down.weight[len(basis) :])
        down.bias.zero_()
        up.bias.zero_()
        if layer == 0:
            down.bias -= (down.weight.sum((2, 3)) * mean).sum(1)
            up.bias += mean
        x = torch.einsum("kj,njhw->nkhw", basis, blocks)
    for index, lmbda in enumerate(lmbdas):
        scale = torch.tensor(lmbda / STEP).sqrt().log()
        backbone.fa[LAYERS - 1].s[index] = scale
        backbone.fi.s[index] = -scale


@torch.no_grad()
def from_weights(backbone: Backbone, stored: Tensors, lmbdas: Mapping[int, float]) -> None:
    """Set the transforms from the tensors of a weights file; `lmbdas` must cover the qualities of both.

    Channels that the file lacks start small. A quality that it lacks starts from the nearest one, with latents scaled by the
    square root of the ratio of lmbdas. Raises WeightsError if the file has more channels.
    """
    for ours, convs, norms, films in (("g_a", "ga", "gan", "fa"), ("g_s", "gs", "gsn", "fs")):
        for i, conv in enumerate(getattr(backbone, convs)):
            conv.weight.copy_(NOISE * torch.randn_like(conv.weight))
            if ours == "g_a" and i < LAYERS - 1:
                spare = conv.weight[len(stored[f"g_a.{2 * i}.weight"]) :]
                spare.add_(SPARE * torch.randn_like(spare))
            conv.bias.zero_()
            _put(conv.weight, stored[f"{ours}.{2 * i}.weight"])
            _put(conv.bias, stored[f"{ours}.{2 * i}.bias"])
        for i, norm in enumerate(getattr(backbone, norms)):
            gamma = 1e-4 + 0.002 * torch.eye(backbone.hidden)
            beta = torch.ones(backbone.hidden)
            _put(gamma, stored[f"{ours}.{2 * i + 1}.gamma"])
            _put(beta, stored[f"{ours}.{2 * i + 1}.beta"])
            norm.gamma.copy_(TrainableGDN.stored(gamma))
            norm.beta.copy_(TrainableGDN.stored(beta))
        for i, film in enumerate(getattr(backbone, films)):
            for index, quality in enumerate(backbone.qualities.tolist()):
                prefix = f"q{_nearest(stored, quality)}.{ours}.{2 * i}."
                if f"{prefix}scale" in stored:  # a network of one quality may have none
                    _put(film.s[index], np.log(stored[f"{prefix}scale"]))
                    _put(film.b[index], stored[f"{prefix}shift"])
    for index, quality in enumerate(backbone.qualities.tolist()):
        source = _nearest(stored, quality)
        scale = 0.5 * math.log(lmbdas[quality] / lmbdas[source])
        last = backbone.fa[LAYERS - 1]
        last.s[index] += scale
        last.b[index] *= math.exp(scale)
        if f"q{source}.latent_scale" in stored:
            _put(backbone.fi.s[index], np.log(stored[f"q{source}.latent_scale"]))
        backbone.fi.s[index] -= scale


def _nearest(stored: Tensors, quality: int) -> int:
    """The quality of a weights file that is nearest to `quality`."""
    there = {int(name[1 : name.index(".")]) for name in stored if re.match(r"q\d+\.", name)}
    return min(there, key=lambda other: abs(other - quality))


def _put(target: Tensor, value: npt.NDArray[Any]) -> None:
    """Copy a tensor into the first channels of a larger one; WeightsError if it is not larger."""
    if any(there > room for there, room in zip(value.shape, target.shape, strict=True)):
        raise WeightsError(
            f"a tensor of these weights has shape {value.shape} but training has room for {tuple(target.shape)}; start from "
            "weights for the same qualities, or from klt"
        )
    target[tuple(map(slice, value.shape))] = torch.from_numpy(value).float()


def principal_axes(blocks: Tensor, width: int) -> Tensor:
    """The first `width` principal axes (k, channels) of blocks (n, channels, h, w)."""
    rows = blocks.permute(0, 2, 3, 1).reshape(-1, blocks.shape[1])
    rows = rows[torch.randperm(len(rows), device=rows.device)[:ROWS]].double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    axes: Tensor = vectors[:, values.argsort(descending=True)[:width]].T.float()
    return axes


def _fill(weight: Tensor, basis: Tensor, channels: int) -> None:
    """Put a basis (k, 4 * channels) of 2x2 blocks into the centre taps of a 5x5 kernel (>= k, >= channels, 5, 5)."""
    weight.copy_(NOISE * torch.randn_like(weight))
    weight[: len(basis), :channels, 2:4, 2:4] += basis.reshape(len(basis), 2, 2, channels).permute(0, 3, 1, 2)
