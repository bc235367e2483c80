"""Layered coding: the base layer by context coding, then the refinement of each further layer (FORMAT.md, 25: Layers).

    symbols s ── |s| >> L-1 ── ContextModel ──▶ streams, escapes of layer 1
              ├─ |s| >> L-2, given layer 1 ───▶ a stream for layer 2            and so on, to s itself in layer L
              └─ ...

A refinement codes one bit of each magnitude: whether a symbol stays 0, and its sign if not; or, if it is not 0 already, in
which half of its interval it is. In: symbols as int32 (n, M, rows, columns). Out: the streams of layer 1, one stream for each
further layer, and the escapes of layer 1.

Weights files have these tables instead of those of other entropy models; their qualities are the layers, 1 to L.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError, WeightsError
from . import context, context_compiled, layered_compiled, layered_numpy
from .layered_tables import LayeredTables, RefinementTables, layers_of
from .model import EntropyModel, Shape, Tensors
from .streams import MAX_SYMBOL, CodedSymbols, Symbols
from .tables import check_dtype

PARTS: dict[str, npt.DTypeLike] = {
    "order": np.int16, "group": np.int16, "below": np.int16, "before": np.int16,
    "threshold": np.int32, "zero": np.uint8, "steady": np.uint8, "mass": np.int32,
}  # fmt: skip


class LayeredModel(EntropyModel[LayeredTables]):
    """Codes all layers, or decodes the first ones, of symbols that are quantised by halves."""

    name = "layers"
    remedy = "run caecodec fit-layers to make weights of layers, or leave weights out"

    def parse(self, tensors: Tensors, quality: int, channels: int) -> LayeredTables | None:
        """See `EntropyModel.parse`: the tables of this layer and of those below; None if the file has no layers."""
        count = layers_of(tensors)
        if not count:
            return None
        base = context.MODEL.parse(_renamed(tensors, "q1.layers.", "q1.context."), 1, channels)
        assert base is not None
        refinements = []
        for layer in range(2, quality + 1):
            prefix = f"q{layer}.layers."
            for part, dtype in PARTS.items():
                check_dtype(tensors, prefix + part, dtype)
            refinements.append(RefinementTables(*(tensors[prefix + part].astype(np.int64) for part in PARTS)))
            if len(refinements[-1].order) != channels:
                raise WeightsError(
                    f"tables of layer {layer} have {len(refinements[-1].order)} channels but the latents have {channels}: "
                    "the file is damaged"
                )
        return LayeredTables(base, tuple(refinements), count - quality)

    def store(self, tables: LayeredTables, quality: int) -> Tensors:
        """The tensors of layer `quality` alone."""
        if quality == 1:
            return _renamed(context.MODEL.store(tables.base, 1), "q1.context.", "q1.layers.")
        parts = tables.refinements[quality - 2]
        return {f"q{quality}.layers.{part}": getattr(parts, part).astype(dtype) for part, dtype in PARTS.items()}

    def fit(self, batches: Sequence[npt.NDArray[np.int16]], layers: int = 4) -> LayeredTables:
        """Tables of this number of layers, for the symbols of the last one in batches (n, M, rows, columns)."""
        from . import layered_fit

        return layered_fit.fit(np.concatenate(batches), layers)

    def encode(self, symbols: Symbols, tables: LayeredTables) -> CodedSymbols:
        """All layers of the symbols of the last one; WeightsError for tables of a lower one."""
        if tables.above:
            every = tables.layers + tables.above
            raise WeightsError(f"weights have tables of {every} layers but {tables.layers} qualities: the file is damaged")
        low = quantised(symbols, tables.layers - 1)
        base = context.MODEL.encode(low, tables.base)
        coder = layered_compiled if context_compiled.available() else layered_numpy
        words = []
        for number, part in enumerate(tables.refinements):
            high = quantised(symbols, tables.layers - 2 - number)
            words.append(coder.encode(low, high, part))
            low = high
        return CodedSymbols((*base.streams, *words), base.escapes)

    def decode(self, coded: CodedSymbols, tables: LayeredTables, shape: Shape) -> Symbols:
        """The middles (n, M, rows, columns) of the symbols' intervals, doubled, from as many layers as there are tables.

        A layer that is damaged is decoded again, for the error that says what is wrong.
        """
        split = len(coded.streams) - len(tables.refinements)
        symbols = context.MODEL.decode(CodedSymbols(coded.streams[: max(0, split)], coded.escapes), tables.base, shape)
        for words, part in zip(coded.streams[max(0, split) :], tables.refinements, strict=True):
            refined = layered_compiled.decode(words, symbols, part) if context_compiled.available() else None
            symbols = layered_numpy.decode(words, symbols, part) if refined is None else refined
        if np.abs(symbols).max(initial=0) > MAX_SYMBOL >> tables.above:
            raise CorruptionError(
                f"payload holds a symbol of layer {tables.layers} beyond +-{MAX_SYMBOL >> tables.above}: it is damaged"
            )
        return middles(symbols, tables.above)


MODEL = LayeredModel()


def quantised(symbols: Symbols, shift: int) -> Symbols:
    """Symbols of a lower layer: magnitudes are halved `shift` times and rounded down."""
    halved: Symbols = (np.abs(symbols) >> shift) * np.sign(symbols)
    return halved


def middles(symbols: Symbols, shift: int) -> Symbols:
    """Twice the middle of the symbols of the last layer that these may become in `shift` more layers."""
    doubled: Symbols = np.sign(symbols) * ((np.abs(symbols) << (shift + 1)) + ((1 << shift) - 1))
    return doubled


def _renamed(tensors: Tensors, before: str, after: str) -> Tensors:
    """The tensors whose names begin with `before`, beginning with `after`."""
    return {after + name[len(before) :]: tensor for name, tensor in tensors.items() if name.startswith(before)}
