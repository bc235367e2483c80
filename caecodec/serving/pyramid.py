"""The levels of an image, from the finest on: those that are stored, and a few more that are made of the last one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import zarr

from ..errors import ParameterError

TILE = 512  # pixels a side
MADE = 2  # levels
_MOST_SIDE = 512  # of what is decoded for a tile, unless chunks are larger
_MOST_BLOCK_BYTES = 2**26
_MOST_CHUNKS = 2**12  # of a block


class Channel(NamedTuple):
    """A channel: its name, its colour (RRGGBB), and the values that are shown black and white, if metadata state them."""

    label: str
    colour: str
    window: tuple[float, float] | None


class Stored(NamedTuple):
    """An array with the names of its axes, and the shape of what is decoded at once."""

    array: "zarr.Array[Any]"
    axes: tuple[str, ...]
    chunk_shape: tuple[int, ...]

    def along(self, axis: str) -> int:
        """The length of an axis."""
        return int(self.array.shape[self.axes.index(axis)])

    @property
    def chunk(self) -> tuple[int, int]:
        """The height and width of a chunk."""
        return self.chunk_shape[self.axes.index("y")], self.chunk_shape[self.axes.index("x")]

    @property
    def block(self) -> tuple[int, int]:
        """The height and width of what is read at once: whole chunks that are as large as a tile, or nearly, or larger."""
        height, width = (n * max(1, TILE // n) for n in self.chunk)
        return height, width


class ShownLevel(NamedTuple):
    """A level: its size in pixels, and how often the array that it is made of is halved."""

    height: int
    width: int
    source: Stored
    halvings: int

    @property
    def tile(self) -> int:
        """The side of a tile in pixels; smaller for made levels, which so take no longer to decode than those of full size."""
        return min(TILE, _MOST_SIDE >> self.halvings)

    @property
    def block(self) -> tuple[int, int]:
        """The height and width of what is kept as one."""
        return (self.tile, self.tile) if self.halvings else self.source.block


class Choice(NamedTuple):
    """What of an array is decoded, and all that decoding depends on, since blocks are kept by it.

    positions : along the axes other than y, x and c
    channel : None for all three of RGB
    layers : how many of an image in layers; None for all
    """

    positions: tuple[int, ...]
    channel: int | None
    layers: int | None = None


@dataclass(frozen=True, eq=False)
class Pyramid:
    """An image.

    name : the path of its group or array
    levels : from the finest on
    channels : one for an image without the axis c
    composed : the channels that are first seen, together; none to see one at a time
    rgb : the channels are red, green and blue
    codec : what codes its finest level, in words
    layers : how many layers can be read one by one; 0 if it has none
    """

    name: str
    levels: tuple[ShownLevel, ...]
    channels: tuple[Channel, ...]
    composed: tuple[int, ...]
    rgb: bool
    codec: str
    layers: int

    @property
    def limited(self) -> bool:
        """Whether the coarsest level is so large that showing all of it would take long."""
        last = self.levels[-1]
        return last.halvings > 0 and max(last.height, last.width) > 4 * TILE

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of the values."""
        return self.levels[0].source.array.dtype

    @property
    def positions(self) -> Mapping[str, int]:
        """The axes along which a position is chosen, and their lengths."""
        source = self.levels[0].source
        return {axis: source.along(axis) for axis in source.axes if axis not in ("y", "x", "c")}

    def choose(self, positions: Sequence[int] | None, channel: int | None, layers: int | None = None) -> Choice:
        """A choice that the image has.

        By default it is the middle of z, the first of other axes, RGB or the first channel, and all layers.

        Raises ParameterError for a position, channel or number of layers that there is not.
        """
        lengths = self.positions
        if positions is None:
            positions = [n // 2 if axis == "z" else 0 for axis, n in lengths.items()]
        if len(positions) != len(lengths) or not all(0 <= at < n for at, n in zip(positions, lengths.values(), strict=True)):
            raise ParameterError(
                f"at is {','.join(map(str, positions))} but {self.name} has "
                + (", ".join(f"{n} positions on {axis}" for axis, n in lengths.items()) or "no axes to choose on")
            )
        if channel is not None and not 0 <= channel < len(self.channels):
            raise ParameterError(f"channel is {channel} but {self.name} has {len(self.channels)}")
        if layers is not None and not 1 <= layers <= self.layers:
            there = f"{self.layers}, from 1 on" if self.layers else "no layers; leave it out"
            raise ParameterError(f"layers is {layers} but {self.name} has {there}")
        return Choice(tuple(positions), None if self.rgb else channel or 0, layers)

    def window(self, choice: Choice) -> tuple[float, float] | None:
        """The contrast window that metadata or the dtype give; None if it takes values to know one."""
        if self.dtype == np.uint8:
            return self.channels[choice.channel or 0].window or (0.0, 255.0)
        return self.channels[choice.channel or 0].window


def pyramid_of(
    name: str,
    stored: Sequence[Stored],
    channels: Sequence[Channel],
    composed: tuple[int, ...],
    rgb: bool,
    codec: str,
    layers: int,
) -> Pyramid:
    """A pyramid of stored levels, with those that are made of the last one.

    Raises ParameterError for dtypes and chunks that cannot be shown.
    """
    for one in stored:
        _check(one)
    levels = [ShownLevel(one.along("y"), one.along("x"), one, 0) for one in stored]
    while levels[-1].halvings < MADE and max(levels[-1].height, levels[-1].width) > TILE:
        last = levels[-1]
        levels.append(ShownLevel(-(-last.height // 2), -(-last.width // 2), last.source, last.halvings + 1))
    return Pyramid(name, tuple(levels), tuple(channels), composed, rgb, codec, layers)


def _check(stored: Stored) -> None:
    array = stored.array
    if array.dtype.kind not in "buif" or 0 in array.shape:
        raise ParameterError(f"it has dtype {array.dtype} and shape {array.shape}, which is no image of numbers")
    chunk = stored.chunk_shape
    size = tuple(min(n, -(-stored.along(axis) // m) * m) for n, m, axis in zip(stored.block, stored.chunk, "yx", strict=True))
    others = math.prod(n for n, axis in zip(chunk, stored.axes, strict=True) if axis not in "yx")
    if math.prod(size) * others * array.dtype.itemsize > _MOST_BLOCK_BYTES:
        raise ParameterError(
            f"its chunks of shape {chunk} and dtype {array.dtype} take more than {_MOST_BLOCK_BYTES >> 20} MiB to show a part; "
            "write it with smaller chunks (caecodec encode --chunk-size 512)"
        )
    count = math.prod(n // m for n, m in zip(size, stored.chunk, strict=True))
    if count > _MOST_CHUNKS:
        raise ParameterError(
            f"its chunks of shape {chunk} are so small that a tile takes {count} of them; write it with larger ones "
            "(caecodec encode --chunk-size 256)"
        )
