"""Fits static tables to the symbols of training images."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .tables import TOTAL, Tables

RANGE = 512
PRIOR_WEIGHT = 8.0
OUTSIDE = 1e-6


def fit(batches: Sequence[npt.NDArray[np.int16]]) -> Tables:
    """Static tables of M channels for symbols (n, M, rows, columns).

    Counts are smoothed by a two-sided geometric distribution of the same mean magnitude, which counts for eight observations.
    A table leaves out the outermost 1e-6 of the result, which its escape gets.
    """
    tables, offsets = [], []
    symbols = np.arange(-RANGE, RANGE + 1)
    for counts in _count(batches):
        centre = int(symbols[counts.argmax()])
        spread = max(0.02, (counts * np.abs(symbols - centre)).sum() / counts.sum())
        ratio = (np.sqrt(1 + spread**2) - 1) / spread  # the geometric's ratio for this mean magnitude
        prior = ratio ** np.abs(symbols - centre)
        share = counts + PRIOR_WEIGHT * prior / prior.sum()
        share /= share.sum()
        below, above = np.cumsum(share), np.cumsum(share[::-1])[::-1]
        low = int(np.argmax(below > OUTSIDE / 2))
        high = len(share) - int(np.argmax(above[::-1] > OUTSIDE / 2))
        inside = share[low:high]
        tables.append(_integers(np.append(inside, max(OUTSIDE, 1 - inside.sum()))))
        offsets.append(int(symbols[low]))
    lengths = [len(table) for table in tables]
    return Tables(np.concatenate(tables), np.array(lengths, np.int64), np.array(offsets, np.int64))


def _count(batches: Sequence[npt.NDArray[np.int16]]) -> npt.NDArray[np.int64]:
    """Counts (M, 1025) of the symbols -512 to 512; symbols outside count as the nearest of them."""
    channels = batches[0].shape[1]
    counts = np.zeros((channels, 2 * RANGE + 1), np.int64)
    for symbols in batches:
        clipped = np.clip(symbols, -RANGE, RANGE).transpose(1, 0, 2, 3).reshape(channels, -1) + RANGE
        for row, values in zip(counts, clipped, strict=True):
            row += np.bincount(values, minlength=len(row))
    return counts


def _integers(share: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Integer masses in proportion to the shares, each at least 1, that sum to 2^24."""
    mass: npt.NDArray[np.int64] = np.maximum(1, np.floor(share / share.sum() * TOTAL)).astype(np.int64)
    mass[mass.argmax()] += TOTAL - mass.sum()
    return mass
