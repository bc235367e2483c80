"""Bits in context in numpy and constriction (FORMAT.md, 24: Bits in context); `binary_context_compiled` is faster."""

import math

import constriction
import numpy as np
import numpy.typing as npt

from . import streams
from .binary_context_tables import (
    CHANNEL_STEP,
    REACH,
    ROW_STEP,
    BinaryContextTables,
    Bits,
    classes,
    streams_of,
    with_margin,
    without_margin,
)
from .model import Shape
from .streams import Integers

_FAMILY = constriction.stream.model.Categorical(perfect=False)


def encode(bits: Bits, tables: BinaryContextTables) -> tuple[bytes, ...]:
    """The streams of bits (n, C, rows, columns)."""
    walk = _Walk(bits, tables)
    coders = [constriction.stream.stack.AnsCoder() for _ in range(streams_of(bits.shape))]
    before = bits.size
    for step in reversed(range(walk.steps)):
        places, rows = walk.at(step)
        before -= len(places)
        coder = coders[before * len(coders) // bits.size]
        coder.encode_reverse((walk.bits[places] > 0).astype(np.int32), _FAMILY, rows)
    return tuple(coder.get_compressed().astype("<u4").tobytes() for coder in coders)


def decode(coded: tuple[bytes, ...], tables: BinaryContextTables, shape: Shape) -> Bits:
    """The bits (n, C, rows, columns) of streams; CorruptionError unless they hold exactly these."""
    coders = [streams.start(stream) for stream in coded]
    walk = _Walk(np.zeros(shape, np.int8), tables)
    before = 0
    for step in range(walk.steps):
        places, rows = walk.at(step)
        walk.bits[places] = 2 * coders[before * len(coders) // math.prod(shape)].decode(_FAMILY, rows) - 1
        before += len(places)
    for coder in coders:
        streams.finish(coder)
    return walk.inside()


class _Walk:
    """The bits of n images in the order of decoding: in steps, whose bits do not depend on each other.

    bits : (n C (rows + 4) (columns + 4),) int8, the bits within a margin of zeros, which stand for what is not known
    steps : the number of steps
    """

    def __init__(self, bits: Bits, tables: BinaryContextTables) -> None:
        self._images, self._channels, rows, columns = bits.shape
        padded = with_margin(bits)
        width = columns + 2 * REACH
        self.bits, self._shape, self._plane = padded.reshape(-1), padded.shape, padded[0, 0].size
        self._tables = tables
        self._offsets = tables.offsets(rows, columns)
        row, column = np.divmod(np.arange(rows * columns), columns)
        order = np.argsort(ROW_STEP * row + column, kind="stable")
        self._places = ((row + REACH) * width + column + REACH)[order]
        self._last = ROW_STEP * (rows - 1) + columns - 1
        self._starts = np.searchsorted((ROW_STEP * row + column)[order], np.arange(self._last + 2))
        self.steps = self._last + CHANNEL_STEP * (self._channels - 1) + 1

    def at(self, step: int) -> tuple[Integers, npt.NDArray[np.float32]]:
        """Where the bits of a step are in `bits`, and the table (P, 2) of each, given all bits of the steps before."""
        first = max(0, -((self._last - step) // CHANNEL_STEP))
        channels = np.arange(first, min(self._channels - 1, step // CHANNEL_STEP) + 1)
        starts = self._starts[step - CHANNEL_STEP * channels]
        counts = self._starts[step - CHANNEL_STEP * channels + 1] - starts
        channel = channels.repeat(counts)
        places = self._places[np.arange(len(channel)) + (starts - np.cumsum(counts) + counts).repeat(counts)]
        places = places + channel * self._plane
        if self._images > 1:
            places = np.add.outer(places, np.arange(self._images) * (self._channels * self._plane)).reshape(-1)
            channel = channel.repeat(self._images)
        known = self.bits.take(places[:, None] + self._offsets.take(channel, axis=0))
        sums = self._tables.bias.take(channel) + np.einsum("pj,pj->p", self._tables.taps.take(channel, axis=0), known)
        return places, self._tables.rows[channel, classes(sums, self._tables.mass.shape[1])]

    def inside(self) -> Bits:
        """The bits (n, C, rows, columns)."""
        return without_margin(self.bits.reshape(self._shape))
