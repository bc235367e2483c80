"""The lattices on which planes are coded from coarse to fine, and how values are predicted (FORMAT.md, 11: Residuals).

    a channel's known values ── taps around a position ── features ── prediction
                             └─ magnitudes of errors ── activity ── class

All values are integers, held in float32 if all sums stay below 2^24 and in float64 otherwise, so that the order of summation
does not matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]  # integers in float32 or float64
COEFFICIENT_BITS = 7
MAX_COEFFICIENT = 255  # also the largest weight of activities, which are integers
CLASS_OFFSET = 16  # added to activities, so that the smallest ones share a class
MAX_RANGE = 2**36
FEW_POSITIONS = 2048  # a pass of fewer positions uses fewer coefficients
COARSEST_POSITIONS = 256
_STRIP = 2**13  # positions whose features are in memory at once
_PAD = 4

PASSES = ((1, 1), (1, 0), (0, 1))
"""Row and column modulo 2 of the positions of each pass, in coding order; (0, 0) is known from the coarser lattice."""
_AXIAL = ((-1, 0), (0, -1), (0, 1), (1, 0))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_WIDE = ((-3, -1), (-3, 1), (-1, -3), (-1, 3), (1, -3), (1, 3), (3, -1), (3, 1))
_KNIGHT = ((-2, -1), (-2, 1), (-1, -2), (-1, 2), (1, -2), (1, 2), (2, -1), (2, 1))
TAPS = {(1, 1): _DIAGONAL + _WIDE, (1, 0): _AXIAL + _KNIGHT, (0, 1): _AXIAL + _DIAGONAL}
"""The known positions around a position of each pass; the first four are the nearest."""
_AROUND = _AXIAL + _DIAGONAL


class Block(NamedTuple):
    """Some positions of a pass: a range of images and a range of rows."""

    images: slice
    rows: slice


def depth(height: int, width: int) -> int:
    """How often a plane must be halved until at most COARSEST_POSITIONS are left."""
    halvings = 0
    while -(-height // 2**halvings) * -(-width // 2**halvings) > COARSEST_POSITIONS:
        halvings += 1
    return halvings


def precision(span: int) -> type[np.floating[Any]]:
    """The float type whose sums are exact for values within a range of `span`; the limits are 2^24 and 2^53.

    The largest sums are those of activities, at most 44 span + 1, times weights of up to 255.
    """
    return np.float32 if MAX_COEFFICIENT * (44 * span + 1) + CLASS_OFFSET < 2**24 else np.float64


class PhaseGrid:
    """One channel at one level, split by row and column modulo 2; each part is padded by reflection at the border."""

    def __init__(self, values: Values) -> None:
        """Take the known values (n, rows, columns); `put` sets later ones."""
        self.values = values
        self._rows, self._columns = ([_reflected(size, phase) for phase in (0, 1)] for size in values.shape[1:])
        self._parts: dict[tuple[int, int], Values] = {}

    def spread(self) -> None:
        """If there is only one row or column, give unknown positions the value of the known one before them."""
        if 1 in self.values.shape[1:]:
            rows, columns = self.values.shape[1:]
            known = self.values[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
            self.values[...] = known[:, :rows, :columns]

    def put(self, phase: tuple[int, int], values: npt.NDArray[np.int64]) -> None:
        """Set the positions of a phase."""
        self.values[:, phase[0] :: 2, phase[1] :: 2] = values
        if 1 in self.values.shape[1:]:  # a single row belongs to both phases
            self._parts.clear()
        self._parts.pop(phase, None)

    def at(self, phase: tuple[int, int], tap: tuple[int, int], block: Block) -> Values:
        """The values (n, rows, columns) at an offset from the positions of a phase."""
        y, x = phase[0] + tap[0], phase[1] + tap[1]
        part = self._part((y & 1, x & 1))
        columns = (self.values.shape[2] - phase[1] + 1) // 2
        top, left = (_PAD + y) // 2, (_PAD + x) // 2
        return part[block.images, top + block.rows.start : top + block.rows.stop, left : left + columns]

    def _part(self, phase: tuple[int, int]) -> Values:
        if phase not in self._parts:
            rows = self.values.take(self._rows[phase[0]], axis=1)
            self._parts[phase] = rows.take(self._columns[phase[1]], axis=2)
        return self._parts[phase]


@dataclass(frozen=True, eq=False)
class Pass:
    """The positions of one phase of a channel's grid, and what is known when they are coded.

    own, errors : grids of the channel's values and of the magnitudes of its prediction errors
    before : the same two grids for up to two channels before it, the last one first
    prediction : a grid of a given prediction of this channel, or None
    """

    channel: int
    spacing: int
    phase: tuple[int, int]
    own: PhaseGrid
    errors: PhaseGrid
    before: tuple[tuple[PhaseGrid, PhaseGrid], ...]
    prediction: PhaseGrid | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows and columns of the positions."""
        n, rows, columns = self.own.values.shape
        return n, (rows - self.phase[0] + 1) // 2, (columns - self.phase[1] + 1) // 2

    @property
    def size(self) -> int:
        """The number of positions."""
        return prod(self.shape)

    @property
    def few(self) -> bool:
        """Whether there are too few positions for all coefficients to be worth their bytes."""
        return self.size < FEW_POSITIONS

    def of(self, plane: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The values of a whole plane (n, height, width) at these positions."""
        return plane[:, :: self.spacing, :: self.spacing][:, self.phase[0] :: 2, self.phase[1] :: 2]

    @property
    def coefficients(self) -> int:
        """The number of features."""
        own = 0 if self.few else len(TAPS[self.phase])
        before = len(self.before) if self.few else (0, 9, 14)[len(self.before)]
        return own + before + (0 if self.prediction is None else 2 if self.few else 10)

    @property
    def weights(self) -> int:
        """The number of activities."""
        return 3 + 2 * len(self.before) + (self.prediction is not None)

    def blocks(self, most: int = _STRIP) -> Iterator[Block]:
        """Cut the positions into blocks of about `most`, or of one row."""
        n, rows, columns = self.shape
        images = max(1, most // (rows * columns))
        height = max(1, most // columns)
        for image in range(0, n, images):
            for row in range(0, rows, height):
                yield Block(slice(image, min(n, image + images)), slice(row, min(rows, row + height)))

    def features(self, block: Block) -> tuple[Values, Values]:
        """The rounded-down mean of the four nearest values (P,), and the features (coefficients, P)."""
        near = TAPS[self.phase][:4]
        anchor = self._mean(self.own, near, block)
        out = np.empty((self.coefficients, *anchor.shape), anchor.dtype)
        row = iter(out)
        for tap in () if self.few else TAPS[self.phase]:
            np.subtract(self.own.at(self.phase, tap, block), anchor, out=next(row))
        for i, (grid, _) in enumerate(self.before):
            mean = self._mean(grid, near, block)
            for tap in ((0, 0), *(() if self.few else _AXIAL if i else _AROUND)):
                np.subtract(grid.at(self.phase, tap, block), mean, out=next(row))
        if self.prediction is not None:
            mean = self._mean(self.prediction, near, block)
            np.subtract(mean, anchor, out=next(row))
            for tap in ((0, 0), *(() if self.few else _AROUND)):
                np.subtract(self.prediction.at(self.phase, tap, block), mean, out=next(row))
        return anchor.reshape(-1), out.reshape(len(out), anchor.size)

    def activities(self, block: Block, step: int) -> Values:
        """The activities (weights, P), which indicate how large an error is likely to be."""
        taps = TAPS[self.phase]
        anchor = self._mean(self.own, taps[:4], block)
        parts = [
            np.full_like(anchor, step),
            sum(abs(self.own.at(self.phase, tap, block) - anchor) for tap in taps[:4]),
            sum(self.errors.at(self.phase, tap, block) for tap in taps),
        ]
        for _, errors in self.before:
            parts += [
                errors.at(self.phase, (0, 0), block),
                sum(errors.at(self.phase, tap, block) for tap in _AROUND),
            ]
        if self.prediction is not None:
            centre = self.prediction.at(self.phase, (0, 0), block)
            parts.append(sum(abs(self.prediction.at(self.phase, tap, block) - centre) for tap in _AROUND))
        return np.stack(parts).reshape(len(parts), -1)

    def predict(self, block: Block, coefficients: Values, weights: Values, step: int) -> tuple[Values, npt.NDArray[np.uint8]]:
        """The predictions (P,), not clipped, and the classes (P,) of the errors."""
        anchor, features = self.features(block)
        sums = weighted(coefficients, features)
        sums += 2 ** (COEFFICIENT_BITS - 1)
        sums *= 2.0**-COEFFICIENT_BITS
        anchor += np.floor(sums, out=sums)
        return anchor, classes(weighted(weights, self.activities(block, step)))

    def _mean(self, grid: PhaseGrid, taps: tuple[tuple[int, int], ...], block: Block) -> Values:
        total = grid.at(self.phase, taps[0], block) + grid.at(self.phase, taps[1], block)
        total += grid.at(self.phase, taps[2], block)
        total += grid.at(self.phase, taps[3], block)
        total *= 0.25
        return np.floor(total, out=total)


def weighted(weights: Values, rows: Values) -> Values:
    """The sum of weights (k,) times rows (k, P); without BLAS, whose threads cost waiting on a busy machine."""
    total = np.zeros(rows.shape[1], rows.dtype)
    product = np.empty_like(total)
    for weight, row in zip(weights, rows, strict=True):
        total += np.multiply(row, weight, out=product)
    return total


def classes(activity: Values) -> npt.NDArray[np.uint8]:
    """Two classes per octave of v = activity + 16: 2 floor(log2 v), and one more from 1.5 times that power of two on."""
    shifted = activity + activity.dtype.type(CLASS_OFFSET)
    # The exponent, whose bias is 127 or 1023, and the first digit of a float.
    integers, digits, bias = (np.int32, 22, 127) if shifted.dtype == np.float32 else (np.int64, 51, 1023)
    found: npt.NDArray[np.uint8] = ((shifted.view(integers) >> digits) - 2 * bias).astype(np.uint8)
    return found


def _reflected(size: int, phase: int) -> npt.NDArray[np.intp]:
    """The rows of a grid of `size` rows that rows -_PAD + phase, -_PAD + phase + 2, ... to beyond its end are reflected to."""
    rows = np.arange(phase - _PAD, size + _PAD, 2)
    period = max(1, 2 * (size - 1))
    rows %= period
    return np.minimum(rows, period - rows) if size > 1 else np.zeros_like(rows)
