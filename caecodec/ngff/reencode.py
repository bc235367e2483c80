"""Converts OME-NGFF groups to another codec, block by block; levels and attributes stay as they are."""

from pathlib import Path
from typing import Any

import zarr

from .. import weights
from ..arrays.arrival import CONVERSION
from ..errors import ParameterError
from ..images.image import check_dtype
from . import blocks
from .chunk_runner import ChunkRunner
from .compressors import LOSSLESS, lossless_options
from .groups import new_group
from .levels import Level, write_levels
from .metadata import Multiscales, open_multiscales
from .options import Options
from .versions import translated

_WAY_OUT = "pass codec='blosc' (--codec blosc), which is lossless"


def reencode(source: Path, target: Path, options: Options, runner: ChunkRunner | None = None) -> None:
    """Write the image group at `source` (OME-NGFF 0.1 to 0.6) to `target`, as in `write_group`, with another codec.

    The levels keep their values, shapes and paths, and the groups and arrays their attributes. Everything else in the group,
    above all its labels, is stored losslessly with Blosc. Of weights, it stores only those that the new levels need, as
    `Options.with_weights` says. Weights that the source carries need not be installed. Memory for a few chunks is enough.

    Raises
    ------
    ParameterError
        `source` is not an image group, or it holds labels or a dtype that a lossy codec cannot take.
    CaeCodecError
        Decoding or encoding its chunks failed.
    """
    with weights.using(source):
        _reencode(source, target, options, runner)


def _reencode(source: Path, target: Path, options: Options, runner: ChunkRunner | None) -> None:
    image = open_multiscales(source)
    levels = {path: image.level(i) for i, path in enumerate(image.paths)}
    if options.codec not in LOSSLESS:
        refuse_labels(source, image)
        for path, array in levels.items():
            check_dtype(array.dtype, f"{source / path}", _WAY_OUT)
    group = new_group(target, options)
    attributes = translated(image.group, options.ngff, source)
    attributes.pop(CONVERSION, None)  # it describes how the source was made
    group.attrs.update(attributes)
    _copy(image.group, group, "", set(levels), options.ngff, runner)
    kept = {path: Level(array, image.axes, image.rgb(array), _kept(array)) for path, array in levels.items()}
    write_levels(group, kept, options, runner)


def refuse_labels(source: Path, image: Multiscales) -> None:
    """Raise ParameterError for an image of labels, known by its attributes or by the group `labels` around it."""
    documents = ("zarr.json", ".zgroup")
    parents = [parent for parent in source.resolve().parents if parent.name == "labels"]
    if "image-label" in image.ome or any((parent / name).exists() for parent in parents for name in documents):
        raise ParameterError(f"{source} holds labels, which a lossy codec would alter; {_WAY_OUT}")


def _copy(source: zarr.Group, target: zarr.Group, prefix: str, levels: set[str], ngff: str, runner: ChunkRunner | None) -> None:
    """Copy all members of a group losslessly, except the levels of the image and the weights."""
    for name, member in source.members():
        path = prefix + name
        if path in levels or name == weights.GROUP:
            continue
        if isinstance(member, zarr.Group):
            target.require_group(path).attrs.update(translated(member, ngff, path))
            _copy(member, target, path + "/", levels, ngff, runner)
        else:
            if member.dtype.kind not in "biufc":
                raise ParameterError(f"array {path} has dtype {member.dtype}, which cannot be copied; move it out of the group")
            if runner:
                runner.expect(blocks.chunk_count(member.shape, member.chunks))
            blocks.store(target, path, member, runner, **_kept(member), **lossless_options(ngff, member))


def _kept(array: zarr.Array[Any]) -> dict[str, Any]:
    """The properties that an array keeps besides its values."""
    fill = array.fill_value
    return {"fill_value": array.dtype.type(0) if fill is None else fill, "attributes": array.attrs.asdict()}
