"""Entropy model 1: earlier channels choose the table of each position of a channel (FORMAT.md, 7: Context coding).

    symbols ── differences ── index ──────────────────────────────────────────┬── coder ── streams
                                └─ magnitude, 3x3 sum ─ predictor ─ class ─ table of the next channels

In: symbols as int32 (n, M, rows, columns). Out: streams of 32-bit words, the number of coded channels, and the escapes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from . import context_compiled, context_numpy
from .context_tables import ContextTables
from .model import DeviceCoder, EntropyModel, Shape, Tensors
from .streams import CodedSymbols, Symbols
from .tables import check_dtype

PARTS: dict[str, npt.DTypeLike] = {
    "order": np.int16, "difference": np.uint8, "radius": np.uint8, "weight": np.int8,
    "threshold": np.int32, "table": np.uint8, "mass": np.int32,
}  # fmt: skip


class ContextModel(EntropyModel[ContextTables]):
    """Chooses a table for each position of each channel from the channels before it."""

    name = "context"
    wire_id = 1
    preference = 1
    remedy = "run caecodec fit-entropy to add them to a copy, or use entropy='static'"

    def parse(self, tensors: Tensors, quality: int, channels: int) -> ContextTables | None:
        """See `EntropyModel.parse`; context tables are optional in weights files."""
        prefix = f"q{quality}.context."
        if f"{prefix}order" not in tensors:
            return None
        for part, dtype in PARTS.items():
            check_dtype(tensors, prefix + part, dtype)
        tables = ContextTables(*(tensors[prefix + part].astype(np.int64) for part in PARTS))
        if len(tables.order) != channels:
            raise WeightsError(
                f"context tables have {len(tables.order)} channels but the latents have {channels}: the file is damaged"
            )
        return tables

    def store(self, tables: ContextTables, quality: int) -> Tensors:
        """See `EntropyModel.store`."""
        return {f"q{quality}.context.{part}": getattr(tables, part).astype(dtype) for part, dtype in PARTS.items()}

    def fit(self, batches: Sequence[npt.NDArray[np.int16]]) -> ContextTables:
        """See `EntropyModel.fit`; a subset is used if there are more crops than the fit needs."""
        from . import context_fit

        crops = sum(map(len, batches))
        return context_fit.fit(np.concatenate(batches[:: -(-crops // context_fit.MOST_CROPS)]))

    def encode(self, symbols: Symbols, tables: ContextTables) -> CodedSymbols:
        """See `EntropyModel.encode`."""
        if context_compiled.available():
            return context_compiled.encode(symbols, tables)
        return context_numpy.encode(symbols, tables)

    def decode(self, coded: CodedSymbols, tables: ContextTables, shape: Shape) -> Symbols:
        """See `EntropyModel.decode`; what is damaged is decoded again, for the error that says what is wrong."""
        symbols = context_compiled.decode(coded, tables, shape) if context_compiled.available() else None
        return context_numpy.decode(coded, tables, shape) if symbols is None else symbols

    def code_length(self, symbols: Symbols, tables: ContextTables) -> float:
        """Ideal length of the symbols in bits: the sum of -log2 p, including all-zero channels and the escape entries."""
        return context_numpy.code_length(symbols, tables)

    def on_device(self) -> DeviceCoder[ContextTables] | None:
        """See `EntropyModel.on_device`."""
        from . import device, device_context  # here, because they import PyTorch

        return device_context.CODER if device.available() else None


MODEL = ContextModel()
