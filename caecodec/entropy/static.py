"""Entropy model 0: one static table a channel, coded by ANS in bands of latent rows (FORMAT.md, 5: Symbols).

In: symbols as int32 (n, M, rows, columns). Out: streams of 32-bit words, and a list of the symbols outside the tables.
"""

from typing import NamedTuple

import constriction
import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError
from .tables import Tables

BAND_SYMBOLS = 32768
MAX_SYMBOL = 2**24
Symbols = npt.NDArray[np.int32]


class Coded(NamedTuple):
    """Coded symbols: the little-endian 32-bit words of each stream, and the escape list."""

    streams: tuple[bytes, ...]
    escapes: bytes


def bands(rows: int, columns: int, channels: int) -> list[tuple[int, int]]:
    """The [start, stop) latent rows of each stream; rows are those of all n images, one below the other."""
    count = min(rows, max(1, rows * columns * channels // BAND_SYMBOLS))
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def encode(symbols: Symbols, tables: Tables) -> Coded:
    """Code symbols (n, M, rows, columns), each within +-2^24."""
    entries, escaped = _entries(symbols, tables)
    last = (tables.length - 1)[:, None, None]
    coded = np.where(escaped, last, entries).astype(np.int32)
    streams, escapes = [], []
    for start, stop in bands(coded.shape[1], coded.shape[2], coded.shape[0]):
        band = coded[:, start:stop].reshape(len(coded), -1)
        coder = constriction.stream.stack.AnsCoder()
        for channel in range(len(band) - 1, -1, -1):
            coder.encode_reverse(band[channel], tables.models[channel])
        streams.append(coder.get_compressed().astype("<u4").tobytes())
        outside = escaped[:, start:stop]
        if outside.any():
            entry = entries[:, start:stop]
            escapes.append(np.where(entry < 0, -2 * entry - 1, 2 * (entry - last))[outside])
    values = np.concatenate(escapes) if escapes else np.zeros(0, np.int64)
    return Coded(tuple(streams), varint.pack_many(values.astype(np.uint32)))


def decode(coded: Coded, tables: Tables, shape: tuple[int, int, int, int]) -> Symbols:
    """The symbols (n, M, rows, columns) of this shape; CorruptionError when the streams do not hold just them."""
    n, channels, height, columns = shape
    layout = bands(n * height, columns, channels)
    if len(layout) != len(coded.streams):
        raise CorruptionError(
            f"payload has {len(coded.streams)} streams but latents of shape {shape} have {len(layout)}: it is damaged"
        )
    entries = np.empty((channels, n * height, columns), np.int32)
    for (start, stop), stream in zip(layout, coded.streams, strict=True):
        words = np.frombuffer(stream, "<u4").astype(np.uint32)
        if len(words) and words[-1] == 0:
            raise CorruptionError("a stream ends in a zero word, which no encoder writes: the payload is damaged")
        coder = constriction.stream.stack.AnsCoder(words)
        size = (stop - start) * columns
        for channel in range(channels):
            entries[channel, start:stop] = coder.decode(tables.models[channel], size).reshape(-1, columns)
        if not coder.is_empty():
            raise CorruptionError("a stream holds more than its symbols: the payload is damaged, or of other weights")
    escaped = entries == (tables.length - 1)[:, None, None]
    distance = varint.unpack_many(coded.escapes, int(np.count_nonzero(escaped))).astype(np.int64)
    if len(distance):
        entries = _unescape(entries, escaped, distance, tables, layout)
    symbols = entries + tables.offset.astype(np.int32)[:, None, None]
    return np.ascontiguousarray(symbols.reshape(channels, n, height, columns).transpose(1, 0, 2, 3))


def code_length(symbols: Symbols, tables: Tables) -> float:
    """Ideal length of the coded symbols in bits: the sum of -log2 p, the escape list not counted."""
    entries, escaped = _entries(symbols, tables)
    entries = np.where(escaped, (tables.length - 1)[:, None, None], entries)
    return float(sum(bits[entry].sum() for bits, entry in zip(tables.bits, entries, strict=True)))


def _entries(symbols: Symbols, tables: Tables) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Symbols relative to their tables, (M, n * rows, columns), and which of them lie outside."""
    n, channels, height, columns = symbols.shape
    rows = symbols.transpose(1, 0, 2, 3).reshape(channels, n * height, columns)
    entries = rows - tables.offset[:, None, None]
    return entries, (entries < 0) | (entries >= (tables.length - 1)[:, None, None])


def _unescape(
    entries: npt.NDArray[np.int32],
    escaped: npt.NDArray[np.bool_],
    distance: npt.NDArray[np.int64],
    tables: Tables,
    layout: list[tuple[int, int]],
) -> npt.NDArray[np.int32]:
    """Entries with each escape replaced, in the order of decoding, by the entry that its distance stands for."""
    if distance.max() > 2 * MAX_SYMBOL:
        raise CorruptionError(f"escape list holds a symbol beyond +-{MAX_SYMBOL}: the payload is damaged")
    used = 0
    for start, stop in layout:
        band, outside = entries[:, start:stop], escaped[:, start:stop]
        last = np.broadcast_to((tables.length - 1)[:, None, None], band.shape)[outside]
        part = distance[used : used + len(last)]
        band[outside] = np.where(part & 1, -(part + 1) // 2, last + part // 2)
        used += len(last)
    return entries
