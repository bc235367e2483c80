"""Fits context tables (entropy.context_tables.ContextTables) to the symbols of training images.

    symbols ── differences, order, radius ── features ── Gram matrix ── predictors ── classes ── histograms ── shared tables

A fit holds two bytes per symbol, and three more while it computes features; matrices are summed in tiles.
"""

import numpy as np
import numpy.typing as npt

from .context_numpy import difference, features, predictions, reached
from .context_tables import LEFT, NONE, OWN, UP, ContextTables
from .streams import narrow
from .tables import TOTAL

CLASSES = 32
MOST_CROPS = 3000  # more crops do not improve the tables
TABLES = 128
REACH = 126  # the largest radius that the format allows; tables are only as wide as the widest channel needs
ESCAPES = 1e-5  # share of a channel's symbols that may lie outside its radius
SMOOTH_CANDIDATES = 12  # only this many channels, those of the highest variance, may be coded as differences
SMOOTH_GAIN = 0.02  # bits per symbol that differences must save
SMOOTH_WEIGHT = 0.01  # weight of a difference's variance in the coding order, because the other channels predict its scale
RIDGE = 1e-3
PRIOR_WEIGHT = 2.0  # how many observations the channel's own histogram counts for in each of its classes
TILE = 65536
ROUNDS = 30
Small = npt.NDArray[np.int16]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def fit(symbols: Small, classes: int = CLASSES, tables: int = TABLES, reach: int = REACH) -> ContextTables:
    """Context tables of M channels for symbols (n, M, rows, columns), each image a crop; changes `symbols` in place.

    classes : the number of classes per channel, up to 256
    tables : the number of tables, which all classes of all channels share, up to 256
    reach : the largest value that a table may hold, up to 126
    """
    kinds, variance = _differences(symbols)
    order = np.argsort(-variance, kind="stable")
    index, radius = _index(symbols, order, reach)
    known = features(index)
    weights = _weights(known)
    threshold, histograms = _classes(index.reshape(len(index), -1), known, weights, classes, int(radius.max()))
    overall = histograms.sum(axis=1, keepdims=True) / (index.size / len(index))
    mass, table = _share((histograms + PRIOR_WEIGHT * overall).reshape(len(index) * classes, -1), tables)
    return ContextTables(
        order=order,
        difference=kinds[order],
        radius=radius,
        weight=np.concatenate(weights).astype(np.int64),
        threshold=threshold,
        table=table.reshape(len(index), classes),
        mass=mass,
    )


