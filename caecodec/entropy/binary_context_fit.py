"""Fits binary-context tables (entropy.binary_context_tables.BinaryContextTables) to the symbols of training images.

    symbols ── bits ── sample of bits and neighbours ── Gram matrix ── taps of each channel ── logistic regression ── masses

A fit holds 11 bytes for each bit channel at each of the sampled positions, and the Gram matrix of these features.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .binary_context_tables import (
    CHANNEL_STEP,
    CLASS_WIDTH,
    REACH,
    SIDE,
    BinaryContextTables,
    Bits,
    classes,
    tap_steps,
    unpack_pairs,
    with_margin,
)
from .streams import Integers
from .tables import TOTAL

SAMPLE = 65536  # positions; more do not improve the tables
TAPS = 24
CLASSES = 32
UNIT = 2.0 ** (CLASS_WIDTH + 1)  # weights are in units of 1/256, so that a class is half a unit of the log-odds wide
CANDIDATES = np.array([SIDE * (row + REACH) + column + REACH for row, column in [
    (-2, 0), (0, -2), *((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
]])  # fmt: skip
OWN = 6  # which candidate is the bit itself
LEAST = 1e-5  # share of a bit's variance that another tap must explain
ROUNDS = 5
LONGEST = 2.0  # change of a weight in a round
RIDGE = 1e-5
PRIOR_WEIGHT = 8.0  # bits that the logistic curve counts for in each class
TILE = 8192
Floats = npt.NDArray[np.float64]


def fit(batches: Sequence[npt.NDArray[np.int16]], taps: int = TAPS) -> BinaryContextTables | None:
    """Tables for symbols (n, M, rows, columns); None unless all symbols of each channel are +-1 or +-2, or all are 0."""
    used = np.logical_or.reduce([batch.any(axis=(0, 2, 3)) for batch in batches])
    for batch in batches:
        part = np.abs(batch[:, used])
        if not used.any() or part.min() < 1 or part.max() > 2:
            return None
    sample = _sample(batches, used)
    gram = _gram(sample)
    channels = len(sample) // len(CANDIDATES)
    feature_channel = np.arange(channels).repeat(len(CANDIDATES))
    feature_place = np.tile(CANDIDATES, channels)
    channel, place, weight = (np.zeros((channels, taps), np.int64) for _ in range(3))
    place += CANDIDATES[0]
    bias, mass = np.zeros(channels, np.int64), np.zeros((channels, CLASSES), np.int64)
    for number in range(channels):
        own = len(CANDIDATES) * number + OWN
        earlier = tap_steps(feature_place) < CHANNEL_STEP * (number - feature_channel)
        chosen = _select(gram, own, np.flatnonzero(earlier), taps)
        known = np.concatenate([sample[chosen], np.ones((1, sample.shape[1]), np.int8)])
        ones = sample[own] > 0
        *weights, constant = np.round(UNIT * _logistic(known.astype(np.float32), ones)).clip(-(2**15), 2**15 - 1).astype(int)
        channel[number, : len(chosen)] = feature_channel[chosen]
        place[number, : len(chosen)] = feature_place[chosen]
        weight[number, : len(chosen)] = weights
        bias[number] = constant
        sums = np.array([*weights, constant], np.int64) @ known
        mass[number] = _masses(classes(sums, CLASSES), ones)
    return BinaryContextTables(used.astype(np.int64), channel, place, weight, bias, mass)


def _sample(batches: Sequence[npt.NDArray[np.int16]], used: npt.NDArray[np.bool_]) -> Bits:
    """The bits at each of the candidates' places, 0 outside the image: (C places, P), at random positions of each image."""
    rng = np.random.default_rng(0)
    images = sum(map(len, batches))
    parts = []
    for batch in batches:
        bits = unpack_pairs(batch[:, used].astype(np.int8))
        _, channels, rows, columns = bits.shape
        padded = with_margin(bits)
        size = min(rows * columns, -(-SAMPLE // images))
        for image in padded:
            row, column = np.divmod(rng.permutation(rows * columns)[:size], columns)
            around = image[:, row + CANDIDATES[:, None] // SIDE, column + CANDIDATES[:, None] % SIDE]
            parts.append(around.reshape(channels * len(CANDIDATES), -1))
    return np.concatenate(parts, axis=1)


def _gram(sample: Bits) -> Floats:
    """The mean products (F + 1, F + 1) of features (F, P) and a constant, which comes last."""
    size = len(sample) + 1
    gram: Floats = np.zeros((size, size))
    for start in range(0, sample.shape[1], TILE):
        tile = sample[:, start : start + TILE].astype(np.float32)
        tile = np.concatenate([tile, np.ones((1, tile.shape[1]), np.float32)])
        gram += tile @ tile.T
    gram /= sample.shape[1]
    return gram


def _select(gram: Floats, own: int, candidates: Integers, most: int) -> Integers:
    """At most `most` features, of those that explain a bit best by linear regression: each explains most of what was left."""
    index = np.append(candidates, len(gram) - 1)
    variance, left = gram.diagonal()[index].copy(), gram[index, own].copy()
    basis, chosen = np.zeros((0, len(index))), [len(index) - 1]  # the constant comes first
    free = np.ones(len(index), bool)
    while True:
        best = chosen[-1]
        free[best] = False
        direction = gram[index[best], index] - basis[:, best] @ basis
        direction /= np.sqrt(direction[best])
        basis = np.concatenate([basis, direction[None]])
        left -= left[best] / direction[best] * direction
        variance -= direction**2
        gains = np.where(free & (variance > LEAST), left**2 / np.maximum(variance, LEAST), 0)
        if len(chosen) > most or not free.any() or gains.max() < LEAST:
            return index[chosen[1:]]
        chosen.append(int(gains.argmax()))


def _logistic(known: npt.NDArray[np.float32], ones: npt.NDArray[np.bool_]) -> Floats:
    """The weights (F,) of features (F, P) that sum to the log-odds of a bit of 1, by Newton's method with a ridge."""
    weights = np.zeros(len(known))
    ridge = RIDGE * known.shape[1]
    for _ in range(ROUNDS):
        p = (1 + np.tanh(weights.astype(np.float32) @ known / 2)) / 2
        hessian = (known * (p * (1 - p))) @ known.T + ridge * np.eye(len(known))
        change = np.linalg.solve(hessian, known @ (ones - p) - ridge * weights)
        weights += change / max(1, np.abs(change).max() / LONGEST)
    return weights


def _masses(found: Integers, ones: npt.NDArray[np.bool_]) -> Integers:
    """The mass (K,) of a 1 in each class, from the classes (P,) of bits and which of them are 1."""
    total = np.bincount(found, minlength=CLASSES)
    positive = np.bincount(found, weights=ones, minlength=CLASSES)
    expected = 1 / (1 + np.exp(-(np.arange(CLASSES) - CLASSES // 2 + 0.5) * 2**CLASS_WIDTH / UNIT))
    share = (positive + PRIOR_WEIGHT * expected) / (total + PRIOR_WEIGHT)
    masses: Integers = np.round(TOTAL * share).astype(np.int64).clip(1, TOTAL - 1)
    return masses
