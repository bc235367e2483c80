"""Bits in context by the compiled extension `_coder` (_coder.c): the bytes of `binary_context_numpy`, without Python's lock.

It is there if `context_compiled.available`.
"""

from typing import Any

import numpy as np

from .binary_context_tables import BinaryContextTables, Bits, streams_of, with_margin, without_margin
from .context_compiled import _coder
from .model import Shape


def encode(bits: Bits, tables: BinaryContextTables) -> tuple[bytes, ...]:
    """See `binary_context_numpy.encode`."""
    n, _, rows, columns = bits.shape
    count = streams_of(bits.shape)
    return _coder.encode_bits(count, with_margin(bits), n, rows, columns, *arrays(tables, rows, columns))


def decode(coded: tuple[bytes, ...], tables: BinaryContextTables, shape: Shape) -> Bits | None:
    """See `binary_context_numpy.decode`; None instead of an error."""
    n, _, rows, columns = shape
    planes = with_margin(np.zeros(shape, np.int8))
    ends = np.cumsum([len(stream) for stream in coded], dtype=np.int64)
    intact = _coder.decode_bits(b"".join(coded), ends, planes, n, rows, columns, *arrays(tables, rows, columns))
    return without_margin(planes) if intact else None


def arrays(tables: BinaryContextTables, rows: int, columns: int) -> tuple[Any, ...]:
    """What _coder.c calls offset, weight, bias and mass."""
    return tables.offsets(rows, columns), tables.taps, tables.bias.astype(np.int32), tables.mass.astype(np.uint32)
