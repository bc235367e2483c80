"""One quality of weights -> weights of layers, whose tables are fitted to images (FORMAT.md, 25: Layers)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import weights
from ..bitstream.autoencoder import MAX_QUALITY
from ..entropy.layered_tables import layers_of
from ..errors import ParameterError
from ..models import registry
from ..models.family import Tensors
from ..storage.locations import Location, parse_paths
from . import data, export, report, symbols
from .layered_trainer import check_layers, check_scalable
from .outputs import parse_output

LAYERS = 4
HELD_OUT = 10  # every tenth image is held out for measurement


def fit_layers(
    path: Location,
    images: Sequence[Location],
    output: Location,
    *,
    quality: int = MAX_QUALITY,
    layers: int = LAYERS,
    crops: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> tuple[weights.Source, list[report.HeldOutResult]]:
    """Write one quality of the weights at `path` as weights of layers: their last layer is that quality.

    Return them, and what each layer achieves on the held-out images, if there are some. A model card beside them, NAME.md,
    records both.

    path : a .safetensors file that caecodec trained
    images : files, folders and tar files of images; every tenth is held out
    crops : as for `export.export`
    name : the weights' name; the default is that of `output`

    Raises
    ------
    ParameterError
        `output` exists or has another suffix, the number of layers is out of range, there are no images, or no layers can be
        made of these weights: they lack the quality, are of layers already or of the family "binary", or their latents have
        offsets or no scale.
    WeightsError
        `path` holds no weights.
    """
    path, images, output = Path(path), parse_paths(images), parse_output(output, overwrite)
    if crops is not None and crops < 1:
        raise ParameterError(f"crops is {crops} but tables are fitted to at least 1 (leave it out for 1200 or more)")
    check_layers(layers)
    source = weights.open_file(path, "mse", quality)
    family, stored = registry.by_stored_name(source.family), weights.read_tensors(source)
    check_scalable(family)
    if layers_of(stored):
        raise ParameterError(f"{path} is of layers already; choose weights of qualities, such as those that it was made of")
    if quality not in source.qualities:
        raise ParameterError(
            f"quality is {quality} but {path} has {', '.join(map(str, source.qualities))}; choose one of these (-q)"
        )
    report.require()
    tensors, numbers = layer_tensors(stored, quality, layers), tuple(range(1, layers + 1))
    tensors.update(export.layer_tables(family, tensors, numbers, export.crops_of(images, HELD_OUT, crops)))
    saved = weights.save(
        output, tensors, name=name or output.stem, family=source.family, metric=source.metric, qualities=numbers
    )
    points = report.validate(saved, data.held_out(images, HELD_OUT))
    card = model_card(saved, path, quality, images, points)
    output.with_suffix(".md").write_text(card, encoding="utf-8", errors="backslashreplace")
    return saved, points


def model_card(
    source: weights.Source, path: Path, quality: int, images: Sequence[Path], points: Sequence[report.HeldOutResult]
) -> str:
    """What weights of layers were made of and what they achieve, as Markdown."""
    family = registry.by_stored_name(source.family).name
    lines = [
        f"# {source.name}",
        "",
        f"{family}, {source.metric}, {len(source.qualities)} layers; SHA-256 {source.sha256}",
        "",
        f"The network is that of {path.name}, whose quality {quality} is the last layer; it was not trained for layers.",
        f"Tables are fitted to {symbols.CROP}x{symbols.CROP} crops of the images in",
        f"{', '.join(image.name for image in images)}, of which every tenth is held out.",
        *(["", *report.held_out_table("layer", points)] if points else []),
    ]
    return "\n".join(lines) + "\n"


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