def _differences(symbols: Small) -> tuple[Integers, Floats]:
    """Choose symbols or differences for each channel (M,), in place; the variances returned determine the coding order."""
    sample = symbols[:: max(1, len(symbols) // 750)]
    variance = np.array([np.square(sample[:, c], dtype=np.float32).mean() for c in range(symbols.shape[1])], np.float64)
    kinds = np.zeros(len(variance), np.int64)
    for channel in np.argsort(-variance)[:SMOOTH_CANDIDATES]:
        coded = {kind: difference(sample[:, channel].astype(np.int32), kind) for kind in (NONE, LEFT, UP)}
        bits = {kind: _entropy(values) for kind, values in coded.items()}
        best = min(bits, key=bits.__getitem__)
        if bits[best] < bits[NONE] - SMOOTH_GAIN:
            kinds[channel] = best
            variance[channel] = SMOOTH_WEIGHT * np.square(coded[best], dtype=np.float64).mean()
            symbols[:, channel] = narrow(difference(symbols[:, channel].astype(np.int32), best))
    return kinds, variance


def _index(symbols: Small, order: Integers, reach: int) -> tuple[Bytes, Integers]:
    """Indices (M, n, rows, columns) and radii (M,) in coding order."""
    count, channels, rows, columns = symbols.shape
    index = np.empty((channels, count, rows, columns), np.uint8)
    radius = np.empty(channels, np.int64)
    for place, channel in enumerate(order):
        values = symbols[:, channel].astype(np.int32)
        magnitudes = np.abs(values)
        beyond = 1 - np.cumsum(np.bincount(np.minimum(magnitudes, reach).ravel(), minlength=reach + 1)) / values.size
        radius[place] = max(1, int(np.argmax(beyond <= ESCAPES)))  # the last share is 0
        index[place] = np.where(magnitudes > radius[place], 2 * radius[place] + 1, 2 * magnitudes - (values > 0))
    return index, radius


def _weights(known: Bytes) -> list[npt.NDArray[np.float32]]:
    """Integer ridge regression of each magnitude on all earlier features (2 M, P): a pair of weights per earlier channel."""
    size = len(known) + 1
    gram = np.zeros((size, size))
    for start in range(0, known.shape[1], TILE):
        tile = known[:, start : start + TILE]
        x = np.concatenate([np.ones((1, tile.shape[1]), np.float32), tile.astype(np.float32)])
        gram += x @ x.T
    gram /= known.shape[1]
    gram[np.diag_indices(size)] += RIDGE * (gram.diagonal() + 1e-4)
    inverse = np.linalg.inv(np.linalg.cholesky(gram))  # its corners are the inverses of those of the triangle
    weights = [np.zeros(0, np.float32)]
    for channel in range(1, len(known) // 2):
        k = 2 * channel + 1  # the constant and all earlier features; gram[:k, k] are their products with the target
        solution = (inverse[:k, :k].T @ (inverse[:k, :k] @ gram[:k, k]))[1:]
        solution[0::2] /= OWN
        weights.append(np.round(127 * solution / max(1e-12, np.abs(solution).max())).astype(np.float32))
    return weights


def _classes(
    index: Bytes, known: Bytes, weights: list[npt.NDArray[np.float32]], classes: int, reach: int
) -> tuple[Integers, Integers]:
    """Thresholds (M, classes - 1) at quantiles of the predictions, and counts (M, classes, reach + 2) of the magnitudes."""
    channels, size = index.shape
    matrix = np.zeros((channels, 2 * channels), np.float32)
    for row, weight in zip(matrix, weights, strict=True):
        row[: len(weight)] = weight
    matrix[:, 0::2] *= OWN
    threshold = np.zeros((channels, classes - 1), np.int64)
    histograms = np.zeros((channels, classes, reach + 2), np.int64)
    ranks = np.arange(1, classes) * len(range(0, size, 4)) // classes
    for channel, prediction in enumerate(predictions(matrix, known)):
        threshold[channel] = np.partition(prediction[::4], ranks)[ranks]
        chosen = reached(threshold[channel].astype(np.float32), prediction).astype(np.int64)
        magnitude = (index[channel].astype(np.int64) + 1) // 2  # an escape is radius + 1, and at most reach + 1
        counts = np.bincount(chosen * (reach + 2) + magnitude, minlength=classes * (reach + 2))
        histograms[channel] = counts.reshape(classes, -1)
    return threshold, histograms


def _share(counts: Floats, tables: int) -> tuple[Integers, Integers]:
    """K-means by code length: masses (tables, G + 2) for counts (items, G + 2) of magnitudes, and the table of each item."""
    magnitude = np.arange(counts.shape[1])
    mean = counts @ magnitude / np.maximum(counts.sum(axis=1), 1)
    chosen = np.empty(len(counts), np.int64)
    chosen[np.argsort(mean, kind="stable")] = np.arange(len(counts)) * tables // len(counts)
    for _ in range(ROUNDS):
        share = _smoothed((np.arange(tables)[:, None] == chosen).astype(np.float64) @ counts)
        before, chosen = chosen, np.argmin(-counts @ np.log2(share).T, axis=1)
        if (before == chosen).all():
            break
    return _integers(share), chosen


def _smoothed(counts: Floats) -> Floats:
    """Shares of each magnitude, smoothed by a geometric distribution of the same mean that counts for one observation."""
    magnitude = np.arange(counts.shape[1])
    mean = counts @ magnitude / np.maximum(counts.sum(axis=1), 1)
    prior = (mean / (1 + mean) + 1e-7)[:, None] ** magnitude + 1e-9
    prior /= prior.sum(axis=1, keepdims=True)
    share: Floats = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1)
    return share


def _integers(share: Floats) -> Integers:
    """Masses (tables, G + 2), each at least 1, for shares of magnitudes; the two signs of a magnitude get half each."""
    halved = share.copy()
    halved[:, 1:-1] /= 2
    mass: Integers = np.maximum(1, np.floor(halved * (TOTAL - 2 * share.shape[1]))).astype(np.int64)
    mass[:, 0] += TOTAL - (mass[:, 0] + 2 * mass[:, 1:-1].sum(axis=1) + mass[:, -1])
    return mass


def _entropy(values: npt.NDArray[np.int32]) -> float:
    """Bits per symbol with the best table for these values."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.log2(values.size / counts)).sum() / values.size)
