"""Images and codecs -> results and pictures, which `evaluate` and `report` write."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..engine import DevicePlacement
from ..errors import ParameterError
from . import compared, extra
from .bd_rates import compare
from .cache import Cache
from .compared import ComparedCodec
from .curves import Curve, Results
from .images import select_images
from .published import read_published
from .side_by_side import Comparison, chosen
from .sweep import LineListener, notes, sweep

MIN_CHUNK = 16


def collect(
    images: Sequence[Path],
    ours: Sequence[ComparedCodec],
    references: Sequence[str],
    *,
    gpu: bool | None,
    chunk: int,
    every: int,
    cache: Path | None,
    published: Sequence[Path],
    samples: int | None,
    side: int,
    say: LineListener,
) -> tuple[Results, tuple[Comparison, ...]]:
    """Measure caecodec's codecs, `ours`, and reference codecs on images, and compare pictures of some of them.

    references : names of reference codecs, some of CODECS
    published : JSON files of published points
    side : how much of an image to show: the middle side x side pixels; 0: all of it

    `evaluate` describes the others, and the errors.
    """
    if chunk and chunk < MIN_CHUNK:
        raise ParameterError(f"chunk is {chunk} but must be {MIN_CHUNK} or more pixels a side, or 0 for whole images")
    if every < 1:
        raise ParameterError(f"every is {every} but must be 1 (all images) or more")
    if samples is not None and samples < 0:
        raise ParameterError(f"samples is {samples} but must be 0 or more images")
    if side < 0:
        raise ParameterError(f"side is {side} but must be 1 or more pixels, or 0 for whole images")
    for name in extra.MODULES:
        extra.module(name)
    runs = (*ours, *compared.references(references))
    curves: list[Curve] = []
    for path in published:
        curves += read_published(path, [run.name for run in runs] + [curve.name for curve in curves])
    saved = None if cache is None else Cache(cache)
    files = select_images(images, every)
    infos = tuple(file.info for file in files)
    for note in notes(infos, ()):
        say(note)
    swept = sweep(files, runs, chunk, say, saved, chosen(len(files), samples), side)
    curves = [*swept.curves, *curves]
    return Results(infos, chunk, tuple(curves), compare(curves), notes(infos, curves), _environment(gpu)), swept.comparisons


def _environment(gpu: bool | None) -> dict[str, str]:
    """The versions and hardware that the seconds depend on."""
    import torch

    place = DevicePlacement.choose(gpu)
    return {
        "caecodec": __version__,
        "imagecodecs": str(extra.module("imagecodecs").__version__),
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} PyTorch threads",
        "device of caecodec": f"{place.device}, {place.precision}",
    }
