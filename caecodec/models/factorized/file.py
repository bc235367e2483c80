"""Checks this network's tensors of a weights file, and folds them into one quality (FORMAT.md, 8).

layers, each with a scale and a shift per quality ── fold ──▶ plain layers
"""

import numpy as np

from ..family import FoldedNetwork, Tensors

CONVOLUTIONS = ("g_a.0", "g_a.2", "g_a.4", "g_a.6", "g_s.0", "g_s.2", "g_s.4", "g_s.6")
NORMALISATIONS = ("g_a.1", "g_a.3", "g_a.5", "g_s.1", "g_s.3", "g_s.5")


def check(tensors: Tensors, quality: int) -> None:
    """Raise KeyError if a tensor is missing, and ValueError if its shape or dtype is not that of FORMAT.md."""
    prefix = f"q{quality}."
    hidden, latent = (tensors[name].size for name in ("g_a.0.bias", "g_a.6.bias"))
    widths = {"g_a": (3, hidden, hidden, hidden, latent), "g_s": (latent, hidden, hidden, hidden, 3)}
    shapes: dict[str, tuple[int, ...]] = {}
    optional: dict[str, tuple[int, ...]] = {f"{prefix}latent_scale": (latent,), f"{prefix}medians": (latent,)}
    for layer in CONVOLUTIONS:
        inputs, outputs = widths[layer[:3]][int(layer[4:]) // 2 :][:2]
        shapes[f"{layer}.weight"] = (outputs, inputs, 5, 5) if layer.startswith("g_a") else (inputs, outputs, 5, 5)
        shapes[f"{layer}.bias"] = (outputs,)
        scaled = shapes if f"{prefix}{layer}.scale" in tensors else optional
        scaled.update({f"{prefix}{layer}.{part}": (outputs,) for part in ("scale", "shift")})
    for layer in NORMALISATIONS:
        shapes.update({f"{layer}.beta": (hidden,), f"{layer}.gamma": (hidden, hidden)})
    shapes.update({name: shape for name, shape in optional.items() if name in tensors})
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or 0 in shape or tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} but must be float16 or float32 {shape}")


def fold(tensors: Tensors, quality: int) -> FoldedNetwork:
    """Fold each scale and shift into its convolution, and the scale of the latents into g_s.0.

    Raises ValueError if a beta is not above 0.
    """
    prefix = f"q{quality}."
    latent = len(tensors["g_a.6.bias"])
    latent_scale = tensors.get(f"{prefix}latent_scale")
    plain = {}
    for layer in CONVOLUTIONS:
        weight, bias = (tensors[f"{layer}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        scale = tensors.get(f"{prefix}{layer}.scale")
        if scale is not None:
            across = scale[:, None, None, None] if layer.startswith("g_a") else scale[:, None, None]
            weight, bias = weight * across, bias * scale + tensors[f"{prefix}{layer}.shift"]
        if layer == "g_s.0" and latent_scale is not None:
            weight = weight * latent_scale[:, None, None, None]
        plain[f"{layer}.weight"], plain[f"{layer}.bias"] = weight, bias
    for layer in NORMALISATIONS:
        plain[f"{layer}.beta"] = tensors[f"{layer}.beta"].astype(np.float32)
        if plain[f"{layer}.beta"].min() <= 0:
            raise ValueError(f"{layer}.beta holds values that are not above 0")
        plain[f"{layer}.gamma"] = tensors[f"{layer}.gamma"].astype(np.float32)[:, :, None, None]
    plain["medians"] = tensors.get(f"{prefix}medians", np.zeros(latent, np.float32))
    scales = np.ones(latent, np.float32) if latent_scale is None else latent_scale.astype(np.float32)
    return FoldedNetwork(plain, plain["medians"].astype(np.float32), scales)
