"""Converts OME-NGFF groups to another codec, block by block; levels and attributes stay as they are."""

from pathlib import Path
from typing import Any

import zarr

from .. import weights
from ..arrays.arrival import CONVERSION
from ..errors import ParameterError
from ..images.image import Image, Windows, check_dtype
from ..storage.locations import Place, as_path, is_url
from . import blocks
from .background import background_of
from .chunk_runner import ChunkRunner
from .compressors import LOSSLESS, lossless_options
from .groups import group_to_write
from .levels import Level, notes_in, write_levels
from .metadata import Multiscales, open_multiscales
from .options import Options
from .pyramid import pyramid
from .versions import translated, with_levels

_WAY_OUT = "pass codec='blosc' (--codec blosc), which is lossless"


def reencode(source: Place, target: Path, options: Options, runner: ChunkRunner | None = None) -> None:
    """Write the image group at `source` (OME-NGFF 0.1 to 0.6) to `target`, as in `write_group`, with another codec.

    The levels keep their values, shapes and paths, or if `options` build a pyramid those but the first are made anew, and the
    groups and arrays keep their attributes. Everything else in the group,
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


def _reencode(source: Place, target: Path, options: Options, runner: ChunkRunner | None) -> None:
    image = open_multiscales(source)
    arrays = {path: image.level(i) for i, path in enumerate(image.paths)}
    if options.codec not in LOSSLESS:
        refuse_labels(source, image)
        for path, array in arrays.items():
            check_dtype(array.dtype, f"{source}/{path}", _WAY_OUT)
    attributes = translated(image.group, options.ngff, source)
    attributes.pop(CONVERSION, None)  # it describes how the source was made
    with group_to_write(target, options) as (group, scratch):
        _copy(image.group, group, "", set(arrays), options, scratch, runner)
        found: dict[str, Windows] = dict(arrays)
        if options.pyramid == "build":
            levels = list(pyramid((arrays[image.paths[0]],), options.chunk_size, scratch, runner, options.resume))
            paths = [*image.paths, *(f"s{i}" for i in range(len(image.paths), len(levels)))][: len(levels)]
            found = dict(zip(paths, levels, strict=True))
            attributes = with_levels(attributes, {path: level.shape for path, level in found.items()})
        group.attrs.update(attributes)
        first = arrays[image.paths[0]]
        background = background_of(Image(first, image.axes, image.rgb(first)), list(found.values())[-1], options)
        fill = {"fill_value": background.fill} if background else {}
        kept = {path: {**_kept(arrays.get(path, first)), **fill} for path in found}
        rgb = {path: image.rgb(arrays.get(path, first)) for path in found}
        written = {path: Level(level, image.axes, rgb[path], kept[path], background) for path, level in found.items()}
        write_levels(group, written, options, scratch, runner)


def refuse_labels(source: Place, image: Multiscales) -> None:
    """Raise ParameterError for an image of labels, known by its attributes or by the group `labels` around it."""
    documents = ("zarr.json", ".zgroup")
    parents = [] if is_url(source) else [parent for parent in as_path(source).resolve().parents if parent.name == "labels"]
    if "image-label" in image.ome or any((parent / name).exists() for parent in parents for name in documents):
        raise ParameterError(f"{source} holds labels, which a lossy codec would alter; {_WAY_OUT}")


def _copy(
    source: zarr.Group,
    target: zarr.Group,
    prefix: str,
    levels: set[str],
    options: Options,
    scratch: Path,
    runner: ChunkRunner | None,
) -> None:
    """Copy all members of a group losslessly, except the levels of the image and the weights."""
    for name, member in source.members():
        path = prefix + name
        if path in levels or name == weights.GROUP:
            continue
        if isinstance(member, zarr.Group):
            target.require_group(path).attrs.update(translated(member, options.ngff, path))
            _copy(member, target, path + "/", levels, options, scratch, runner)
        else:
            if member.dtype.kind not in "biufc":
                raise ParameterError(f"array {path} has dtype {member.dtype}, which cannot be copied; move it out of the group")
            how = {**_kept(member), **lossless_options(options.ngff, member)}
            if runner:
                runner.expect(blocks.chunk_count(member.shape, how["chunks"]))
            blocks.store(target, path, member, runner, notes_in(scratch, options), **how)


def _kept(array: zarr.Array[Any]) -> dict[str, Any]:
    """The properties that an array keeps besides its values."""
    fill = array.fill_value
    return {"fill_value": array.dtype.type(0) if fill is None else fill, "attributes": array.attrs.asdict()}
