"""An image -> the levels of its pyramid: those that its source has, and halved ones."""

import math
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from ..images.image import Windows
from ..images.windows import chunks_of
from . import blocks
from .chunk_runner import ChunkRunner

_SIDE = 1024  # pixels of the windows that are halved at a time, and of the chunks of levels on disk
_FAST = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")


def pyramid(
    levels: tuple[Windows, ...], smallest: int, scratch: Path, runner: ChunkRunner | None = None, resume: bool = False
) -> Iterator[Windows]:
    """These levels (..., height, width) and smaller ones, each the mean of 2x2 pixels of the one before.

    The last is the first that fits smallest x smallest. An odd last row or column is averaged with itself. Integers are
    rounded, halves up. The halves of numpy's arrays are in memory, and those of what is read by windows in the folder
    `scratch`, which must stay until they are used; with `resume`, those that are there already are kept.
    """
    yield from levels
    last, number = levels[-1], len(levels)
    while max(last.shape[-2:]) > smallest:
        halves = Halved(last)
        held = isinstance(last, np.ndarray)
        last = halves[(slice(None),) * len(last.shape)] if held else _stored(halves, number, scratch, runner, resume)
        yield last
        number += 1


def factor(full: int, length: int) -> float:
    """How many positions of the full size one of a level of this length takes.

    That is the power of 2, or else the whole number, by which the full size comes to this length, rounded down or up.
    """
    if not length:
        return 1.0
    for whole in (2 ** max(0, round(math.log2(full / length))), max(1, round(full / length))):
        if length in (full // whole, -(-full // whole)):
            return float(whole)
    return full / length


class Halved:
    """The means of 2x2 pixels of an array (..., height, width)."""

    def __init__(self, source: Windows) -> None:
        self._source = source
        *others, height, width = source.shape
        self.shape = (*others, (height + 1) // 2, (width + 1) // 2)
        self.dtype: np.dtype[Any] = source.dtype.newbyteorder("=")
        if chunks := chunks_of(source):
            self.chunks = (*chunks[:-2], max(1, chunks[-2] // 2), max(1, chunks[-1] // 2))

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        whole = tuple(slice(*part.indices(n)[:2]) for part, n in zip(region, self.shape, strict=True))
        halves = np.empty([part.stop - part.start for part in whole], self.dtype)
        sides = (*(max(1, n) for n in halves.shape[:-2]), _SIDE, _SIDE)
        for one in blocks.parts(whole, sides):
            place = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(one, whole, strict=True))
            y, x = (slice(2 * part.start, 2 * part.stop) for part in one[-2:])
            halves[place] = means(blocks.read_padded(self._source, (*one[:-2], y, x)))
        return halves


def means(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The means of 2x2 pixels of an array (..., height, width); an odd last row or column is averaged with itself."""
    height, width = pixels.shape[-2:]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + [(0, height % 2), (0, width % 2)], mode="edge")
    quarters = [pixels[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if pixels.dtype.kind == "f":
        scaled = [quarter * pixels.dtype.type(0.25) for quarter in quarters]  # scaled first, because the sum might overflow
        mean: npt.NDArray[Any] = scaled[0] + scaled[1] + scaled[2] + scaled[3]
        return mean
    total: npt.NDArray[np.int32] = quarters[0].astype(np.int32) + quarters[1] + quarters[2] + quarters[3]
    return ((total + 2) // 4).astype(pixels.dtype)


def _stored(halves: Halved, number: int, scratch: Path, runner: ChunkRunner | None, resume: bool) -> Windows:
    """Halves as an array on disk, so that what they are made from is not read again for each smaller level."""
    group = zarr.open_group(scratch / "levels", mode="a")
    sides = [min(_SIDE, n) for n in halves.shape[-2:]]
    chunks = (*(1 for _ in halves.shape[:-2]), *sides)
    beside = runner.beside() if runner else ChunkRunner()
    beside.expect(blocks.chunk_count(halves.shape, chunks))
    channels = prod(halves.shape[:-2])
    notes = scratch / "halved" if resume else None
    blocks.store(group, f"halved-{number}", halves, beside, notes, channels, chunks=chunks, compressors=_FAST)
    found = group[f"halved-{number}"]
    assert isinstance(found, zarr.Array)
    return found
