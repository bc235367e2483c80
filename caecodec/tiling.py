"""Pad to the stride, cut into tiles with an exact halo, crop.

A tile is a crop that the network sees in one pass; the halo is as wide as the receptive field, so that the kept parts
of the tiles equal the whole image's, its borders included. Padding repeats the last row and column.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Span(NamedTuple):
    """One axis of a tile, in latent positions: [start, stop) is kept of what is computed from [low, high)."""

    start: int
    stop: int
    low: int
    high: int


def latent_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent rows and columns of an image of height x width pixels."""
    return -(-height // stride), -(-width // stride)


def pad(images: npt.NDArray[np.float32], stride: int) -> npt.NDArray[np.float32]:
    """Images (n, c, height, width), continued to multiples of the stride by their last row and column."""
    height, width = images.shape[2:]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return images
    last = images.transpose(0, 2, 3, 1)
    return np.pad(last, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge").transpose(0, 3, 1, 2)


def spans(size: int, tile: int, halo: int) -> Iterator[Span]:
    """Cut `size` latent positions into near-equal spans of at most `tile`, halo not counted."""
    count = -(-size // tile)
    for i in range(count):
        start, stop = size * i // count, size * (i + 1) // count
        yield Span(start, stop, max(0, start - halo), min(size, stop + halo))


def tile_positions(max_pixels: int, stride: int, halo: int) -> int:
    """Side, in latent positions, of the largest square tile of max_pixels with its halo; at least one."""
    return max(1, int(max_pixels**0.5) // stride - 2 * halo)


def apply(
    run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    source: npt.NDArray[Any],
    scale_in: int,
    scale_out: int,
    tile: int,
    halo: int,
) -> npt.NDArray[Any]:
    """run(source), tile by tile where source is larger than one tile.

    `source` is (n, c, rows * scale_in, columns * scale_in) and the result (n, c', rows * scale_out, columns * scale_out),
    rows and columns being latent positions: analysis has scale_in = stride and scale_out = 1, synthesis the reverse.
    """
    rows, columns = source.shape[2] // scale_in, source.shape[3] // scale_in
    if rows <= tile + 2 * halo and columns <= tile + 2 * halo:
        return run(source)
    out: npt.NDArray[Any] | None = None
    for r in spans(rows, tile, halo):
        for c in spans(columns, tile, halo):
            crop = source[:, :, r.low * scale_in : r.high * scale_in, c.low * scale_in : c.high * scale_in]
            part = run(crop)
            if out is None:
                out = np.empty((*part.shape[:2], rows * scale_out, columns * scale_out), part.dtype)
            top, left = (r.start - r.low) * scale_out, (c.start - c.low) * scale_out
            kept = part[:, :, top : top + (r.stop - r.start) * scale_out, left : left + (c.stop - c.start) * scale_out]
            out[:, :, r.start * scale_out : r.stop * scale_out, c.start * scale_out : c.stop * scale_out] = kept
    assert out is not None
    return out
