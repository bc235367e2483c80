"""What entropy model 1 stores for M channels: order, differences, predictors, classes, tables (FORMAT.md, 7: Context coding).

All values are integers and part of the weights. The predictors still run in float32: all their products and sums, in any
order, are integers below 2^24, so floats are exact and every BLAS gives the same classes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError, WeightsError
from .streams import CodedSymbols, Integers
from .tables import PRECISION, TOTAL

NONE, LEFT, UP = 0, 1, 2
CLIP = 8  # larger magnitudes count as this
FEATURE_LIMITS = (CLIP, 9 * CLIP)  # largest magnitude and largest 3x3 sum
OWN = 8  # factor of a weight of the magnitude at the same position, relative to a weight of a 3x3 sum
MAX_RADIUS = 126  # so that an index, at most 2 radius + 1, fits a byte
MAX_CLASSES = 256
COMPILED_LANES, COMPILED_ENTRIES = 16, 8  # LANES and FEW in _coder.c
Floats = npt.NDArray[np.float32]

_INDEX = np.arange(2 * MAX_RADIUS + 2)
VALUES = np.where(_INDEX & 1, (_INDEX + 1) // 2, -(_INDEX // 2)).astype(np.int32)
"""The value of each index: 0, 1, -1, 2, -2, ..."""
MAGNITUDES = np.minimum((_INDEX + 1) // 2, CLIP).astype(np.float32)
"""The magnitude of each index, at most 8; an escape counts as radius + 1."""


@dataclass(frozen=True, eq=False)
class ContextTables:
    """Context tables of M channels, with K classes per channel and T tables; all fields but `order` are in coding order.

    order : (M,) int64, the channels in coding order
    difference : (M,) int64, what is coded: 0, the symbols; 1, differences from the left; 2, differences from the row above
    radius : (M,) int64, r: the channel's tables hold the values -r to r; all others escape
    weight : (M (M - 1),) int64, -128 to 127: for each channel, a pair of weights for each channel before it
    threshold : (M, K - 1) int64, ascending: the predictions at which class 1, 2, ... begins
    table : (M, K) int64, the table of each class
    mass : (T, G + 2) int64, masses of 0, of 1 and of -1, ..., of G and of -G, and of the rest; they sum to 2^24
    """

    order: Integers
    difference: Integers
    radius: Integers
    weight: Integers
    threshold: Integers
    table: Integers
    mass: Integers

    def __post_init__(self) -> None:
        """Raise WeightsError unless the coder and the predictors can use the tables exactly."""
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
            raise WeightsError("context tables have inconsistent shapes: the weights are damaged")
        reach = self.mass.shape[1] - 2
        checks = {
            "order": (np.sort(self.order) == np.arange(channels)).all(),
            "difference": np.isin(self.difference, (NONE, LEFT, UP)).all(),
            "radius": 0 <= self.radius.min() <= self.radius.max() <= reach <= MAX_RADIUS,
            "weight": ((self.weight >= -128) & (self.weight <= 127)).all()
            and (np.abs(self._matrix).reshape(channels, channels, 2).sum(axis=1) @ FEATURE_LIMITS).max() < TOTAL,
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
        """Weights (M, 2 M) of the magnitude and 3x3 sum of each channel, zero from the channel itself on."""
        channels = len(self.order)
        matrix = np.zeros((channels, 2 * channels), np.int64)
        matrix[np.arange(2 * channels) < 2 * np.arange(channels)[:, None]] = self.weight
        matrix[:, 0::2] *= OWN
        return matrix

    @cached_property
    def predictor(self) -> Floats:
        """Weights (M, 2 M) float32 of the magnitude and 3x3 sum of each channel, zero from the channel itself on."""
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

    @cached_property
    def for_compiled_coder(self) -> tuple[int, *tuple[npt.NDArray[Any], ...]]:
        """What _coder.c calls Tables: the number of entries of its tables, and its arrays."""
        channels, lanes = len(self.order), COMPILED_LANES
        blocks = -(-channels // lanes)
        weight = np.zeros((blocks * lanes, channels, 2), np.int16)
        weight[:channels] = self._matrix.reshape(channels, channels, 2) // (OWN, 1)
        classes = 1 << self.threshold.shape[1].bit_length()
        fill = classes - self.table.shape[1]
        threshold = np.pad(self.threshold, [(0, 0), (0, fill)], constant_values=2**31 - 1)
        both = np.concatenate([self.mass[:, :1], np.repeat(self.mass[:, 1:-1], 2, axis=1), self.mass[:, -1:]], axis=1)
        mass = np.pad(both, [(0, 0), (0, max(0, COMPILED_ENTRIES - both.shape[1]))])
        cumulative = np.cumsum(mass, axis=1) - mass
        return (
            mass.shape[1],
            self.order.astype(np.int32), self.difference.astype(np.uint8), self.radius.astype(np.uint8),
            np.ascontiguousarray(weight.reshape(blocks, lanes, channels, 2).swapaxes(1, 2)),
            threshold.astype(np.int32), np.pad(self.table, [(0, 0), (0, fill)]).astype(np.uint8),
            cumulative.astype(np.uint32), np.uint64(2**64 - 1) // np.maximum(mass, 1).astype(np.uint64),
        )  # fmt: skip


def coded_channels(coded: CodedSymbols, channels: int) -> tuple[int, int]:
    """The number of coded channels, and where the escape list begins; CorruptionError if the number is too large."""
    count, position = varint.unpack(coded.escapes, 0)
    if count > channels:
        raise CorruptionError(
            f"payload codes {count} channels but the weights have {channels}: it is damaged, or was made with other weights"
        )
    return count, position
