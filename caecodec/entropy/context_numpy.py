"""Context coding in numpy and constriction (FORMAT.md, 7: Context coding); `context_compiled` is faster.

All bands advance together, one channel at a time, because a 3x3 sum reaches into the bands above and below.
"""

from collections.abc import Iterator
from functools import lru_cache

import constriction
import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError
from . import streams
from .context_tables import LEFT, MAGNITUDES, UP, VALUES, ContextTables, Floats, coded_channels
from .model import Shape
from .streams import MAX_SYMBOL, CodedSymbols, Symbols

Bytes = npt.NDArray[np.uint8]
_FAMILY = constriction.stream.model.Categorical(perfect=False)
_BLOCK = 16  # channels whose predictions from all channels before the block are one matrix product
_PRODUCT = 2**18  # OpenBLAS starts no threads for up to this many multiplications; on a busy machine threads cost waiting
_VALUES_AT_ONCE = 2**22  # values of a large chunk processed at once, to limit temporary copies
_MATRIX_SIDE = 64  # for images up to this size, 3x3 sums are faster as two matrix products


def encode(symbols: Symbols, tables: ContextTables) -> CodedSymbols:
    """See `EntropyModel.encode`."""
    values, index = _index(symbols, tables)
    channels, n, height, columns = index.shape
    used = np.flatnonzero(index.any(axis=(1, 2, 3)))
    count = int(used[-1]) + 1 if len(used) else 0
    classes = _classes(index[:count], tables)
    coded = index.reshape(channels, n * height, columns)
    layout = streams.bands(n * height, columns, channels)
    words = []
    for start, stop in layout:
        coder = constriction.stream.stack.AnsCoder()
        positions = slice(start * columns, stop * columns)
        for channel in range(count - 1, -1, -1):
            rows = tables.rows[channel].take(classes[channel, positions], axis=0)
            coder.encode_reverse(coded[channel, start:stop].reshape(-1).astype(np.int32), _FAMILY, rows)
        words.append(coder.get_compressed().astype("<u4").tobytes())
    escapes = streams.pack_escapes(
        values.reshape(coded.shape), coded == tables.escape, -tables.radius, tables.radius + 1, layout
    )
    return CodedSymbols(tuple(words), varint.pack(count) + escapes)


def decode(coded: CodedSymbols, tables: ContextTables, shape: Shape) -> Symbols:
    """See `EntropyModel.decode`."""
    n, channels, height, columns = shape
    layout = streams.layout(coded, shape)
    count, position = coded_channels(coded, channels)
    coders = [streams.start(stream) for stream in coded.streams]
    jobs = [(coder, start * columns, stop * columns) for coder, (start, stop) in zip(coders, layout, strict=True)]
    index = np.zeros((channels, n, height, columns), np.uint8)
    _decode_index(jobs, index[:count], tables)
    for coder in coders:
        streams.finish(coder)
    banded = index.reshape(channels, n * height, columns)
    values = VALUES[banded]
    streams.unpack_escapes(
        coded.escapes[position:], values, banded == tables.escape, -tables.radius, tables.radius + 1, layout, 2 * MAX_SYMBOL
    )
    values = values.reshape(index.shape)
    for channel in np.flatnonzero(tables.difference):
        sums = integrate(values[channel], int(tables.difference[channel]))
        _check_range(sums)
        values[channel] = sums
    _check_range(values)
    symbols = np.empty(shape, np.int32)
    symbols[:, tables.order] = values.transpose(1, 0, 2, 3)
    return symbols


def code_length(symbols: Symbols, tables: ContextTables) -> float:
    """See `ContextModel.code_length`."""
    _, index = _index(symbols, tables)
    classes = _classes(index, tables)
    return float(sum(bits[k, i.reshape(-1)].sum() for bits, k, i in zip(tables.bits, classes, index, strict=True)))


def difference(values: npt.NDArray[np.int32], kind: int) -> npt.NDArray[np.int32]:
    """Images (..., rows, columns) minus their left (LEFT) or upper (UP) neighbours; the margin minus the other neighbours."""
    if kind == UP:
        return difference(values.swapaxes(-1, -2), LEFT).swapaxes(-1, -2)
    out = values.copy()
    if kind == LEFT:
        out[..., 1:] -= values[..., :-1]
        out[..., 1:, 0] -= values[..., :-1, 0]
    return out


def integrate(values: npt.NDArray[np.int32], kind: int) -> npt.NDArray[np.int64]:
    """Invert `difference`: sum down the margin, then across."""
    if kind == UP:
        return integrate(values.swapaxes(-1, -2), LEFT).swapaxes(-1, -2)
    out = values.astype(np.int64)
    if kind == LEFT:
        out[..., 0] = out[..., 0].cumsum(axis=-1)
        out = out.cumsum(axis=-1)
    return out


