"""Weights with static tables, or a CompressAI checkpoint, -> a weights file with better tables, fitted to images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import weights
from ..entropy import registry as entropy_models
from ..entropy import static
from ..entropy.model import EntropyModel
from ..entropy.streams import CodedSymbols, narrow
from ..errors import ParameterError
from ..models import registry
from ..models.family import Tensors
from ..storage.locations import Location, parse_paths
from . import data, symbols
from .outputs import parse_output

CROPS = 3000
HELD_OUT = 10  # every tenth image is held out for measurement


class Gain(NamedTuple):
    """The bytes of the streams and escapes of held-out crops with static and with fitted tables; each crop is coded separately.

    model : the entropy model whose tables were fitted
    """

    quality: int
    crops: int
    model: str
    static: int
    fitted: int

    @property
    def saved(self) -> float:
        """The percentage of bytes that the fitted tables save."""
        return 100 * (1 - self.fitted / self.static)


def fit_entropy(
    path: Location,
    images: Sequence[Location],
    output: Location,
    *,
    crops: int = CROPS,
    name: str | None = None,
    metric: str = "mse",
    quality: int | None = None,
    overwrite: bool = False,
) -> tuple[weights.Source, list[Gain]]:
    """Write the weights at `path` to `output`, with tables for all their qualities fitted to crops of images.

    The tables are those of the entropy model that writers prefer: binary-context for latents of one bit, context for others.
    A model card beside it, NAME.md, records what the tables were fitted to and what they gain.

    path : a .safetensors file, or a CompressAI checkpoint, which needs the `quality` and `metric` that it was trained for
    images : files, folders and tar files of images; every tenth is held out
    crops : the number of crops of 256x256 pixels, spread over the images

    Raises
    ------
    ParameterError
        `output` exists or has another suffix, quality is missing, or there are too few images.
    WeightsError
        `path` holds no weights.
    """
    path, images, output = Path(path), parse_paths(images), parse_output(output, overwrite)
    if path.suffix != ".safetensors" and quality is None:
        raise ParameterError(f"{path} is a checkpoint, which does not store its quality; pass quality (-q 1 to 8)")
    source = weights.open_file(path, metric, quality or 0)
    tensors, gains = weights.read_tensors(source), []
    for q in source.qualities:
        fitted, gain = _fit(source, q, images, crops)
        tensors.update(fitted)
        gains.append(gain)
    name = name or (source.name if path.suffix == ".safetensors" else output.stem)
    saved = weights.save(output, tensors, name=name, family=source.family, metric=source.metric, qualities=source.qualities)
    output.with_suffix(".md").write_text(model_card(saved, path, images, gains), encoding="utf-8", errors="backslashreplace")
    return saved, gains


def model_card(source: weights.Source, path: Path, images: Sequence[Path], gains: Sequence[Gain]) -> str:
    """What the tables were fitted to and what they gain, as Markdown."""
    family = registry.by_stored_name(source.family).name
    rows = [f"| {g.quality} | {g.crops} | {g.static} | {g.fitted} | {g.saved:.1f} % |" for g in gains]
    lines = [
        f"# {source.name}",
        "",
        f"{family}, {source.metric}, quality {', '.join(map(str, source.qualities))}; SHA-256 {source.sha256}",
        "",
        f"Network and static tables are those of {path.name}. Tables of {gains[0].model} are fitted to",
        f"{symbols.CROP}x{symbols.CROP} crops of the images in {', '.join(image.name for image in images)}.",
        "Every tenth image is held out, and coded both ways:",
        "",
        f"| quality | held-out crops | static bytes | {gains[0].model} bytes | saved |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _fit(source: weights.Source, quality: int, images: Sequence[Path], crops: int) -> tuple[Tensors, Gain]:
    """The tensors of the fitted tables of one quality, and what they gain."""
    loaded = weights.load(source, quality)
    held: list[npt.NDArray[np.uint8]] = []

    def fitting() -> Iterator[npt.NDArray[np.uint8]]:
        for number, crop in data.spread(images, symbols.CROP, crops):
            if number % HELD_OUT == HELD_OUT - 1:
                held.append(crop.copy())
            else:
                yield crop

    batches = [narrow(batch) for batch in symbols.batches(loaded.family, loaded.network, quality, fitting())]
    if not batches or not held:
        size = f"{symbols.CROP}x{symbols.CROP}"
        raise ParameterError(f"fewer than {HELD_OUT} images of {size} pixels in {', '.join(map(str, images))}; name others")
    model, tables = _preferred(batches)
    bytes_static = bytes_fitted = 0
    for batch in symbols.batches(loaded.family, loaded.network, quality, held):
        for one in np.split(batch, len(batch)):
            bytes_static += _size(static.MODEL.encode(one, loaded.tables["static"]))
            bytes_fitted += _size(model.encode(one, tables))
    return model.store(tables, quality), Gain(quality, len(held), model.name, bytes_static, bytes_fitted)


def _preferred(batches: Sequence[npt.NDArray[np.int16]]) -> tuple[EntropyModel[Any], Any]:
    """The entropy model that writers prefer of those that suit the symbols, and tables of it."""
    for model in entropy_models.models():
        tables = model.fit(batches) if model.preference is not None else None
        if tables is not None:
            return model, tables
    raise AssertionError("static tables suit all symbols")


def _size(coded: CodedSymbols) -> int:
    return sum(map(len, coded.streams)) + len(coded.escapes)
