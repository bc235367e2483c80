"""Checkpoints -> weights files: of CompressAI, or of a conditional backbone, whose tables are fitted to images.

The latter is a torch state dict: ``ga.i``/``gs.i`` convolutions, ``gan.i``/``gsn.i`` GDN with square-root parameters,
``fa.i``/``fs.i`` per-quality log-scale ``s`` and shift ``b`` of each convolution's output, ``fi.s`` log-scale of the
latents before the synthesis. Its network is stored in fp16.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import weights
from ..bitstream.autoencoder import METRICS
from ..errors import ParameterError
from ..models.factorized import compressai
from ..weights import file as weights_file
from . import context, data, symbols, tables

FAMILY = "cae"
CROPS = 1200  # that tables are fitted to; more where there are more images, fewer where these are small
MOST_CROPS = 3000  # that context tables are fitted to


def export(
    checkpoint: Path,
    output: Path,
    images: Sequence[Path] = (),
    *,
    name: str | None = None,
    metric: str | None = None,
    quality: int | None = None,
    crops: int | None = None,
    overwrite: bool = False,
    without: int = 0,
) -> weights.Source:
    """Write `output`, a weights file, from a checkpoint; `metric` is that of the checkpoint, or where it names none, mse.

    A CompressAI checkpoint needs `quality`, the one it was trained for; a conditional backbone, `images` to fit its entropy
    tables to (folders and tar files of photographs; every `without`-th is left out, 0 being none): to so many `crops` of
    256x256, by default 1200, and one of each image at least. `name` is by default that
    of the CompressAI checkpoint's file, so that the weights have the digest that payloads written with the checkpoint itself
    name; or else that of `output`.

    Raises
    ------
    ParameterError
        One of these is missing, or `output` exists.
    WeightsError
        The checkpoint is of neither kind.
    """
    if output.suffix != ".safetensors":
        raise ParameterError(f"output is {output} but a weights file is named NAME.safetensors")
    if output.exists() and not overwrite:
        raise ParameterError(f"{output} exists already; pass overwrite (--overwrite) to replace it")
    if crops is not None and crops < 1:
        raise ParameterError(f"crops is {crops} but entropy tables are fitted to at least 1 (leave it out for 1200 or more)")
    state = compressai.read(checkpoint)
    if "fa.0.s" not in state:
        if quality is None:
            raise ParameterError(
                f"{checkpoint} is a CompressAI checkpoint, which does not say its quality; pass quality (-q 1 to 8)"
            )
        qualities: tuple[int, ...] = (quality,)
        tensors = compressai.from_state_dict(state, quality)
        name = name or checkpoint.name
    else:
        if not images:
            raise ParameterError(f"{checkpoint} has no entropy tables; name the folders or tar files of images to fit them to")
        metric = metric or (METRICS[int(state["metric"])] if "metric" in state else None)
        tensors, qualities = conditional(state), _qualities(state)
        for q in qualities:
            tensors.update(_fitted(tensors, q, images, without, crops))
    return weights.save(output, tensors, name=name or output.stem, family=FAMILY, metric=metric or "mse", qualities=qualities)


def to_compressai(name: str, quality: int, output: Path, *, metric: str = "mse", overwrite: bool = False) -> None:
    """Write `output`, a state dict that CompressAI's FactorizedPrior loads, from one quality of installed weights or a file.

    Raises
    ------
    ParameterError
        `output` exists.
    WeightsError
        There are no such weights.
    """
    if output.exists() and not overwrite:
        raise ParameterError(f"{output} exists already; pass overwrite (--overwrite) to replace it")
    network = weights.load(weights.resolve(weights.Spec.parse(name), metric, quality), quality)
    tables = network.tables
    torch.save(compressai.to_state_dict(network.tensors, tables.mass, tables.length, tables.offset), output)


def _qualities(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The qualities of a conditional backbone; where it names none, those that follow from its width."""
    if "qualities" in state:
        return tuple(state["qualities"].tolist())
    first = 1 if len(state["fa.3.s"][0]) == 192 else 6
    return tuple(range(first, first + len(state["fa.0.s"])))


def conditional(state: Mapping[str, Tensor]) -> weights_file.Tensors:
    """The tensors of a conditional backbone, tables not yet among them."""
    half: dict[str, Tensor] = {}
    for ours, conv, norm in (("g_a", "ga", "gan"), ("g_s", "gs", "gsn")):
        for i in range(4):
            half[f"{ours}.{2 * i}.weight"] = state[f"{conv}.{i}.weight"]
            half[f"{ours}.{2 * i}.bias"] = state[f"{conv}.{i}.bias"]
        for i in range(3):
            half[f"{ours}.{2 * i + 1}.beta"] = compressai.effective(state[f"{norm}.{i}.beta"], compressai.BETA_MINIMUM)
            half[f"{ours}.{2 * i + 1}.gamma"] = compressai.effective(state[f"{norm}.{i}.gamma"])
    tensors: weights_file.Tensors = {name: value.to(torch.float16).numpy() for name, value in half.items()}
    for index, q in enumerate(_qualities(state)):
        for ours, film in (("g_a", "fa"), ("g_s", "fs")):
            for i in range(4):
                tensors[f"q{q}.{ours}.{2 * i}.scale"] = state[f"{film}.{i}.s"][index].exp().float().numpy()
                tensors[f"q{q}.{ours}.{2 * i}.shift"] = state[f"{film}.{i}.b"][index].float().numpy()
        tensors[f"q{q}.latent_scale"] = state["fi.s"][index].exp().float().numpy()
    return tensors


def _fitted(
    tensors: weights_file.Tensors, quality: int, images: Sequence[Path], without: int, most: int | None
) -> weights_file.Tensors:
    """Tables of one quality, fitted to the symbols of random crops, as many of each image."""
    plain = weights_file.fold(tensors, quality)
    histograms, kept = tables.Histograms(len(plain["medians"])), []
    large = [size for size in data.sizes(images, without) if min(size) >= symbols.CROP]
    twice = 2 * sum(height * width for height, width in large) // symbols.CROP**2  # crops that see each pixel two times
    total = min(twice, most or max(len(large), CROPS))
    crops = (crop for _, crop in data.spread(images, symbols.CROP, total, without=without))
    for batch in symbols.batches(FAMILY, plain, crops):
        histograms.add(batch)
        kept.append(symbols.narrow(batch))
    if not kept:
        raise ParameterError(f"no image of {symbols.CROP}x{symbols.CROP} pixels in {', '.join(map(str, images))}; name others")
    kept = kept[:: -(-len(kept) * symbols.BATCH // MOST_CROPS)]
    names = ("mass", "length", "offset")
    static = {f"q{quality}.static.{name}": values for name, values in zip(names, tables.fit(histograms.counts), strict=True)}
    return static | weights_file.context_tensors(context.fit(np.concatenate(kept)), quality)
