"""Refinements in numpy and constriction (FORMAT.md, 25: Layers); `layered_compiled` is faster.

Of 2^24, index 0 has the mass z, and 1 and 2 have half of the rest each; or, with STEADY_FLAG, index 1 has the rest but 1.
"""

from collections.abc import Iterator

import constriction
import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError
from . import streams
from .context_numpy import Bytes, features, predict
from .context_tables import CLIP, Floats
from .layered_tables import STEADY, STEADY_FLAG, RefinementTables
from .streams import MAX_SYMBOL, Symbols
from .tables import TOTAL

_FAMILY = constriction.stream.model.Categorical(perfect=False)
Masses = npt.NDArray[np.uint32]


def encode(low: Symbols, high: Symbols, tables: RefinementTables) -> bytes:
    """The refinement of symbols (n, M, rows, columns) `low` to `high`: the number of coded channels, and words."""
    below, above = (part.transpose(1, 0, 2, 3)[tables.order] for part in (low, high))
    used = np.flatnonzero(above.any(axis=(1, 2, 3)))
    count = int(used[-1]) + 1 if len(used) else 0
    known, own = features(_index(below)), features(_index(above[:count]))
    flat, small = above.reshape(len(above), -1), below.reshape(len(below), -1)
    index, mass = [np.empty(0, np.uint8)], [np.empty(0, np.uint32)]
    for first, last, predicted in _predictions(tables, count, known, own):
        index.append(_choices(small[first:last], flat[first:last]))
        mass.append(_masses(tables, first, np.abs(small[first:last]), predicted))
    return varint.pack(count) + _pack(np.concatenate(index), np.concatenate(mass))


def decode(data: bytes, low: Symbols, tables: RefinementTables) -> Symbols:
    """Invert `encode`; CorruptionError unless the data hold exactly these symbols."""
    count, position = varint.unpack(data, 0)
    channels = low.shape[1]
    below = low.transpose(1, 0, 2, 3)[tables.order]
    if count > channels or below[count:].any():
        raise CorruptionError(f"payload refines {count} channels of {channels} but more of them are not 0: it is damaged")
    known, own = features(_index(below)), np.empty((2 * count, below[0].size), np.uint8)
    above = np.zeros_like(below)
    flat, small = above.reshape(channels, -1), below.reshape(channels, -1)
    coder = streams.start(data[position:])
    for first, last, predicted in _predictions(tables, count, known, own):
        magnitudes = np.abs(small[first:last])
        index = _unpack(coder, _masses(tables, first, magnitudes, predicted)).reshape(magnitudes.shape)
        steady = magnitudes > 0
        if (index[steady] == 2).any():
            raise CorruptionError("a layer holds a choice that no encoder makes: the payload is damaged")
        fresh = np.where(index == 2, -1, index)
        flat[first:last] = np.where(steady, np.sign(small[first:last]) * (2 * magnitudes + index), fresh)
        own[2 * first : 2 * last] = features(_index(above[first:last]))
    streams.finish(coder)
    if np.abs(above).max(initial=0) > MAX_SYMBOL:
        raise CorruptionError(f"payload holds a symbol beyond +-{MAX_SYMBOL}: it is damaged")
    symbols = np.empty_like(low)
    symbols[:, tables.order] = above.transpose(1, 0, 2, 3)
    return symbols


def _index(symbols: Symbols) -> Bytes:
    """Indices with the magnitudes of these symbols, for `features`."""
    return (2 * np.minimum(np.abs(symbols), CLIP)).astype(np.uint8)


def _predictions(tables: RefinementTables, count: int, known: Bytes, own: Bytes) -> Iterator[tuple[int, int, Floats]]:
    """Group by group, the channels [first, last) of `count` that are coded, and their predictions (channels, P).

    known, own : the features of the layer below and of this one; the latter may be filled in while the groups go by
    """
    width, used = len(known), np.flatnonzero(known.any(axis=1))  # in lower layers most channels are 0 everywhere
    known = known[used]
    for first, end in tables.groups:
        last = min(end, count)
        if first >= last:
            return
        weights = tables.predictor[first:last]
        predicted = predict(weights[:, used], known)
        predicted += predict(weights[:, width : width + 2 * first], own[: 2 * first])
        yield first, last, predicted


def _masses(tables: RefinementTables, first: int, magnitudes: Symbols, predicted: Floats) -> Masses:
    """The mass of index 0 at each position of channels from `first` on, in order; with STEADY_FLAG if it is not 0 below."""
    part = slice(first, first + len(predicted))
    classes = np.zeros(predicted.shape, np.uint8)
    for level in tables.levels[part].T:
        classes += level[:, None] <= predicted
    mass = np.take_along_axis(tables.zero_mass[part], classes.astype(np.intp), axis=1)
    row, position = np.nonzero(magnitudes)
    size = np.minimum(magnitudes[row, position], STEADY) - 1
    mass[row, position] = tables.steady_mass[first + row, size] | STEADY_FLAG
    return mass.reshape(-1)


def _choices(low: Symbols, high: Symbols) -> Bytes:
    """The index of each refinement, in order: 0, 1 or 2 for a symbol 0, 1 or -1; the last bit of others."""
    fresh = np.where(high < 0, 2, high)
    return np.where(low == 0, fresh, np.abs(high) & 1).astype(np.uint8).reshape(-1)


def _pack(index: Bytes, mass: Masses) -> bytes:
    """The little-endian 32-bit words of indices (n,) with masses (n,)."""
    coder = constriction.stream.stack.AnsCoder()
    if len(index):
        coder.encode_reverse(index.astype(np.int32), _FAMILY, _rows(mass))
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return words


def _unpack(coder: constriction.stream.stack.AnsCoder, mass: Masses) -> npt.NDArray[np.int32]:
    """The next indices (n,) of a stream, whose masses (n,) these are."""
    index: npt.NDArray[np.int32] = coder.decode(_FAMILY, _rows(mass))
    return index


def _rows(mass: Masses) -> Floats:
    """Masses (n, 3) less 1, as constriction's Categorical takes them."""
    zero = (mass & ~STEADY_FLAG).astype(np.int64)
    steady = mass >= STEADY_FLAG
    half = (TOTAL - zero) // 2
    one, two = np.where(steady, TOTAL - zero - 2, half - 1), np.where(steady, 0, half - 1)
    return np.stack([zero - 1, one, two], axis=1).astype(np.float32)
