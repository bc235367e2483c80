"""Checks this network's tensors of a weights file, and folds them into one quality (FORMAT.md, 22).

layers, some with a scale and a shift per quality ── fold ──▶ plain layers
"""

import numpy as np

from ..family import FoldedNetwork, Tensors
from .architecture import ANALYSIS, BRANCH, SYNTHESIS, Kind, stages

Shapes = dict[str, tuple[int, ...]]


def widths(tensors: Tensors) -> tuple[int, int]:
    """The channels (N, M) between the layers and of the latents; KeyError or ValueError if the last convolution lacks them."""
    shape = tensors["g_a.latent.weight"].shape
    if len(shape) != 4:
        raise ValueError(f"g_a.latent.weight has shape {shape} but must have (latent channels, hidden channels, 3, 3)")
    return shape[1], shape[0]


def shapes(hidden: int, latent: int) -> tuple[Shapes, Shapes]:
    """The shapes of the tensors of all qualities, and of the weights among them whose outputs are modulated."""
    plain: Shapes = {"g_s.latent.weight": (4 * hidden, latent, 3, 3), "g_s.latent.bias": (4 * hidden,)}
    modulated: Shapes = {"g_a.latent": (latent, hidden, 3, 3)}

    def block(name: str, kind: Kind, inputs: int, outputs: int) -> None:
        first = 4 * outputs if kind == "up" else outputs
        plain[f"{name}.conv_in.weight"] = (first, inputs, 3, 3)
        plain[f"{name}.conv_in.bias"] = (first,)
        modulated[f"{name}.conv_out"] = (outputs, outputs, 3, 3)
        plain[f"{name}.norm.beta"] = (outputs,)
        plain[f"{name}.norm.gamma"] = (outputs, outputs)
        plain[f"{name}.shortcut.weight"] = (first, inputs, 2, 2) if kind == "down" else (first, inputs)
        plain[f"{name}.shortcut.bias"] = (first,)

    for side, kinds in (("g_a", ANALYSIS), ("g_s", SYNTHESIS)):
        for number, kind, inputs, outputs in stages(kinds, hidden):
            name = f"{side}.{number}"
            if kind != "attention":
                block(name, kind, inputs, outputs)
                continue
            for part in ("trunk", "mask"):
                for i in range(BRANCH):
                    block(f"{name}.{part}.{i}", "residual", inputs, outputs)
            for part in ("gate", "shortcut"):
                plain[f"{name}.{part}.weight"] = (outputs, inputs)
                plain[f"{name}.{part}.bias"] = (outputs,)
    plain.update({f"{name}.weight": shape for name, shape in modulated.items()})
    return plain, modulated


def check(tensors: Tensors, quality: int) -> None:
    """Raise KeyError if a tensor is missing, and ValueError if its shape or dtype is not that of FORMAT.md."""
    hidden, latent = widths(tensors)
    expected, modulated = shapes(hidden, latent)
    for name, shape in modulated.items():
        expected.update({f"q{quality}.{name}.{part}": shape[:1] for part in ("scale", "shift")})
    expected[f"q{quality}.latent_scale"] = (latent,)
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or 0 in shape or tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} but must be float16 or float32 {shape}")


def fold(tensors: Tensors, quality: int) -> FoldedNetwork:
    """Fold each scale and shift into its convolution, and the scale of the latents into g_s.latent.

    Matrices become 1x1 convolutions. Raises ValueError if a beta is not above 0.
    """
    expected, modulated = shapes(*widths(tensors))
    plain = {name: tensors[name].astype(np.float32) for name in expected}
    for name, value in plain.items():
        if name.endswith(".beta") and value.min() <= 0:
            raise ValueError(f"{name} holds values that are not above 0")
    plain = {name: value[:, :, None, None] if value.ndim == 2 else value for name, value in plain.items()}
    for name in modulated:
        scale, shift = (tensors[f"q{quality}.{name}.{part}"].astype(np.float32) for part in ("scale", "shift"))
        plain[f"{name}.weight"] = plain[f"{name}.weight"] * scale[:, None, None, None]
        plain[f"{name}.bias"] = shift
    scale = tensors[f"q{quality}.latent_scale"].astype(np.float32)
    plain["g_s.latent.weight"] = plain["g_s.latent.weight"] * scale[:, None, None]
    return FoldedNetwork(plain, np.zeros_like(scale), scale)
