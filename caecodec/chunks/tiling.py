"""Pads images to the stride, and cuts them into tiles with an exact halo.

A tile is a crop that the network sees in one pass. The halo is as wide as the receptive field, so the kept parts of the tiles
equal those of the whole image, its borders included. Padding repeats the last row and column.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Span(NamedTuple):
    """One axis of a tile, in latent positions: the network sees [low, high), and [start, stop) of the result is kept.

    The methods return slices of an axis that has `scale` rows or columns for each latent position.
    """

    start: int
    stop: int
    low: int
    high: int

    def seen(self, scale: int = 1) -> slice:
        """The part of the whole that the network sees."""
        return slice(self.low * scale, self.high * scale)

    def place(self, scale: int = 1) -> slice:
        """The part of the whole that is kept."""
        return slice(self.start * scale, self.stop * scale)

    def kept(self, scale: int = 1) -> slice:
        """The part of the network's result that is kept."""
        return slice((self.start - self.low) * scale, (self.stop - self.low) * scale)


class Tile(NamedTuple):
    """A crop for the network, as two spans with the same methods."""

    rows: Span
    columns: Span

    def seen(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the whole that the network sees."""
        return self.rows.seen(scale), self.columns.seen(scale)

    def place(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the whole that are kept."""
        return self.rows.place(scale), self.columns.place(scale)

    def kept(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the network's result that are kept."""
        return self.rows.kept(scale), self.columns.kept(scale)


def latent_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent rows and columns of an image of height x width pixels."""
    return -(-height // stride), -(-width // stride)


def pad(images: npt.NDArray[np.float32], stride: int) -> npt.NDArray[np.float32]:
    """Images (n, c, height, width), padded to multiples of the stride by repeating the last row and column."""
    height, width = images.shape[2:]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return images
    last = images.transpose(0, 2, 3, 1)
    return np.pad(last, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge").transpose(0, 3, 1, 2)


def spans(size: int, tile: int, halo: int) -> Iterator[Span]:
    """Cut `size` latent positions into near-equal spans of at most `tile`, not counting the halo."""
    count = -(-size // tile)
    for i in range(count):
        start, stop = size * i // count, size * (i + 1) // count
        yield Span(start, stop, max(0, start - halo), min(size, stop + halo))


def tile_positions(max_pixels: int, stride: int, halo: int) -> int:
    """Side, in latent positions, of the largest square tile that has at most max_pixels with its halo; at least 1."""
    return max(1, int(max_pixels**0.5) // stride - 2 * halo)


def tiles(rows: int, columns: int, tile: int, halo: int) -> list[Tile]:
    """Cut latents into tiles that keep at most `tile` positions a side; into one if all fits a tile with its halo."""
    if max(rows, columns) <= tile + 2 * halo:
        return [Tile(Span(0, rows, 0, rows), Span(0, columns, 0, columns))]
    return [Tile(r, c) for r in spans(rows, tile, halo) for c in spans(columns, tile, halo)]
