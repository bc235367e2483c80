"""Integer probability tables: one per channel, each with masses that sum to 2^24 (FORMAT.md, 5: Symbols).

They are part of the weights and are never recomputed from floats, so symbols decode identically on every machine.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from ..errors import WeightsError

PRECISION = 24
TOTAL = 2**PRECISION


def check_dtype(tensors: dict[str, npt.NDArray[Any]], name: str, dtype: npt.DTypeLike) -> None:
    """Raise ValueError if a tensor of a weights file has another dtype, and KeyError if it is missing."""
    if tensors[name].dtype != dtype:
        raise ValueError(f"{name} is {tensors[name].dtype} but must be {np.dtype(dtype)}")


@dataclass(frozen=True, eq=False)
class Tables:
    """Static tables of M channels.

    mass : (sum of lengths,) int64, the tables one after the other
    length : (M,) int64, the number of entries of each table, at least 2; the last entry is the escape
    offset : (M,) int64, the symbol that the first entry stands for
    """

    mass: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """Raise WeightsError unless the coder can use every table."""
        good = (
            self.length.ndim == 1
            and len(self.length) > 0
            and self.offset.shape == self.length.shape
            and self.length.min() >= 2
            and self.mass.shape == (self.length.sum(),)
            and self.mass.min() >= 1
            and (np.add.reduceat(self.mass, self._starts) == TOTAL).all()
            and np.abs(self.offset).max() < 2**24
        )
        if not good:
            raise WeightsError(f"probability tables must have positive masses that sum to {TOTAL}: the weights are damaged")

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.length) - self.length

    @cached_property
    def models(self) -> list[constriction.stream.model.Categorical]:
        """The tables as models of constriction that reproduce these masses exactly."""
        return [
            constriction.stream.model.Categorical((mass - 1).astype(np.float32), perfect=False)
            for mass in np.split(self.mass, self._starts[1:])
        ]

    @cached_property
    def bits(self) -> list[npt.NDArray[np.float64]]:
        """Ideal code length of each entry of each table, in bits."""
        return [PRECISION - np.log2(mass) for mass in np.split(self.mass, self._starts[1:])]
