"""One quality of weights -> weights of layers, whose tables are fitted to images (FORMAT.md, 25: Layers)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import weights
from ..bitstream.scalable import MAX_LAYERS
from ..entropy import layered
from ..entropy.streams import narrow
from ..errors import ParameterError
from ..models.family import Tensors
from . import export, symbols

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
        `output` exists or has another suffix, the number of layers is out of range, or the latents of these weights are not
        their symbols times a scale.
    WeightsError
        `path` holds no weights of this quality.
    """
    if output.suffix != ".safetensors":
        raise ParameterError(f"output is {output} but must be named NAME.safetensors")
    if output.exists() and not overwrite:
        raise ParameterError(f"{output} exists already; pass overwrite (--overwrite) to replace it")
    if not 2 <= layers <= MAX_LAYERS:
        raise ParameterError(f"layers is {layers} but must be 2 to {MAX_LAYERS}")
    source = weights.open_file(path, "mse", quality)
    tensors = layer_tensors(weights.read_tensors(source), quality, layers)
    loaded = weights.load(source, quality)
    family = loaded.family
    if tensors["q1.latent_scale"].shape != (loaded.network.latent_channels,):
        raise ParameterError(
            f"weights are of family {source.family!r}, whose latents are not its symbols times a scale; choose another family"
        )
    folded = family.fold(tensors, layers)
    taken = export.crops_of(images, without, crops)
    batches = [narrow(batch) for batch in symbols.batches(family, folded, layers, taken)]
    tables = layered.MODEL.fit(batches, layers)
    for layer in range(1, layers + 1):
        tensors.update(layered.MODEL.store(tables, layer))
    return weights.save(
        output, tensors, name=name or output.stem, family=source.family, metric=source.metric,
        qualities=tuple(range(1, layers + 1)),
    )  # fmt: skip


def layer_tensors(tensors: Tensors, quality: int, layers: int) -> Tensors:
    """The tensors of one quality of a network as those of every layer, without tables.

    The latents of a layer are doubled middles of intervals, so their scale is half that of the quality.
    """
    prefix = f"q{quality}."
    scale = f"{prefix}latent_scale"
    if scale not in tensors or np.any(tensors.get(f"{prefix}medians", 0)):
        raise ParameterError(
            f"quality {quality} of the weights has no latent scale, or medians that are not 0, as checkpoints of CompressAI "
            "have; choose weights that caecodec trained"
        )
    common = {name: tensor for name, tensor in tensors.items() if not (name[0] == "q" and name[1:2].isdigit())}
    own = {
        name[len(prefix) :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.startswith((f"{prefix}static.", f"{prefix}context."))
    }
    own["latent_scale"] = own["latent_scale"] / 2
    return common | {f"q{layer}.{name}": tensor for layer in range(1, layers + 1) for name, tensor in own.items()}
