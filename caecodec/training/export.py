"""Checkpoints of CompressAI -> weights files; checkpoints of training runs and images -> weights files with fitted tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import weights
from ..entropy import layered, registry
from ..entropy.streams import narrow
from ..errors import ParameterError
from ..models.factorized import compressai
from ..models.factorized.family import Factorized
from ..models.family import Family, Tensors
from ..storage.locations import Location, local, parse_paths
from ..storage.partial import refuse_existing
from ..weights import file
from . import data, symbols
from .layered_trainer import LayeredTrainer
from .outputs import in_folder, parse_output
from .state import family_of

CROPS = 1200  # crops that tables are fitted to; more if there are more images, fewer if the images are small


def export(
    checkpoint: Location,
    output: Location,
    images: Sequence[Location] = (),
    *,
    name: str | None = None,
    metric: str | None = None,
    quality: int | None = None,
    crops: int | None = None,
    overwrite: bool = False,
    without: int = 0,
) -> weights.Source:
    """Write a checkpoint as a weights file.

    Parameters
    ----------
    checkpoint
        A checkpoint of CompressAI or of a training run.
    output
        NAME.safetensors.
    images
        For a training run: folders and tar files of photographs to fit the entropy tables to.
    name
        The weights' name. The default is the name of a CompressAI checkpoint's file, so that the digest equals that of payloads
        written with the checkpoint itself; for a training run it is the name of `output`.
    metric
        The default is the checkpoint's metric, or "mse" if it has none.
    quality
        For a CompressAI checkpoint: the quality that it was trained for.
    crops
        The number of random 256x256 crops that tables are fitted to, at most as many as cover each pixel twice. The default is
        1200, and at least one per image; or each pixel once, if that takes no more. All are held in memory.
    without
        Leave out every `without`-th image; 0: none.

    Raises
    ------
    ParameterError
        One of these is missing, or `output` exists.
    WeightsError
        The checkpoint is of neither kind, or of another network.
    """
    checkpoint, output, images = Path(checkpoint), parse_output(output, overwrite), parse_paths(images)
    if checkpoint.suffix == ".safetensors":
        raise ParameterError(
            f"{checkpoint} is a weights file already; fit its tables anew with caecodec fit-entropy, or name a checkpoint"
        )
    if crops is not None and crops < 1:
        raise ParameterError(f"crops is {crops} but entropy tables are fitted to at least 1 (leave it out for 1200 or more)")
    state = compressai.read(checkpoint)
    found = family_of(state)
    if found is None:
        if quality is None:
            raise ParameterError(
                f"{checkpoint} is a CompressAI checkpoint, which does not store its quality; pass quality (-q 1 to 8)"
            )
        qualities: tuple[int, ...] = (quality,)
        tensors, stored_name = compressai.from_state_dict(state, quality), weights.CHECKPOINTS
        name = name or checkpoint.name
    else:
        if not images:
            raise ParameterError(f"{checkpoint} has no entropy tables; name the folders or tar files of images to fit them to")
        family, trainer = found
        stored_name = family.stored_name
        metric = metric or trainer.metric(state)
        tensors, qualities = trainer.tensors(state), trainer.qualities(state)
        fit = layer_tables if isinstance(trainer, LayeredTrainer) else _tables
        tensors.update(fit(family, tensors, qualities, crops_of(images, without, crops)))
    name = name or output.stem
    about: dict[str, Any] = {"name": name, "family": stored_name, "metric": metric or "mse", "qualities": qualities}
    data = file.serialise(tensors, **about)
    for q in qualities:
        file.quality_weights(data, q, str(output))
    return weights.save(output, tensors, **about)


def to_compressai(name: str, quality: int, output: Location, *, metric: str = "mse", overwrite: bool = False) -> None:
    """Write one quality of installed weights, or of a file, as a state dict that CompressAI's FactorizedPrior loads.

    Raises
    ------
    ParameterError
        `output` exists.
    WeightsError
        The weights do not exist.
    """
    output = in_folder(local(output))
    refuse_existing(output, overwrite)
    loaded = weights.load(weights.resolve(weights.Spec.parse(name), metric, quality), quality)
    if loaded.family.name != Factorized.name:
        raise ParameterError(
            f"weights {name!r} are of family {loaded.family.name!r} but CompressAI loads "
            f"{Factorized.name!r} alone; choose weights of that family"
        )
    tables = loaded.tables["static"]
    torch.save(compressai.to_state_dict(loaded.network.tensors, tables.mass, tables.length, tables.offset), output)


def crops_of(images: Sequence[Path], without: int, wanted: int | None) -> list[npt.NDArray[np.uint8]]:
    """Crops to fit tables to: random ones, equally many per image, or by default all pixels of images that have few."""
    size = symbols.CROP
    large = [shape for shape in data.sizes(images, without) if min(shape) >= size]
    most = max(len(large), CROPS)
    if wanted is None and sum(data.grid_count(shape, size) for shape in large) <= most:
        crops = [crop.copy() for crop in data.grid(images, size, without)]
    else:
        twice = 2 * sum(height * width for height, width in large) // size**2  # crops that cover each pixel twice
        crops = [crop.copy() for _, crop in data.spread(images, size, min(twice, wanted or most), without=without)]
    if not crops:
        raise ParameterError(f"no image of {size}x{size} pixels in {', '.join(map(str, images))}; name others")
    return crops


def layer_tables(family: Family, tensors: Tensors, layers: Sequence[int], crops: Sequence[npt.NDArray[np.uint8]]) -> Tensors:
    """The tables of layers, 1 to the last, fitted to the symbols of crops."""
    last = layers[-1]
    batches = [narrow(batch) for batch in symbols.batches(family, family.fold(tensors, last), last, crops)]
    tables = layered.MODEL.fit(batches, last)
    fitted: Tensors = {}
    for layer in layers:
        fitted.update(layered.MODEL.store(tables, layer))
    return fitted


def _tables(family: Family, tensors: Tensors, qualities: Sequence[int], crops: Sequence[npt.NDArray[np.uint8]]) -> Tensors:
    """The tables of all qualities, fitted to the symbols of the same crops."""
    fitted: Tensors = {}
    for quality in qualities:
        folded = family.fold(tensors, quality)
        batches = [narrow(batch) for batch in symbols.batches(family, folded, quality, crops)]
        for model in registry.models():
            tables = model.fit(batches)
            if tables is not None:
                fitted.update(model.store(tables, quality))
    return fitted
