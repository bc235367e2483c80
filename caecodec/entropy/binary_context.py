"""Entropy model 2: bits around a bit that are decoded already choose its probability (FORMAT.md, 24: Bits in context).

    symbols ── bits ── taps ── weighted sum ── class ── mass of a 1 ── coder ── streams
          └── symbols that are no pair of bits ── escapes

In: symbols as int32 (n, M, rows, columns), of a network whose latents are bits. Out: streams of 32-bit words, and escapes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError, WeightsError
from . import binary_context_compiled, binary_context_numpy, context_compiled, streams
from .binary_context_tables import BinaryContextTables, pack_pairs, streams_of, unpack_pairs
from .model import EntropyModel, Shape, Tensors
from .streams import MAX_SYMBOL, CodedSymbols, Symbols
from .tables import check_dtype

PARTS: dict[str, npt.DTypeLike] = {
    "coded": np.uint8, "channel": np.int16, "place": np.uint8, "weight": np.int16, "bias": np.int32, "mass": np.int32,
}  # fmt: skip


class BinaryContextModel(EntropyModel[BinaryContextTables]):
    """Codes the two bits of each symbol by what is known around them, in their own channel and in those before."""

    name = "binary-context"
    wire_id = 2
    preference = 2
    remedy = "if they are of the family binary, run caecodec fit-entropy to add them to a copy; otherwise use another model"

    def parse(self, tensors: Tensors, quality: int, channels: int) -> BinaryContextTables | None:
        """See `EntropyModel.parse`; only networks whose latents are bits have these tables."""
        prefix = f"q{quality}.{self.name}."
        if f"{prefix}coded" not in tensors:
            return None
        for part, dtype in PARTS.items():
            check_dtype(tensors, prefix + part, dtype)
        tables = BinaryContextTables(*(tensors[prefix + part].astype(np.int64) for part in PARTS))
        if len(tables.coded) != channels:
            raise WeightsError(
                f"binary-context tables have {len(tables.coded)} channels but the latents have {channels}: the file is damaged"
            )
        return tables

    def store(self, tables: BinaryContextTables, quality: int) -> Tensors:
        """See `EntropyModel.store`."""
        return {f"q{quality}.{self.name}.{part}": getattr(tables, part).astype(dtype) for part, dtype in PARTS.items()}

    def fit(self, batches: Sequence[npt.NDArray[np.int16]]) -> BinaryContextTables | None:
        """See `EntropyModel.fit`; None unless all symbols of each channel are pairs of bits, or all are 0."""
        from . import binary_context_fit

        return binary_context_fit.fit(batches)

    def encode(self, symbols: Symbols, tables: BinaryContextTables) -> CodedSymbols:
        """See `EntropyModel.encode`."""
        used = tables.coded > 0
        fine = np.where(used[:, None, None], (symbols != 0) & (np.abs(symbols) <= 2), symbols == 0)
        bits = unpack_pairs(np.where(fine, symbols, 1)[:, used].astype(np.int8))
        coder = binary_context_compiled if context_compiled.available() else binary_context_numpy
        return CodedSymbols(coder.encode(bits, tables), _pack_escapes(symbols, ~fine))

    def decode(self, coded: CodedSymbols, tables: BinaryContextTables, shape: Shape) -> Symbols:
        """See `EntropyModel.decode`; what is damaged is decoded again, for the error that says what is wrong."""
        n, _, height, columns = shape
        size = (n, len(tables.bias), height, columns)
        if len(coded.streams) != streams_of(size):
            raise CorruptionError(
                f"payload has {len(coded.streams)} streams but bits of shape {size} need {streams_of(size)}: it is damaged"
            )
        for stream in coded.streams:
            streams.check_words(stream)
        bits = binary_context_compiled.decode(coded.streams, tables, size) if context_compiled.available() else None
        if bits is None:
            bits = binary_context_numpy.decode(coded.streams, tables, size)
        symbols = np.zeros(shape, np.int32)
        symbols[:, tables.coded > 0] = pack_pairs(bits)
        _unpack_escapes(coded.escapes, symbols)
        return symbols


MODEL = BinaryContextModel()


def _pack_escapes(symbols: Symbols, escaped: npt.NDArray[np.bool_]) -> bytes:
    """Two integers for each escaped symbol: how many symbols lie between it and the one before, and its value."""
    places = np.flatnonzero(escaped)
    values = symbols.reshape(-1)[places].astype(np.int64)
    gaps = np.diff(places, prepend=-1) - 1
    return varint.pack_many(
        np.stack((gaps, np.where(values < 0, -2 * values - 1, 2 * values)), 1).reshape(-1).astype(np.uint32)
    )


def _unpack_escapes(data: bytes, symbols: Symbols) -> None:
    """Write the escaped symbols of a list, in place; CorruptionError if it is none or reaches beyond the symbols."""
    numbers = varint.unpack_many(data, int(np.count_nonzero(np.frombuffer(data, np.uint8) < 0x80))).astype(np.int64)
    gaps, values = numbers[0::2], numbers[1::2]
    places = np.cumsum(gaps + 1) - 1
    if len(gaps) != len(values) or (len(places) and places[-1] >= symbols.size) or (values > 2 * MAX_SYMBOL).any():
        raise CorruptionError("escape list holds half an entry, or a symbol out of range: the payload is damaged")
    symbols.reshape(-1)[places] = np.where(values % 2 == 1, -(values + 1) // 2, values // 2)