def box(magnitudes: Floats) -> Floats:
    """3x3 sums of images (..., rows, columns) of small integers; rows and columns at the edges count twice."""
    height, width = magnitudes.shape[-2:]
    if max(height, width) <= _MATRIX_SIDE:
        sums: Floats = np.matmul(np.matmul(_neighbours(height), magnitudes), _neighbours(width))
        return sums
    padded: Floats = np.pad(magnitudes, [(0, 0)] * (magnitudes.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    across: Floats = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]


def features(index: Bytes) -> Bytes:
    """Interleaved magnitude and 3x3 sum of each channel: indices (channels, n, rows, columns) -> (2 channels, P)."""
    out = np.empty((2 * len(index), index[0].size if len(index) else 0), np.uint8)
    for first in range(0, len(index), _BLOCK):
        magnitudes = MAGNITUDES[index[first : first + _BLOCK]]
        last = first + len(magnitudes)
        out[2 * first : 2 * last : 2] = magnitudes.reshape(len(magnitudes), -1)
        out[2 * first + 1 : 2 * last : 2] = box(magnitudes).reshape(len(magnitudes), -1)
    return out


def predict(weights: Floats, known: Bytes) -> Floats:
    """Products of weights (c, k) and features (k, P), in small tiles so that few features are held as floats at once."""
    out = np.empty((len(weights), known.shape[1]), np.float32)
    tile = max(1, _PRODUCT // max(1, weights.size))
    for start in range(0, known.shape[1], tile):
        out[:, start : start + tile] = weights @ known[:, start : start + tile].astype(np.float32)
    return out


def predictions(weights: Floats, known: Bytes) -> Iterator[Floats]:
    """The predictions (P,) of all channels, given weights (M, 2 M) and features (2 M, P)."""
    for first in range(0, len(weights), _BLOCK):
        last = min(first + _BLOCK, len(weights))
        yield from predict(weights[first:last, : 2 * last], known[: 2 * last])


def reached(levels: Floats, predicted: Floats) -> Bytes:
    """How many of the levels (K - 1,) each prediction (P,) reaches; faster than a search, whose branches mispredict."""
    number: Bytes = np.add.reduce((levels[:, None] <= predicted).view(np.uint8), axis=0, dtype=np.uint8)
    return number


def _index(symbols: Symbols, tables: ContextTables) -> tuple[npt.NDArray[np.int32], Bytes]:
    """The values to code (M, n, rows, columns) in coding order, as differences in channels that use them, and their indices."""
    values = symbols.transpose(1, 0, 2, 3)[tables.order]
    index = np.empty(values.shape, np.uint8)
    step = max(1, _VALUES_AT_ONCE // values[0].size)
    for first in range(0, len(values), step):
        part = slice(first, first + step)
        for channel in first + np.flatnonzero(tables.difference[part]):
            values[channel] = difference(values[channel], int(tables.difference[channel]))
        magnitudes = np.abs(values[part])
        escape, radius = tables.escape[part, ..., None], tables.radius[part, None, None, None]
        index[part] = np.where(magnitudes > radius, escape, 2 * magnitudes - (values[part] > 0))
    return values, index


def _classes(index: Bytes, tables: ContextTables) -> Bytes:
    """The class of each index: (channels, n, rows, columns) -> (channels, P)."""
    known = features(index)
    classes = np.empty((len(index), known.shape[1]), np.uint8)
    for channel, prediction in enumerate(predictions(tables.predictor[: len(index)], known)):
        classes[channel] = reached(tables.levels[channel], prediction)
    return classes


def _decode_index(jobs: list[tuple[constriction.stream.stack.AnsCoder, int, int]], index: Bytes, tables: ContextTables) -> None:
    """Fill index (channels, n, rows, columns); each job is the coder of a band and its positions [start, stop)."""
    size = index[0].size if len(index) else 0
    known = np.empty((2 * len(index), size), np.uint8)
    for first in range(0, len(index), _BLOCK):
        last = min(first + _BLOCK, len(index))
        predicted = predict(tables.predictor[first:last, : 2 * first], known[: 2 * first])
        block = np.empty((2 * (last - first), size), np.float32)
        for channel in range(first, last):
            done = 2 * (channel - first)
            prediction = predicted[channel - first]
            prediction += tables.predictor[channel, 2 * first : 2 * channel] @ block[:done]
            classes = reached(tables.levels[channel], prediction)
            flat = index[channel].reshape(-1)
            for coder, start, stop in jobs:
                flat[start:stop] = coder.decode(_FAMILY, tables.rows[channel].take(classes[start:stop], axis=0))
            magnitudes = MAGNITUDES[index[channel]]
            block[done] = magnitudes.reshape(-1)
            block[done + 1] = box(magnitudes).reshape(-1)
        known[2 * first : 2 * last] = block


def _check_range(symbols: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> None:
    """Raise CorruptionError if a symbol is out of the encoder's range."""
    if symbols.min() < -MAX_SYMBOL or symbols.max() > MAX_SYMBOL:
        raise CorruptionError(f"payload holds a symbol beyond +-{MAX_SYMBOL}: it is damaged")


@lru_cache
def _neighbours(size: int) -> Floats:
    """The tridiagonal matrix of ones, with 2 in its corners, that sums neighbours along an axis."""
    matrix: Floats = np.eye(size, dtype=np.float32)
    matrix += np.eye(size, k=1, dtype=np.float32) + np.eye(size, k=-1, dtype=np.float32)
    matrix[0, 0] += 1
    matrix[-1, -1] += 1
    return matrix
