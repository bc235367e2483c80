"""Entropy model 2: bits around a bit that are decoded already choose its probability (FORMAT.md, 24: Bits in context).

    symbols ── bits ── taps ── weighted sum ── class ── mass of a 1 ── coder ── stream
          └── symbols that are no pair of bits ── escapes

In: symbols as int32 (n, M, rows, columns), of a network whose latents are bits. Out: one stream of 32-bit words, and escapes.
"""

from collections.abc import Sequence

import constriction
import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError, WeightsError
from . import streams
from .binary_context_tables import CHANNEL_STEP, CLASS_WIDTH, REACH, ROW_STEP, SIDE, BinaryContextTables
from .model import EntropyModel, Shape, Tensors
from .streams import MAX_SYMBOL, CodedSymbols, Integers, Symbols
from .tables import check_dtype

PARTS: dict[str, npt.DTypeLike] = {
    "coded": np.uint8, "channel": np.int16, "place": np.uint8, "weight": np.int16, "bias": np.int32, "mass": np.int32,
}  # fmt: skip
_FAMILY = constriction.stream.model.Categorical(perfect=False)
Bits = npt.NDArray[np.int8]


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
        walk = _Walk(unpack_pairs(np.where(fine, symbols, 1)[:, used].astype(np.int8)), tables)
        coder = constriction.stream.stack.AnsCoder()
        for step in reversed(range(walk.steps)):
            places, rows = walk.at(step)
            coder.encode_reverse((walk.bits[places] > 0).astype(np.int32), _FAMILY, rows)
        return CodedSymbols((coder.get_compressed().astype("<u4").tobytes(),), _pack_escapes(symbols, ~fine))

    def decode(self, coded: CodedSymbols, tables: BinaryContextTables, shape: Shape) -> Symbols:
        """See `EntropyModel.decode`."""
        n, _, height, columns = shape
        if len(coded.streams) != 1:
            raise CorruptionError(f"payload has {len(coded.streams)} streams but bits have 1: it is damaged")
        coder = streams.start(coded.streams[0])
        walk = _Walk(np.zeros((n, len(tables.bias), height, columns), np.int8), tables)
        for step in range(walk.steps):
            places, rows = walk.at(step)
            walk.bits[places] = 2 * coder.decode(_FAMILY, rows) - 1
        streams.finish(coder)
        symbols = np.zeros(shape, np.int32)
        symbols[:, tables.coded > 0] = pack_pairs(walk.inside())
        _unpack_escapes(coded.escapes, symbols)
        return symbols


MODEL = BinaryContextModel()


def unpack_pairs(symbols: Bits) -> Bits:
    """Symbols (n, A, rows, columns), each -2, -1, 1 or 2 -> bits (n, 2 A, rows, columns), each -1 or 1."""
    n, channels, height, columns = symbols.shape
    first = np.sign(symbols)
    bits: Bits = np.stack((first, 2 * symbols - 3 * first), axis=2).reshape(n, 2 * channels, height, columns)
    return bits


def pack_pairs(bits: Bits) -> Bits:
    """Invert `unpack_pairs`."""
    symbols: Bits = (3 * bits[:, 0::2] + bits[:, 1::2]) // 2
    return symbols


class _Walk:
    """The bits of n images in the order of decoding: in steps, whose bits do not depend on each other.

    bits : (n C (rows + 4) (columns + 4),) int8, the bits within a margin of zeros, which stand for what is not known
    steps : the number of steps
    """

    def __init__(self, bits: Bits, tables: BinaryContextTables) -> None:
        self._images, self._channels, rows, columns = bits.shape
        margin = ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH))
        padded = np.pad(bits, margin)
        width = columns + 2 * REACH
        self.bits, self._shape, self._plane = padded.reshape(-1), padded.shape, padded[0, 0].size
        self._tables = tables
        before = tables.channel - np.arange(self._channels)[:, None]
        self._offsets = before * self._plane + (tables.place // SIDE - REACH) * width + tables.place % SIDE - REACH
        row, column = np.divmod(np.arange(rows * columns), columns)
        order = np.argsort(ROW_STEP * row + column, kind="stable")
        self._places = ((row + REACH) * width + column + REACH)[order]
        self._last = ROW_STEP * (rows - 1) + columns - 1
        self._starts = np.searchsorted((ROW_STEP * row + column)[order], np.arange(self._last + 2))
        self.steps = self._last + CHANNEL_STEP * (self._channels - 1) + 1

    def at(self, step: int) -> tuple[Integers, npt.NDArray[np.float32]]:
        """Where the bits of a step are in `bits`, and the table (P, 2) of each, given all bits of the steps before."""
        first = max(0, -((self._last - step) // CHANNEL_STEP))
        channels = np.arange(first, min(self._channels - 1, step // CHANNEL_STEP) + 1)
        starts = self._starts[step - CHANNEL_STEP * channels]
        counts = self._starts[step - CHANNEL_STEP * channels + 1] - starts
        channel = channels.repeat(counts)
        places = self._places[np.arange(len(channel)) + (starts - np.cumsum(counts) + counts).repeat(counts)]
        places = places + channel * self._plane
        if self._images > 1:
            places = np.add.outer(places, np.arange(self._images) * (self._channels * self._plane)).reshape(-1)
            channel = channel.repeat(self._images)
        known = self.bits.take(places[:, None] + self._offsets.take(channel, axis=0))
        sums = self._tables.bias.take(channel) + np.einsum("pj,pj->p", self._tables.taps.take(channel, axis=0), known)
        return places, self._tables.rows[channel, classes(sums, self._tables.mass.shape[1])]

    def inside(self) -> Bits:
        """The bits (n, C, rows, columns)."""
        inside: Bits = self.bits.reshape(self._shape)[:, :, REACH:-REACH, REACH:-REACH]
        return inside


def classes(sums: Integers, number: int) -> Integers:
    """The class of each sum (P,), 0 to number - 1."""
    found: Integers = np.clip((sums >> CLASS_WIDTH) + number // 2, 0, number - 1)
    return found


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
