"""Context coding by the compiled extension `_coder` (_coder.c): the bytes of `context_numpy`, without Python's lock.

A wheel for this platform has the extension; an installation from source has it if there was a C compiler.
"""

import warnings
from functools import cache

import numpy as np

from ..bitstream import varint
from ..errors import CorruptionError
from . import streams
from .context_tables import ContextTables, coded_channels
from .model import Shape
from .streams import CodedSymbols, Integers, StreamLayout, Symbols

try:
    from . import _coder as _coder  # binary_context_compiled uses it too
except ImportError:
    _coder = None  # type: ignore[assignment]  # a module, or None where no C compiler built it

MISSING = (
    "caecodec was installed without its compiled coder, because there was no C compiler; context coding runs in numpy, several "
    "times slower: install a C compiler and then caecodec again (pip install --force-reinstall --no-deps)"
)


@cache
def available() -> bool:
    """Whether the extension is installed; says so once if it is not."""
    if _coder is None:
        warnings.warn(MISSING, stacklevel=2)
    return _coder is not None


def encode(symbols: Symbols, tables: ContextTables) -> CodedSymbols:
    """See `EntropyModel.encode`."""
    n, channels, height, columns = symbols.shape
    bounds = _bounds(streams.bands(n * height, columns, channels), columns)
    words, count, escapes = _coder.encode(
        np.ascontiguousarray(symbols, np.int32), bounds, n, height, columns, *tables.for_compiled_coder
    )
    listed = varint.pack_many(np.frombuffer(escapes, np.uint32)) if escapes else b""
    return CodedSymbols(words, varint.pack(count) + listed)


def decode(coded: CodedSymbols, tables: ContextTables, shape: Shape) -> Symbols | None:
    """See `EntropyModel.decode`; None instead of most errors."""
    n, channels, height, columns = shape
    bounds = _bounds(streams.layout(coded, shape), columns)
    count, position = coded_channels(coded, channels)
    for stream in coded.streams:
        streams.check_words(stream)
    listed = np.frombuffer(coded.escapes, np.uint8, offset=position)
    try:
        escapes = varint.unpack_many(listed.data, int(np.count_nonzero(listed < 0x80)))
    except CorruptionError:
        return None
    ends = np.cumsum([len(stream) for stream in coded.streams], dtype=np.int64)
    symbols = np.empty(shape, np.int32)
    intact = _coder.decode(
        b"".join(coded.streams), ends, escapes, count, symbols, bounds, n, height, columns, *tables.for_compiled_coder
    )
    return symbols if intact else None


def _bounds(layout: StreamLayout, columns: int) -> Integers:
    """The first position of each stream, and the end of the last."""
    return np.array([0, *(stop * columns for _, stop in layout)], np.int64)
