"""Checks this network's tensors of a weights file, and folds them into one quality (FORMAT.md, 23).

convolutions, batch normalisation, a scale and a shift per quality ── fold ──▶ plain convolutions
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..family import Floats, FoldedNetwork, Tensors

LAYERS = 3
COLOURS = 3
KERNEL = 5
EPSILON = 1e-5  # added to variances


class LayerShape(NamedTuple):
    """A layer of a file: its name, the shape of its kernel, its output channels, and whether it has a norm."""

    name: str
    shape: tuple[int, ...]
    outputs: int
    normalised: bool


def layers(tensors: Tensors) -> Iterator[LayerShape]:
    """The layers of a file, with shapes that follow from its outer widths; KeyError if one of these is missing."""
    down = (COLOURS, *(tensors[f"g_a.{i}.weight"].shape[0] for i in range(LAYERS)))
    up = (down[-1], *(tensors[f"g_s.{i}.weight"].shape[1] for i in range(LAYERS - 1)), COLOURS)
    for i, (inputs, outputs) in enumerate(pairwise(down)):
        yield LayerShape(f"g_a.{i}", (outputs, inputs, KERNEL, KERNEL), outputs, True)
    for i, (inputs, outputs) in enumerate(pairwise(up)):
        yield LayerShape(f"g_s.{i}", (inputs, outputs, KERNEL, KERNEL), outputs, i < LAYERS - 1)


def check(tensors: Tensors, quality: int) -> None:
    """Raise KeyError if a tensor is missing, and ValueError if its shape or dtype is not that of FORMAT.md."""
    for side, axis in (("g_a", 0), ("g_s", 1)):
        for i in range(LAYERS):
            weight = tensors[f"{side}.{i}.weight"]
            if weight.ndim != 4 or not weight.shape[axis]:
                raise ValueError(f"{side}.{i}.weight has shape {weight.shape} but must have 4 axes and channels")
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(tensors):
        shapes[f"{layer.name}.weight"] = layer.shape
        parts = [f"q{quality}.{layer.name}.scale", f"q{quality}.{layer.name}.shift"]
        parts += [f"{layer.name}.mean", f"{layer.name}.variance"] if layer.normalised else []
        shapes.update(dict.fromkeys(parts, (layer.outputs,)))
    bits = tensors["g_a.2.weight"].shape[0]
    shapes[f"q{quality}.latent_scale"] = (bits,)
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} but must be float16 or float32 {shape}")
    if bits % 2:
        raise ValueError(f"g_a.2.weight gives {bits} bits but the number must be even, because a symbol holds two")
    active = tensors[f"q{quality}.active"]
    if active.shape != (bits // 2,) or active.dtype != np.uint8 or active.max() > 1:
        raise ValueError(
            f"q{quality}.active is {active.dtype} {active.shape} but must be uint8 ({bits // 2},), of 0 and 1 alone"
        )


def fold(tensors: Tensors, quality: int) -> FoldedNetwork:
    """Fold tensors that have passed `check` into the plain network of one quality; ValueError for a negative variance."""
    plain: dict[str, Floats] = {}
    for name, _, outputs, normalised in layers(tensors):
        scale, shift = (tensors[f"q{quality}.{name}.{part}"].astype(np.float32) for part in ("scale", "shift"))
        if normalised:
            mean, variance = (tensors[f"{name}.{part}"].astype(np.float32) for part in ("mean", "variance"))
            if variance.min() < 0:
                raise ValueError(f"{name}.variance has {variance.min()} but no variance may be negative")
            scale = (scale / np.sqrt(variance + EPSILON)).astype(np.float32)
            shift = shift - mean * scale
        axis = (outputs, 1, 1, 1) if name.startswith("g_a") else (1, outputs, 1, 1)
        plain[f"{name}.weight"] = tensors[f"{name}.weight"].astype(np.float32) * scale.reshape(axis)
        plain[f"{name}.bias"] = shift
    latent_scale = tensors[f"q{quality}.latent_scale"].astype(np.float32)
    plain["g_s.0.weight"] = plain["g_s.0.weight"] * latent_scale[:, None, None, None]
    active = plain["active"] = tensors[f"q{quality}.active"].astype(np.float32)
    return FoldedNetwork(plain, np.zeros_like(active), active)
