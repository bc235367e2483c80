"""Layered coding: the base layer by context coding, then the refinement of each further layer (FORMAT.md, 25: Layers).

    symbols s ── |s| >> L-1 ── ContextModel ──▶ streams, escapes of layer 1
              ├─ |s| >> L-2, given layer 1 ───▶ a stream for layer 2            and so on, to s itself in layer L
              └─ ...

A refinement codes one bit of each magnitude: whether a symbol stays 0, and its sign if not; or, if it is not 0 already, in
which half of its interval it is. In: symbols as int32 (n, M, rows, columns). Out: the streams of layer 1, one stream for each
further layer, and the escapes of layer 1.

Weights files have these tables instead of those of other entropy models; their qualities are the layers, 1 to L.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError, WeightsError
from . import context, layered_coder
from .context_numpy import Bytes, features, predict
from .context_tables import CLIP, Floats
from .layered_tables import STEADY, LayeredTables, RefinementTables, layers_of
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
        words = []
        for number, part in enumerate(tables.refinements):
            high = quantised(symbols, tables.layers - 2 - number)
            words.append(_encode(low, high, part))
            low = high
        return CodedSymbols((*base.streams, *words), base.escapes)

    def decode(self, coded: CodedSymbols, tables: LayeredTables, shape: Shape) -> Symbols:
        """The middles (n, M, rows, columns) of the symbols' intervals, doubled, from as many layers as there are tables."""
        split = len(coded.streams) - len(tables.refinements)
        symbols = context.MODEL.decode(CodedSymbols(coded.streams[: max(0, split)], coded.escapes), tables.base, shape)
        for words, part in zip(coded.streams[max(0, split) :], tables.refinements, strict=True):
            symbols = _decode(words, symbols, part)
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


def _encode(low: Symbols, high: Symbols, tables: RefinementTables) -> bytes:
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
    return varint.pack(count) + layered_coder.encode(np.concatenate(index), np.concatenate(mass))


def _decode(data: bytes, low: Symbols, tables: RefinementTables) -> Symbols:
    """Invert `_encode`; CorruptionError unless the data hold exactly these symbols."""
    count, position = varint.unpack(data, 0)
    channels = low.shape[1]
    below = low.transpose(1, 0, 2, 3)[tables.order]
    if count > channels or below[count:].any():
        raise CorruptionError(f"payload refines {count} channels of {channels} but more of them are not 0: it is damaged")
    known, own = features(_index(below)), np.empty((2 * count, below[0].size), np.uint8)
    above = np.zeros_like(below)
    flat, small = above.reshape(channels, -1), below.reshape(channels, -1)
    decoder = layered_coder.LayerDecoder(data[position:])
    for first, last, predicted in _predictions(tables, count, known, own):
        magnitudes = np.abs(small[first:last])
        index = decoder.decode(_masses(tables, first, magnitudes, predicted)).reshape(magnitudes.shape)
        steady = magnitudes > 0
        if (index[steady] == 2).any():
            raise CorruptionError("a layer holds a choice that no encoder makes: the payload is damaged")
        fresh = np.where(index == 2, -1, index.astype(np.int32))
        flat[first:last] = np.where(steady, np.sign(small[first:last]) * (2 * magnitudes + index), fresh)
        own[2 * first : 2 * last] = features(_index(above[first:last]))
    decoder.finish()
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


def _masses(tables: RefinementTables, first: int, magnitudes: Symbols, predicted: Floats) -> npt.NDArray[np.uint32]:
    """The mass of index 0 at each position of channels from `first` on, as `layered_coder` takes it, in order."""
    part = slice(first, first + len(predicted))
    classes = np.zeros(predicted.shape, np.uint8)
    for level in tables.levels[part].T:
        classes += level[:, None] <= predicted
    mass = np.take_along_axis(tables.zero_mass[part], classes.astype(np.intp), axis=1)
    row, position = np.nonzero(magnitudes)
    size = np.minimum(magnitudes[row, position], STEADY) - 1
    mass[row, position] = tables.steady_mass[first + row, size] | layered_coder.STEADY_FLAG
    return mass.reshape(-1)


def _choices(low: Symbols, high: Symbols) -> Bytes:
    """The index of each refinement, in order: 0, 1 or 2 for a symbol 0, 1 or -1; the last bit of others."""
    fresh = np.where(high < 0, 2, high)
    return np.where(low == 0, fresh, np.abs(high) & 1).astype(np.uint8).reshape(-1)


def _renamed(tensors: Tensors, before: str, after: str) -> Tensors:
    """The tensors whose names begin with `before`, beginning with `after`."""
    return {after + name[len(before) :]: tensor for name, tensor in tensors.items() if name.startswith(before)}
