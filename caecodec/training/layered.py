"""One quality of weights -> weights of layers, whose tables are fitted to images (FORMAT.md, 24: Layers)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import weights
from ..bitstream.scalable import MAX_LAYERS
from ..entropy.layered_tables import layers_of
from ..errors import ParameterError
from ..models import registry
from ..models.family import Tensors
from . import export
from .layered_trainer import NOT_SCALABLE

LAYERS = 4


def fit_layers(
    path: Path,
    images: Sequence[Path],
    output: Path,
    *,
    quality: int = 8,
    layers: int = LAYERS,
    crops: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
    without: int = 0,
) -> weights.Source:
    """Write one quality of the weights at `path` as weights of layers: their last layer is that quality.

    images, crops, without : as for `export.export`
    name : the weights' name; the default is that of `output`

    Raises
    ------
    ParameterError
        `output` exists or has another suffix, or the number of layers is out of range.
    WeightsError
        `path` holds no weights of this quality, or weights whose latents have offsets or no scale per quality.
    """
    if output.suffix != ".safetensors":
        raise ParameterError(f"output is {output} but must be named NAME.safetensors")
    if output.exists() and not overwrite:
        raise ParameterError(f"{output} exists already; pass overwrite (--overwrite) to replace it")
    if not 2 <= layers <= MAX_LAYERS:
        raise ParameterError(f"layers is {layers} but must be 2 to {MAX_LAYERS}")
    source = weights.open_file(path, "mse", quality)
    family, stored = registry.by_stored_name(source.family), weights.read_tensors(source)
    if not family.scalable:
        raise ParameterError(NOT_SCALABLE.format(family.name))
    if layers_of(stored):
        raise ParameterError(f"{path} is of layers already; choose weights of qualities, such as those that it was made of")
    tensors, numbers = layer_tensors(stored, quality, layers), range(1, layers + 1)
    tensors.update(export.layer_tables(family, tensors, numbers, export.crops_of(images, without, crops)))
    return weights.save(
        output, tensors, name=name or output.stem, family=source.family, metric=source.metric,
        qualities=tuple(numbers),
    )  # fmt: skip


def layer_tensors(tensors: Tensors, quality: int, layers: int) -> Tensors:
    """The tensors of one quality of a network as those of every layer, without tables.

    The latents of a layer are doubled middles of intervals, so their scale is half that of the quality.
    """
    prefix = f"q{quality}."
    scale = f"{prefix}latent_scale"
    if scale not in tensors or np.any(tensors.get(f"{prefix}medians", 0)):
        raise ParameterError(
            f"quality {quality} of the weights has no latent scale, or medians that are not 0, as checkpoints of CompressAI have; "
            "choose weights that caecodec trained"
        )
    common = {name: tensor for name, tensor in tensors.items() if not (name[0] == "q" and name[1:2].isdigit())}
    own = {
        name[len(prefix) :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.startswith((f"{prefix}static.", f"{prefix}context."))
    }
    own["latent_scale"] = own["latent_scale"] / 2
    return common | {f"q{layer}.{name}": tensor for layer in range(1, layers + 1) for name, tensor in own.items()}
