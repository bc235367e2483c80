"""Initialises a network from principal components, so that it codes before any training.

Each stride of 2 is the PCA of 2x2 blocks of the layer below, and the synthesis is its transpose. A component passes the
ReLU as two channels, its positive and its negative part. The bits of a component of 8x8 pixels compare it with thresholds, and
its reconstruction is linear in their sum. Each quality gives its bits to the components where one more removes most error.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..file import EPSILON, LAYERS
from .backbone import BinaryBackbone, NormalisedConvolution

IMAGES = 64
VALUES = 20000  # of a component, to which thresholds are fitted
SPACINGS = 30  # sets of thresholds that are tried
SEEN = 1000  # batches that the statistics count for
SHARPNESS = 4.0  # latents at one gap above a threshold, so that the bits drawn in training are seldom wrong


class Thresholds(NamedTuple):
    """Thresholds t (n,) of a component, ascending; it is about offset + gain * the sum of its bits, with this squared error."""

    t: Tensor
    offset: float
    gain: float
    error: float


@torch.no_grad()
def klt(backbone: BinaryBackbone, images: Tensor) -> None:
    """Set all parameters from images (n, 3, size, size) in [0, 1]."""
    backbone.eval()
    x = images = images[:IMAGES]
    mean = x.mean((0, 2, 3))
    components, bases = x - mean[:, None, None], []
    for layer in backbone.g_a:
        blocks = torch.cat([components[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
        bases.append(_principal(blocks, len(layer.weight) // 2))
        components = torch.einsum("kc,nchw->nkhw", bases[-1], blocks)
    values = components.transpose(0, 1).flatten(1)[:, :VALUES]
    owner, fitted = _allocate(values, backbone.active.sum(1).mul(2).tolist())

    quality = torch.arange(len(x)) % len(fitted)
    for i, (layer, basis) in enumerate(zip(backbone.g_a, bases, strict=True)):
        kernel = _taps(basis)
        if i:
            kernel = torch.cat([kernel, -kernel], 1)
        if i == LAYERS - 1:
            _set(layer, kernel[owner])
            scale, shift = _of_bits(layer.s, owner, fitted)
        else:
            _set(layer, torch.cat([kernel, -kernel]))
            scale, shift = torch.ones_like(layer.s), torch.zeros_like(layer.b)
            if not i:
                shift -= (layer.weight.sum((2, 3)) * mean).sum(1)
        x = _calibrate(layer, x.relu() if i else x, scale, shift, quality)

    for row, thresholds in enumerate(fitted):
        for channel, k in enumerate(owner.tolist()):
            if k in thresholds:
                backbone.latent_scale[row, channel] = torch.tensor(thresholds[k].gain).log()
    x = backbone.analysis(images, quality) * backbone.latent_scale[quality].exp()[:, :, None, None]
    for i, (layer, basis) in enumerate(zip(backbone.g_s, reversed(bases), strict=True)):
        kernel = _taps(basis)
        kernel = kernel[owner] if not i else torch.cat([kernel, -kernel])
        scale, shift = torch.ones_like(layer.s), torch.zeros_like(layer.b)
        if i == LAYERS - 1:
            _set(layer, kernel)
            shift += mean
        else:
            _set(layer, torch.cat([kernel, -kernel], 1))
        if not i:
            for row, thresholds in enumerate(fitted):
                offset = torch.stack([fit.offset * basis[k].view(4, -1).mean(0) for k, fit in thresholds.items()]).sum(0)
                shift[row, : 2 * len(offset)] = torch.cat([offset, -offset])
        x = _calibrate(layer, x.relu() if i else x, scale, shift, quality)


def _allocate(values: Tensor, budgets: list[int]) -> tuple[Tensor, list[dict[int, Thresholds]]]:
    """The component of each bit, and for each budget of bits the thresholds of components, for values (components, n)."""
    found: dict[tuple[int, int], Thresholds] = {}

    def fit(k: int, count: int) -> Thresholds:
        if (k, count) not in found:
            found[k, count] = _thresholds(values[k], count)
        return found[k, count]

    counts = [0] * len(values)
    order: list[int] = []
    fitted: dict[int, dict[int, Thresholds]] = {}
    while len(order) < max(budgets):
        candidates = range(min(len(values), 1 + sum(count > 0 for count in counts)))
        best = max(candidates, key=lambda k: fit(k, counts[k]).error - fit(k, counts[k] + 1).error)
        counts[best] += 1
        order.append(best)
        if len(order) in budgets:
            fitted[len(order)] = {k: fit(k, count) for k, count in enumerate(counts) if count}
    return torch.tensor(order), [fitted[budget] for budget in budgets]


def _thresholds(values: Tensor, count: int) -> Thresholds:
    """The best of several sets of equally spaced thresholds for a component with values (n,)."""
    places = torch.arange(count) - (count - 1) / 2
    sets = [values.mean() + spacing * values.std() * places for spacing in torch.logspace(-1.5, 0.5, SPACINGS)]
    return min((_fit(values, t) for t in sets), key=lambda fit: fit.error)


def _fit(values: Tensor, t: Tensor) -> Thresholds:
    """Values (n,) as a linear function of the sum of their bits."""
    total = 2.0 * torch.bucketize(values, t) - len(t)
    gain = float(((total - total.mean()) * values).mean() / total.var().clamp(min=1e-9))
    offset = float(values.mean() - gain * total.mean())
    return Thresholds(t, offset, gain, float((values - offset - gain * total).square().mean()))


def _of_bits(like: Tensor, owner: Tensor, fitted: list[dict[int, Thresholds]]) -> tuple[Tensor, Tensor]:
    """The scale and shift (qualities, bits) that turn components into latents above and below zero."""
    scale, shift = torch.ones_like(like), torch.zeros_like(like)
    for row, thresholds in enumerate(fitted):
        for k, fit in thresholds.items():
            channels = (owner == k).nonzero().ravel()[: len(fit.t)]
            scale[row, channels] = SHARPNESS / (2 * fit.gain)  # a gap between thresholds is about 2 gains
            shift[row, channels] = -fit.t * scale[row, channels]
    return scale, shift


def _calibrate(layer: NormalisedConvolution, x: Tensor, scale: Tensor, shift: Tensor, quality: Tensor) -> Tensor:
    """Have a layer scale and shift (qualities, outputs) the result of its convolution, whatever its norm; map x by it."""
    layer.s.copy_(scale.log())
    layer.b.copy_(shift)
    if layer.normalised:
        layer.mean.zero_()
        layer.variance.fill_(1 - EPSILON)
        plain = (layer(x, quality) - shift[quality][:, :, None, None]) / scale[quality][:, :, None, None]
        variance, mean = torch.var_mean(plain, (0, 2, 3), correction=0)
        layer.mean.copy_(mean)
        layer.variance.copy_(variance)
        layer.seen.fill_(SEEN)
        layer.s.add_((variance + EPSILON).log() / 2)
        layer.b.add_(scale * mean)
    result: Tensor = layer(x, quality)
    return result


def _principal(blocks: Tensor, width: int) -> Tensor:
    """At most `width` principal axes (k, channels) of blocks (n, channels, h, w), the largest first."""
    rows = blocks.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(rows @ rows.T / rows.shape[1])
    axes: Tensor = vectors[:, values.argsort(descending=True)[:width]].T.float()
    return axes


def _taps(basis: Tensor) -> Tensor:
    """A basis (k, 4 * channels) of 2x2 blocks as 5x5 kernels (k, channels, 5, 5) of stride 2, in their central taps."""
    kernel = torch.zeros(len(basis), basis.shape[1] // 4, 5, 5)
    kernel[:, :, 2:4, 2:4] = basis.view(len(basis), 2, 2, -1).permute(0, 3, 1, 2)
    return kernel


def _set(layer: NormalisedConvolution, kernel: Tensor) -> None:
    """Set the first inputs and outputs of a kernel; spare outputs keep their noise, and spare inputs are not used yet."""
    weight = layer.weight
    weight[: kernel.shape[0], : kernel.shape[1]] = kernel
    if layer.transposed:
        weight[kernel.shape[0] :, : kernel.shape[1]] = 0
    else:
        weight[: kernel.shape[0], kernel.shape[1] :] = 0
