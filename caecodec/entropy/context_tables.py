"""What entropy model 1 stores for M channels: order, differences, predictors, classes, tables (FORMAT.md, 7: Context coding).

All integers, and part of the weights. The predictors run in float32 all the same: every product and every sum of theirs, in
whatever order, is an integer below 2^24, so floats are exact, and any BLAS gives the same classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from .streams import Integers
from .tables import PRECISION, TOTAL

NONE, LEFT, UP = 0, 1, 2
CLIP = 8  # magnitudes count up to this
FEATURE_LIMITS = (CLIP, 9 * CLIP)  # of a magnitude and of a 3x3 sum
OWN = 8  # what a weight of the magnitude at the same position counts beside one of a 3x3 sum
MAX_RADIUS = 126  # an index, at most 2 radius + 1, fits a byte
MAX_CLASSES = 256
Floats = npt.NDArray[np.float32]

_INDEX = np.arange(2 * MAX_RADIUS + 2)
VALUES = np.where(_INDEX & 1, (_INDEX + 1) // 2, -(_INDEX // 2)).astype(np.int32)
"""The value of each index: 0, 1, -1, 2, -2, ..."""
MAGNITUDES = np.minimum((_INDEX + 1) // 2, CLIP).astype(np.float32)
"""The magnitude of each index, at most 8; an escape counts as radius + 1."""


@dataclass(frozen=True, eq=False)
class ContextTables:
    """Context model of M channels, in coding order but for `order` itself; K classes a channel, T tables.

    order : (M,) int64, the channels in the order of coding
    difference : (M,) int64, 0: symbols are coded as they are; 1: their differences to the left; 2: to the row above
    radius : (M,) int64, r: values -r to r are in the channel's tables, all others escape
    weight : (M (M - 1),) int64, -128 to 127: for each channel, a pair of weights for each channel before it
    threshold : (M, K - 1) int64, ascending: what a prediction must reach for class 1, 2, ...
    table : (M, K) int64, the table of each class
    mass : (T, G + 2) int64: of value 0, of 1 and -1 each, ..., of G and -G each, of the rest; they sum to 2^24
    """

    order: Integers
    difference: Integers
    radius: Integers
    weight: Integers
    threshold: Integers
    table: Integers
    mass: Integers

    def __post_init__(self) -> None:
        """WeightsError unless coder and predictors can use them, exactly."""
        channels = self.order.size
        good = (
            channels > 0
            and self.order.shape == self.difference.shape == self.radius.shape == (channels,)
            and self.weight.shape == (channels * (channels - 1),)
            and self.threshold.ndim == self.table.ndim == self.mass.ndim == 2
            and len(self.table) == len(self.threshold) == channels
            and 1 <= self.table.shape[1] == self.threshold.shape[1] + 1 <= MAX_CLASSES
            and len(self.mass) >= 1
            and self.mass.shape[1] >= 2
        )
        if not good:
            raise WeightsError("context tables have shapes that do not fit each other: the weights are damaged")
        reach = self.mass.shape[1] - 2
        checks = {
            "order": (np.sort(self.order) == np.arange(channels)).all(),
            "difference": np.isin(self.difference, (NONE, LEFT, UP)).all(),
            "radius": 0 <= self.radius.min() <= self.radius.max() <= reach <= MAX_RADIUS,
            "weight": (np.abs(self._matrix).reshape(channels, channels, 2).sum(axis=1) @ FEATURE_LIMITS).max() < TOTAL,
            "threshold": (np.diff(self.threshold) >= 0).all() and (np.abs(self.threshold) < TOTAL).all(),
            "table": 0 <= self.table.min() <= self.table.max() < len(self.mass),
            "mass": self.mass.min() >= 1
            and (self.mass[:, 0] + 2 * self.mass[:, 1:-1].sum(axis=1) + self.mass[:, -1] == TOTAL).all(),
        }
        wrong = [name for name, fine in checks.items() if not fine]
        if wrong:
            raise WeightsError(
                f"context tables hold values of {', '.join(wrong)} that no encoder can use: the weights are damaged"
            )

    @cached_property
    def _matrix(self) -> Integers:
        """Weights (M, 2 M) of magnitude and 3x3 sum of every channel, zero from each channel itself on."""
        channels = len(self.order)
        matrix = np.zeros((channels, 2 * channels), np.int64)
        matrix[np.arange(2 * channels) < 2 * np.arange(channels)[:, None]] = self.weight
        matrix[:, 0::2] *= OWN
        return matrix

    @cached_property
    def predictor(self) -> Floats:
        """Weights (M, 2 M) float32: of magnitude and 3x3 sum of each channel, zero from each channel itself on."""
        return self._matrix.astype(np.float32)

    @cached_property
    def levels(self) -> Floats:
        """Thresholds (M, K - 1) float32."""
        return self.threshold.astype(np.float32)

    @cached_property
    def rows(self) -> list[Floats]:
        """Tables (K, 2 r + 2) of each channel, as constriction's Categorical takes them: mass - 1 of each index, float32."""
        both = np.concatenate([self.mass[:, :1], np.repeat(self.mass[:, 1:-1], 2, axis=1)], axis=1)
        tables = {}
        for radius in np.unique(self.radius):
            inside = both[:, : 2 * radius + 1]
            tables[radius] = np.concatenate([inside, TOTAL - inside.sum(axis=1, keepdims=True)], axis=1) - 1
        return [tables[r][table].astype(np.float32) for r, table in zip(self.radius, self.table, strict=True)]

    @cached_property
    def escape(self) -> npt.NDArray[np.uint8]:
        """The index (M, 1, 1) that stands for all values outside the tables."""
        return (2 * self.radius + 1).astype(np.uint8)[:, None, None]

    @cached_property
    def bits(self) -> list[npt.NDArray[np.float64]]:
        """Ideal code length (K, 2 r + 2) of each index in each class of each channel, in bits."""
        return [PRECISION - np.log2(rows.astype(np.float64) + 1) for rows in self.rows]
