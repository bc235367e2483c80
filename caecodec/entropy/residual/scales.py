"""The probability tables of quantised errors, which are symmetric, heavy-tailed and of any scale (FORMAT.md, 11: Residuals).

Table 4 j + v has scale 2^(j/4 - 2) and shape v. From j = 24 on, the lowest bits of a value are coded separately, as raw bits.
"""

from functools import lru_cache
from math import isqrt
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from ...errors import CorruptionError
from ..tables import PRECISION, TOTAL

RADIUS = 127  # the entries are the values -127 to 127, and the escape
ESCAPE = 2 * RADIUS + 1
POWERS = (2, 3, 5, 8)  # one for each shape
_OCTAVE = 4  # scales per octave
_SCALES = 24  # scales without low bits
MAX_LOW_BITS = 36
PIECE_BITS = 16
TABLES = (_SCALES + _OCTAVE * MAX_LOW_BITS) * len(POWERS)


def parse(table: int) -> tuple[int, int]:
    """The basic table, 0 to 95, and the number of low bits of a table; CorruptionError if there is no such table."""
    if table >= TABLES:
        raise CorruptionError(f"payload names table {table} but there are {TABLES}: it is damaged")
    j, v = divmod(table, len(POWERS))
    low = max(0, j // _OCTAVE - _SCALES // _OCTAVE + 1)
    return (j - _OCTAVE * low) * len(POWERS) + v, low


@lru_cache
def masses(basic: int) -> npt.NDArray[np.int64]:
    """The masses (256,) of the values -127 ... 127 and of the escape in a basic table; they sum to 2^24."""
    j, v = divmod(basic, len(POWERS))
    power = POWERS[v]
    square = isqrt(2 ** (j + 16))  # 2^12 times the square of the scale
    weight = [(square**power << 64) // (square + (k * k << 12)) ** power for k in range(RADIUS + 1)]
    beyond = 2 * weight[RADIUS] * RADIUS // (2 * power - 1)
    total = weight[0] + 2 * sum(weight[1:]) + beyond
    room = TOTAL - ESCAPE - 1
    half = [1 + w * room // total for w in weight]
    entries = [*half[:0:-1], 0, *half[1:], 1 + beyond * room // total]
    entries[RADIUS] = TOTAL - sum(entries)
    return np.array(entries, np.int64)


@lru_cache
def model(basic: int) -> Any:
    """A basic table as a model of constriction."""
    return constriction.stream.model.Categorical((masses(basic) - 1).astype(np.float32), perfect=False)


@lru_cache
def bits() -> npt.NDArray[np.float64]:
    """Ideal code lengths (96, 129) in bits of the magnitudes 0 ... 127 and of the escape in each basic table."""
    all_masses = np.array([masses(basic)[RADIUS:] for basic in range(_SCALES * len(POWERS))])
    return PRECISION - np.log2(all_masses)


def choose(magnitudes: npt.NDArray[np.int64], escape_bits: int) -> int:
    """The table that codes values of these magnitudes (k,) in the fewest bits if an escape costs escape_bits more."""
    costs = bits()
    typical = int(np.partition(magnitudes, len(magnitudes) // 2)[len(magnitudes) // 2]).bit_length()
    best = (np.inf, 0)
    for low in range(max(0, typical - 5), max(0, typical - 5) + 3):
        high = (magnitudes + (2**low // 2)) >> low
        count = np.bincount(np.minimum(high, RADIUS + 1), minlength=RADIUS + 2)
        cost = costs @ count + len(magnitudes) * low + escape_bits * count[-1]
        first = (_SCALES - _OCTAVE) * len(POWERS) if low else 0
        basic = first + int(cost[first:].argmin())
        best = min(best, (float(cost[basic]), basic + _OCTAVE * len(POWERS) * low))
    return best[1]


def split(values: npt.NDArray[np.int64], table: int) -> tuple[list[tuple[npt.NDArray[np.int32], Any]], npt.NDArray[np.int64]]:
    """Split values (k,) into (integers, model) pairs, for the entries and each piece of low bits, and the escaped values."""
    basic, low = parse(table)
    shifted = values + 2**low // 2
    high = shifted >> low
    escaped = abs(high) > RADIUS
    jobs = [(np.where(escaped, ESCAPE, high + RADIUS).astype(np.int32), model(basic))]
    rest = np.where(escaped, 0, shifted)
    jobs += [(((rest >> first) & (2**count - 1)).astype(np.int32), _uniform(count)) for first, count in _pieces(low)]
    return jobs, values[escaped]


def join(coder: Any, runs: list[tuple[int, tuple[int, int]]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Decode the next values, in runs of (count, parsed table), and return them with the positions of those that escape."""
    values = np.empty(sum(count for count, _ in runs), np.int64)
    shifted = []
    start = 0
    for count, (basic, low) in runs:
        part = values[start : start + count]
        part[:] = coder.decode(model(basic), count)
        if low:
            rest = [coder.decode(_uniform(size), count).astype(np.int64) << first for first, size in _pieces(low)]
            shifted.append((part, low, sum(rest)))
        start += count
    values -= RADIUS
    escaped = np.flatnonzero(values > RADIUS)
    for part, low, rest in shifted:
        part[:] = (part << low) - 2**low // 2 + rest
    return values, escaped


def _pieces(low: int) -> list[tuple[int, int]]:
    """The first bit and the number of bits of each piece of the low bits."""
    return [(first, min(PIECE_BITS, low - first)) for first in range(0, low, PIECE_BITS)]


@lru_cache
def _uniform(count: int) -> Any:
    """A model in which all 2^count values are equally likely."""
    return constriction.stream.model.Uniform(2**count)
