"""Refinements by the compiled extension `_coder` (_coder.c): the bytes of `layered_numpy`, without Python's lock.

It is there if `context_compiled.available`.
"""

import numpy as np

from ..bitstream import varint
from .context_compiled import _coder
from .layered_tables import RefinementTables
from .streams import Symbols


def encode(low: Symbols, high: Symbols, tables: RefinementTables) -> bytes:
    """See `layered_numpy.encode`."""
    images, _, rows, columns = low.shape
    below, above = (np.ascontiguousarray(part, np.int32) for part in (low, high))
    count, words = _coder.encode_layer(below, above, images, rows, columns, *tables.for_compiled_coder)
    return varint.pack(count) + words


def decode(data: bytes, low: Symbols, tables: RefinementTables) -> Symbols | None:
    """See `layered_numpy.decode`; None instead of most errors."""
    images, channels, rows, columns = low.shape
    count, position = varint.unpack(data, 0)
    words = data[position:]
    if count > channels or len(words) % 4 or (words and not any(words[-4:])):
        return None
    below = np.ascontiguousarray(low, np.int32)
    high = np.empty(low.shape, np.int32)
    intact = _coder.decode_layer(words, count, below, high, images, rows, columns, *tables.for_compiled_coder)
    return high if intact else None
