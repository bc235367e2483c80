"""Entropy model 0: one static table per channel, coded by ANS in bands of latent rows (FORMAT.md, 5: Symbols).

In: symbols as int32 (n, M, rows, columns). Out: streams of 32-bit words, and a list of the symbols outside the tables.
"""

from collections.abc import Sequence

import constriction
import numpy as np
import numpy.typing as npt

from . import layered_tables, streams
from .model import DeviceCoder, EntropyModel, Shape, Tensors
from .streams import CodedSymbols, Integers, Symbols
from .tables import Tables, check_dtype

PARTS = ("mass", "length", "offset")


class StaticModel(EntropyModel[Tables]):
    """Uses one table for each channel."""

    name = "static"
    wire_id = 0
    preference = 0

    def parse(self, tensors: Tensors, quality: int, channels: int) -> Tables | None:
        """See `EntropyModel.parse`; only weights files with layers have no static tables."""
        if layered_tables.layers_of(tensors):
            return None
        prefix = f"q{quality}.static."
        for part in PARTS:
            check_dtype(tensors, prefix + part, np.int32)
        length = tensors[f"{prefix}length"]
        if length.shape != (channels,):
            raise ValueError(f"{prefix}length has shape {length.shape} but must have ({channels},)")
        return Tables(*(tensors[prefix + part].astype(np.int64) for part in PARTS))

    def store(self, tables: Tables, quality: int) -> Tensors:
        """See `EntropyModel.store`."""
        return {f"q{quality}.static.{part}": getattr(tables, part).astype(np.int32) for part in PARTS}

    def fit(self, batches: Sequence[npt.NDArray[np.int16]]) -> Tables:
        """See `EntropyModel.fit`."""
        from . import static_fit

        return static_fit.fit(batches)

    def encode(self, symbols: Symbols, tables: Tables) -> CodedSymbols:
        """See `EntropyModel.encode`."""
        entries, escaped = _entries(symbols, tables)
        last = tables.length - 1
        coded = np.where(escaped, last[:, None, None], entries).astype(np.int32)
        layout = streams.bands(coded.shape[1], coded.shape[2], coded.shape[0])
        words = []
        for start, stop in layout:
            band = coded[:, start:stop].reshape(len(coded), -1)
            coder = constriction.stream.stack.AnsCoder()
            for channel in range(len(band) - 1, -1, -1):
                coder.encode_reverse(band[channel], tables.models[channel])
            words.append(coder.get_compressed().astype("<u4").tobytes())
        return CodedSymbols(tuple(words), streams.pack_escapes(entries, escaped, np.zeros_like(last), last, layout))

    def decode(self, coded: CodedSymbols, tables: Tables, shape: Shape) -> Symbols:
        """See `EntropyModel.decode`."""
        n, channels, height, columns = shape
        layout = streams.layout(coded, shape)
        entries = np.empty((channels, n * height, columns), np.int32)
        for (start, stop), stream in zip(layout, coded.streams, strict=True):
            coder = streams.start(stream)
            size = (stop - start) * columns
            for channel in range(channels):
                entries[channel, start:stop] = coder.decode(tables.models[channel], size).reshape(-1, columns)
            streams.finish(coder)
        last = tables.length - 1
        escaped = entries == last[:, None, None]
        streams.unpack_escapes(coded.escapes, entries, escaped, np.zeros_like(last), last, layout)
        symbols = entries + tables.offset.astype(np.int32)[:, None, None]
        return np.ascontiguousarray(symbols.reshape(channels, n, height, columns).transpose(1, 0, 2, 3))

    def code_length(self, symbols: Symbols, tables: Tables) -> float:
        """Ideal length of the symbols in bits: the sum of -log2 p, without the escape list."""
        entries, escaped = _entries(symbols, tables)
        entries = np.where(escaped, (tables.length - 1)[:, None, None], entries)
        return float(sum(bits[entry].sum() for bits, entry in zip(tables.bits, entries, strict=True)))

    def on_device(self) -> DeviceCoder[Tables] | None:
        """See `EntropyModel.on_device`."""
        from . import device, device_static  # here, because they import PyTorch

        return device_static.CODER if device.available() else None


MODEL = StaticModel()


def _entries(symbols: Symbols, tables: Tables) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Table entries (M, n * rows, columns) of the symbols, and which symbols lie outside their tables."""
    n, channels, height, columns = symbols.shape
    rows = symbols.transpose(1, 0, 2, 3).reshape(channels, n * height, columns)
    entries = rows - tables.offset[:, None, None]
    return entries, (entries < 0) | (entries >= (tables.length - 1)[:, None, None])
