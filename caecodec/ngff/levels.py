"""Writes the levels of an image, or the planes of a video, into the arrays of a group."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from .. import weights
from ..codecs.base import Parameters
from ..images.image import Windows
from .background import Background, Flattened
from .blocks import chunk_count, padded_shape, parts, read_padded, store
from .chunk_runner import ChunkRunner
from .compressors import array_options, learned_parameters
from .options import Options

SAMPLE = 16  # chunks that a shared network is fitted to
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Level:
    """The values of an array with these axes, their background, and what zarr.create_array takes besides layout and codecs."""

    source: Windows
    axes: str
    rgb: bool
    others: Mapping[str, Any] = field(default_factory=dict)
    background: Background | None = None


def write_levels(
    group: zarr.Group, levels: Mapping[str, Level], options: Options, scratch: Path, runner: ChunkRunner | None = None
) -> None:
    """Write arrays at these paths of a group; if `options` resume, those that exist are continued.

    `scratch`: a folder that stays until the group is complete. The weights that the group is to carry, by `options`, are
    written first. Raises what `weights.carry`, `blocks.store` and `array_options` raise.
    """
    runner = runner or ChunkRunner()
    if carried := options.carried():
        weights.carry(group, carried)
        runner.carriers = (*runner.carriers, group)
    layouts = {path: _layout(options, level) for path, level in levels.items()}
    runner.expect(sum(chunk_count(levels[path].source.shape, layout["chunks"]) for path, layout in layouts.items()))
    for path, level in levels.items():
        layout = layouts[path]
        if level.background:
            channel = level.axes.index("c") if level.rgb else None
            level = replace(level, source=Flattened(level.source, layout["chunks"], level.background, channel))
        if options.shared and path not in group:
            layout = _layout(options, level, _shared(level, layout["chunks"], options, runner))
        channels = level.source.shape[level.axes.index("c")] if "c" in level.axes else 1
        store(group, path, level.source, runner, notes_in(scratch, options), channels, **level.others, **layout)


def notes_in(scratch: Path, options: Options) -> Path | None:
    """Where is noted what is complete of the arrays of a group; None if it cannot be resumed."""
    return scratch / "complete" if options.resume else None


def _layout(options: Options, level: Level, parameters: Parameters | None = None) -> dict[str, Any]:
    return array_options(options, level.source.shape, level.source.dtype, level.axes, level.rgb, parameters)


def _shared(level: Level, chunks: tuple[int, ...], options: Options, runner: ChunkRunner) -> Parameters:
    """Parameters fitted to a sample of the chunks of an array; as asked for where each has one colour."""
    codec, parameters = options.learned, learned_parameters(options, level.axes, level.rgb)
    chosen = sample(level.source, chunks)
    if codec is None or not chosen:
        return parameters
    found: list[Parameters] = []
    runner.run([lambda: found.append(codec.share(parameters, chosen, options.gpu))])
    return found[0]


def sample(source: Windows, chunks: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    """At most SAMPLE chunks (..., y, x) spread over an array, padded as they are stored, without those of one colour.

    Chunks are taken in the order of multiples of the golden ratio, which spread evenly however many are taken.
    """
    places = list(parts(tuple(slice(0, n) for n in padded_shape(source.shape, chunks)), chunks))
    chosen: list[npt.NDArray[Any]] = []
    for i in np.argsort(np.arange(len(places)) * _GOLDEN % 1, kind="stable"):
        chunk = read_padded(source, places[i])
        if (chunk != chunk[..., :1, :1]).any():
            chosen.append(chunk)
        if len(chosen) == SAMPLE:
            break
    return chosen
