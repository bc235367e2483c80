"""What layered coding stores for a refinement of M channels: groups, predictors, classes, masses (FORMAT.md, 25: Layers).

All values are integers and part of the weights. As in context coding, the predictors run in float32 without error.
"""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bitstream.scalable import MAX_LAYERS
from ..errors import WeightsError
from .context_tables import COMPILED_LANES, FEATURE_LIMITS, OWN, ContextTables, Floats
from .streams import Integers
from .tables import TOTAL

STEADY = 3  # magnitudes from this one on have the same mass
STEADY_FLAG = np.uint32(2**31)  # in a mass: of the lower half, not of staying 0


@dataclass(frozen=True, eq=False)
class RefinementTables:
    """Tables of one enhancement layer of M channels, with K classes per channel and T masses; in coding order but for `order`.

    order : (M,) int64, the channels in coding order
    group : (G,) int64, ascending from 0: the number of the first channel of each group
    below : (M, 2 M) int64, of 16 bits: pairs of weights for each channel of the layer below
    before : (sum of 2 group(c),) int64, of 16 bits: for each channel c, pairs of weights for each channel before its group
    threshold : (M, K - 1) int64, ascending: the predictions at which class 1, 2, ... begins
    zero : (M, K) int64, the mass of each class, by number: of staying 0
    steady : (M, STEADY) int64, the mass of each magnitude 1, 2, ..., by number: of the lower half
    mass : (T,) int64, even, 2 to 2^24 - 2
    """

    order: Integers
    group: Integers
    below: Integers
    before: Integers
    threshold: Integers
    zero: Integers
    steady: Integers
    mass: Integers

    def __post_init__(self) -> None:
        """Raise WeightsError unless the coder and the predictors can use the tables exactly."""
        channels = self.order.size
        good = (
            channels > 0
            and self.order.shape == (channels,)
            and self.group.ndim == self.mass.ndim == 1
            and len(self.group) > 0
            and len(self.mass) > 0
            and self.group[0] == 0
            and (np.diff(self.group) > 0).all()
            and self.group[-1] < channels
            and self.below.shape == (channels, 2 * channels)
            and self.before.shape == (2 * int(self._starts.sum()),)
            and self.threshold.ndim == self.zero.ndim == 2
            and len(self.threshold) == len(self.zero) == channels
            and 1 <= self.zero.shape[1] == self.threshold.shape[1] + 1 <= 256
            and self.steady.shape == (channels, STEADY)
        )
        if not good:
            raise WeightsError("tables of a layer have inconsistent shapes: the weights are damaged")
        pairs = self._pairs
        largest = np.abs(pairs).sum(axis=1) @ [OWN * FEATURE_LIMITS[0], FEATURE_LIMITS[1]]
        checks = {
            "order": (np.sort(self.order) == np.arange(channels)).all(),
            "below, before": largest.max() < TOTAL and -(2**15) <= pairs.min() <= pairs.max() < 2**15,
            "threshold": (np.diff(self.threshold) >= 0).all() and (np.abs(self.threshold) < TOTAL).all(),
            "zero, steady": all(0 <= part.min() <= part.max() < len(self.mass) for part in (self.zero, self.steady)),
            "mass": 2 <= self.mass.min() <= self.mass.max() <= TOTAL - 2 and not (self.mass & 1).any(),
        }
        wrong = [name for name, fine in checks.items() if not fine]
        if wrong:
            raise WeightsError(
                f"tables of a layer hold values of {', '.join(wrong)} that no encoder can use: the weights are damaged"
            )

    @property
    def groups(self) -> list[tuple[int, int]]:
        """The first channel of each group, and the first one behind it."""
        ends = [*self.group[1:].tolist(), len(self.order)]
        return list(zip(self.group.tolist(), ends, strict=True))

    @cached_property
    def predictor(self) -> Floats:
        """Weights (M, 4 M) float32 of the magnitude and 3x3 sum of each channel of the layer below, then of this one."""
        return (self._pairs * (OWN, 1)).reshape(len(self.order), -1).astype(np.float32)

    @cached_property
    def levels(self) -> Floats:
        """Thresholds (M, K - 1) float32."""
        return self.threshold.astype(np.float32)

    @cached_property
    def zero_mass(self) -> npt.NDArray[np.uint32]:
        """The mass (M, K) of staying 0 in each class."""
        return self.mass.astype(np.uint32)[self.zero]

    @cached_property
    def steady_mass(self) -> npt.NDArray[np.uint32]:
        """The mass (M, STEADY) of the lower half at each magnitude."""
        return self.mass.astype(np.uint32)[self.steady]

    @cached_property
    def for_compiled_coder(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays of what _coder.c calls Refinement."""
        channels, lanes = len(self.order), COMPILED_LANES
        factor = []
        for first, last in self.groups:
            blocks = -(-(last - first) // lanes)
            part = np.zeros((blocks * lanes, 2 * channels, 2), np.int16)
            part[: last - first] = self._pairs[first:last]
            factor.append(part.reshape(blocks, lanes, 2 * channels, 2).swapaxes(1, 2))
        fill = (1 << self.threshold.shape[1].bit_length()) - self.zero.shape[1]
        return (
            self.order.astype(np.int32), np.append(self.group, channels).astype(np.int32),
            np.ascontiguousarray(np.concatenate(factor)),
            np.pad(self.threshold, [(0, 0), (0, fill)], constant_values=2**31 - 1).astype(np.int32),
            np.concatenate([np.pad(self.zero_mass, [(0, 0), (0, fill)], "edge"), self.steady_mass | STEADY_FLAG], axis=1),
        )  # fmt: skip

    @property
    def _starts(self) -> Integers:
        """For each channel, the first channel of its group."""
        return np.repeat(self.group, np.diff([*self.group, len(self.order)]))

    @property
    def _pairs(self) -> Integers:
        """Weights (M, 2 M, 2) of the magnitude and 3x3 sum of each channel of the layer below, then of this one."""
        channels = len(self.order)
        matrix = np.zeros((channels, 4 * channels), np.int64)
        matrix[:, : 2 * channels] = self.below
        matrix[:, 2 * channels :][np.arange(2 * channels) < 2 * self._starts[:, None]] = self.before
        return matrix.reshape(channels, 2 * channels, 2)


@dataclass(frozen=True, eq=False)
class LayeredTables:
    """The tables of a layer and of all layers below it.

    base : of the symbols of the base layer
    refinements : of each enhancement layer, from the one above the base on
    above : the number of further layers that the weights have
    """

    base: ContextTables
    refinements: tuple[RefinementTables, ...]
    above: int

    @property
    def layers(self) -> int:
        """The number of layers."""
        return 1 + len(self.refinements)


def layers_of(names: Container[str]) -> int:
    """The number of layers that a weights file with tensors of these names has tables for; 0 if it is not of layers."""
    return next((count for count in range(MAX_LAYERS) if f"q{count + 1}.layers.order" not in names), MAX_LAYERS)
