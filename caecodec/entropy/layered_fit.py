"""Fits the tables of layered coding (entropy.layered_tables) to the symbols of training images.

symbols ── layers ── base: context_fit
                  └─ each pair of layers ── features ── Gram matrix ── predictors ── classes ── masses
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from . import context_fit
from .context_numpy import features, predict, reached
from .context_tables import CLIP, FEATURE_LIMITS, OWN
from .layered_tables import STEADY, LayeredTables, RefinementTables
from .streams import Integers
from .tables import TOTAL

CLASSES = 24
GROUPS = (0, 4, 12, 24, 40, 64, 96, 144, 216)  # first channels; they grow with the coding order, as the channels matter less
MASSES = 256
SHARPEST = 12.0  # the masses are those of log-odds between plus and minus this
RIDGE = 3e-3
FINEST = 2047  # the largest weight
MOST = 0.9 * TOTAL  # the largest prediction, with room for rounding
PRIOR_WEIGHT = 4.0  # how many observations the channel's own share counts for in each of its classes
TILE = 16384
Floats = npt.NDArray[np.float64]


def fit(symbols: npt.NDArray[np.int16], layers: int) -> LayeredTables:
    """Tables of layers 1 to `layers` for the symbols (n, M, rows, columns) of the last one, each image a crop."""
    halved = [_quantised(symbols, layers - 1 - layer) for layer in range(layers)]
    refinements = [_refinement(low, high) for low, high in pairwise(halved)]
    return LayeredTables(context_fit.fit(halved[0]), tuple(refinements), 0)


def _quantised(symbols: npt.NDArray[np.int16], shift: int) -> npt.NDArray[np.int16]:
    return (np.abs(symbols) >> shift) * np.sign(symbols)


def _refinement(low: npt.NDArray[np.int16], high: npt.NDArray[np.int16]) -> RefinementTables:
    """The tables that refine symbols (n, M, rows, columns) `low` to `high`."""
    order = np.argsort([-np.square(high[:, c], dtype=np.float32).mean() for c in range(high.shape[1])], kind="stable")
    magnitudes = [np.abs(part.transpose(1, 0, 2, 3)[order]) for part in (low, high)]
    known = np.concatenate([features((2 * np.minimum(part, CLIP)).astype(np.uint8)) for part in magnitudes])
    below, above = (part.reshape(len(order), -1) for part in magnitudes)
    group = np.array([start for start in GROUPS if start < len(order)])
    weights = _weights(known, group)
    odds = np.linspace(-SHARPEST, SHARPEST, MASSES)
    mass = np.clip(np.round(TOTAL / 2 / (1 + np.exp(-odds))).astype(np.int64), 1, TOTAL // 2 - 1) * 2
    threshold = np.zeros((len(order), CLASSES - 1), np.int64)
    zero, steady = np.zeros((len(order), CLASSES), np.int64), np.zeros((len(order), STEADY), np.int64)
    for channel, (row, small, large) in enumerate(zip(weights, below, above, strict=True)):
        used = np.flatnonzero(row)
        scaled = row.copy()
        scaled[0::2] *= OWN
        fresh = small == 0
        predicted = predict(scaled[None, used].astype(np.float32), known[used])[0, fresh]
        if len(predicted):
            ranks = np.arange(1, CLASSES) * len(predicted) // CLASSES
            threshold[channel] = np.partition(predicted, ranks)[ranks]
        chosen = reached(threshold[channel].astype(np.float32), predicted.astype(np.float32))
        zero[channel] = _nearest(odds, chosen, large[fresh] == 0, CLASSES)
        grown = np.minimum(small[~fresh], STEADY) - 1
        steady[channel] = _nearest(odds, grown, large[~fresh] % 2 == 0, STEADY)
    starts = np.repeat(group, np.diff([*group, len(order)]))
    width = 2 * len(order)
    before = np.concatenate([row[width : width + 2 * start] for row, start in zip(weights, starts, strict=True)])
    return RefinementTables(order, group, weights[:, :width], before, threshold, zero, steady, mass)


def _weights(known: npt.NDArray[np.uint8], group: Integers) -> Integers:
    """Integer ridge regression of each magnitude on the features (4 M, P) that it may see: (M, 4 M), zero for the others."""
    size, channels = len(known) + 1, len(known) // 4
    gram = np.zeros((size, size))
    for start in range(0, known.shape[1], TILE):
        tile = known[:, start : start + TILE]
        x = np.concatenate([np.ones((1, tile.shape[1]), np.float32), tile.astype(np.float32)])
        gram += x @ x.T
    gram /= known.shape[1]
    products = gram.copy()
    gram[np.diag_indices(size)] += RIDGE * (gram.diagonal() + 1e-4)
    weights = np.zeros((channels, 4 * channels), np.int64)
    for first, last in zip(group, [*group[1:], channels], strict=True):
        k = 1 + 2 * channels + 2 * first
        targets = 1 + 2 * channels + 2 * np.arange(first, last)  # the magnitudes of the group's channels
        solution = np.linalg.solve(gram[:k, :k], products[:k, targets])[1:].T
        pairs = np.abs(solution).reshape(len(solution), -1, 2)
        largest = np.maximum(pairs.max(axis=(1, 2)) / FINEST, pairs.sum(axis=1) @ FEATURE_LIMITS / MOST)
        solution[:, 0::2] /= OWN
        weights[first:last, : k - 1] = np.round(solution / np.maximum(1e-12, largest)[:, None])
    return weights


def _nearest(odds: Floats, chosen: npt.NDArray[np.integer], zero: npt.NDArray[np.bool_], count: int) -> Integers:
    """For each of `count` cases, the number of the log-odds nearest to those of `zero` where the case is `chosen`."""
    number = np.bincount(chosen, minlength=count)
    zeros = np.bincount(chosen, weights=zero, minlength=count)
    share = (zeros.sum() + 0.5) / (number.sum() + 1)
    estimate = (zeros + PRIOR_WEIGHT * share) / (number + PRIOR_WEIGHT)
    nearest: Integers = np.abs(np.log(estimate / (1 - estimate))[:, None] - odds).argmin(axis=1)
    return nearest
