"""Checks this network's tensors of a weights file, and folds them into one quality (FORMAT.md, 20).

layers, some with a scale and a shift per quality ── fold ──▶ plain layers
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from ..family import FoldedNetwork, Tensors
from .architecture import EXPANSION, VALUES


class Layer(NamedTuple):
    """A layer of a file: the name and shape of its weight; if `modulated`, each quality has a scale and a shift of outputs."""

    name: str
    shape: tuple[int, ...]
    modulated: bool


def layers(tensors: Tensors) -> Iterator[Layer]:
    """The layers of a file, with shapes that follow from its outermost ones; KeyError if one of these is missing."""
    latent = tensors["g_a.latent.weight"].shape[0]
    for side in ("g_a", "g_s"):
        analysis = side == "g_a"
        fine = tensors[f"{side}.patch.weight"].shape[0 if analysis else -1]
        coarse = tensors[f"{side}.latent.weight"].shape[-1 if analysis else 0]
        yield Layer(f"{side}.patch", (fine, VALUES) if analysis else (VALUES, fine), True)
        yield Layer(f"{side}.{'merge' if analysis else 'split'}", (coarse, 4 * fine) if analysis else (4 * fine, coarse), True)
        yield Layer(f"{side}.latent", (latent, coarse) if analysis else (coarse, latent), True)
        for scale, channels in (("fine", fine), ("coarse", coarse)):
            for number in range(blocks(tensors, f"{side}.{scale}")):
                block = f"{side}.{scale}.{number}"
                yield Layer(f"{block}.spatial_in", (channels, channels), True)
                yield Layer(f"{block}.depthwise", (channels, 3, 3), False)
                yield Layer(f"{block}.spatial_out", (channels, channels), False)
                yield Layer(f"{block}.channel_in", (EXPANSION * channels, channels), True)
                yield Layer(f"{block}.channel_out", (channels, EXPANSION * channels), False)


def blocks(tensors: Tensors, prefix: str) -> int:
    """The number of blocks whose names begin with a prefix."""
    return next(number for number in count() if f"{prefix}.{number}.depthwise.weight" not in tensors)


def check(tensors: Tensors, quality: int) -> None:
    """Raise KeyError if a tensor is missing, and ValueError if its shape or dtype is not that of FORMAT.md."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(tensors):
        shapes[f"{layer.name}.weight"] = layer.shape
        if layer.modulated:
            shapes.update({f"q{quality}.{layer.name}.{part}": layer.shape[:1] for part in ("scale", "shift")})
    shapes[f"q{quality}.latent_scale"] = shapes["g_a.latent.weight"][:1]
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or 0 in shape or tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} but must be float16 or float32 {shape}")


def fold(tensors: Tensors, quality: int) -> FoldedNetwork:
    """Fold tensors that have passed `check` into the plain network of one quality."""
    plain = {}
    for layer in layers(tensors):
        weight = tensors[f"{layer.name}.weight"].astype(np.float32)
        if layer.modulated:
            weight = weight * tensors[f"q{quality}.{layer.name}.scale"].astype(np.float32)[:, None]
            plain[f"{layer.name}.bias"] = tensors[f"q{quality}.{layer.name}.shift"].astype(np.float32)
        plain[f"{layer.name}.weight"] = weight
    scale = tensors[f"q{quality}.latent_scale"].astype(np.float32)
    plain["g_s.latent.weight"] = plain["g_s.latent.weight"] * scale
    return FoldedNetwork(plain, np.zeros_like(scale), scale)
