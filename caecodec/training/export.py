"""A training checkpoint of a conditional backbone -> a weights file: fp16 network, folded per-quality scales, tables.

The checkpoint is a torch state dict: ``ga.i``/``gs.i`` convolutions, ``gan.i``/``gsn.i`` GDN with square-root
parameters, ``fa.i``/``fs.i`` per-quality log-scale ``s`` and shift ``b`` of each convolution's output, ``fi.s`` log-scale
of the latents before the synthesis.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import weights
from ..models.compressai import PEDESTAL
from ..models.registry import FAMILIES
from . import data, tables

CROP = 256
BATCH = 8


def convert(state: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a weights file, tables not yet among them, from a conditional backbone's state dict."""
    half: dict[str, Tensor] = {}
    for i in range(4):
        for ours, theirs in (("g_a", "ga"), ("g_s", "gs")):
            half[f"{ours}.{2 * i}.weight"] = state[f"{theirs}.{i}.weight"]
            half[f"{ours}.{2 * i}.bias"] = state[f"{theirs}.{i}.bias"]
    for i in range(3):
        for ours, theirs in (("g_a", "gan"), ("g_s", "gsn")):
            half[f"{ours}.{2 * i + 1}.beta"] = state[f"{theirs}.{i}.beta"].clamp_min((1e-6 + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
            half[f"{ours}.{2 * i + 1}.gamma"] = state[f"{theirs}.{i}.gamma"].clamp_min(PEDESTAL**0.5) ** 2 - PEDESTAL
    tensors: dict[str, npt.NDArray[Any]] = {name: value.to(torch.float16).numpy() for name, value in half.items()}
    for q in range(len(state["fa.0.s"])):
        for i in range(4):
            for ours, theirs in (("g_a", "fa"), ("g_s", "fs")):
                tensors[f"q{q + 1}.{ours}.{2 * i}.scale"] = state[f"{theirs}.{i}.s"][q].exp().float().numpy()
                tensors[f"q{q + 1}.{ours}.{2 * i}.shift"] = state[f"{theirs}.{i}.b"][q].float().numpy()
        tensors[f"q{q + 1}.latent_scale"] = state["fi.s"][q].exp().float().numpy()
    return tensors


def fit_tables(tensors: dict[str, npt.NDArray[Any]], family: str, qualities: tuple[int, ...], paths: list[Path]) -> None:
    """Add to `tensors` the static tables of these qualities, fitted to one 256x256 crop of each image at these paths."""
    batches = _batches(paths)
    for quality in qualities:
        plain = weights.fold(tensors, quality)
        network = FAMILIES[family].build(plain)
        histograms = tables.Histograms(network.latent)
        for batch in batches:
            histograms.add(network.analysis(batch.float() / 255).numpy())
        names = ("mass", "length", "offset")
        for name, values in zip(names, tables.fit(histograms.counts), strict=True):
            tensors[f"q{quality}.static.{name}"] = values


def _batches(paths: list[Path]) -> list[Tensor]:
    """Crops as uint8 (n, 3, 256, 256), channels last."""
    crops = np.stack(list(data.crops(paths, CROP, 1)))
    return list(torch.from_numpy(crops).permute(0, 3, 1, 2).split(BATCH))
