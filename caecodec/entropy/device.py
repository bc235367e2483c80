"""Entropy models 0 and 1 on a device: many payloads of one shape at once, the same bytes as `static` and `context`.

    Coded of N payloads ── words, escapes ──▶ device ── kernels ── index ── values ──▶ symbols (N n, M, rows, columns)

Decoding never waits for the device: what is damaged is a tensor of flags, for whoever takes the symbols to look at.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..bitstream import varint
from . import streams
from .context import coded_channels
from .context_tables import LEFT, UP, ContextTables
from .streams import MAX_SYMBOL, Coded, Layout
from .tables import Tables

Shape = tuple[int, int, int, int]
BLOCK = 256  # positions that a program works out tables for at once
WARPS = 4


@cache
def available() -> bool:
    """Whether Triton is there, in which the kernels are written; it comes with PyTorch for CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def _kernels() -> Any:
    from . import kernels  # here, because it imports Triton

    return kernels


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """Static or context tables of M channels on a device; `kernels` describes those that it takes.

    low, high : (M,) int32, values low <= value < high have entries, all others escape
    order, place : (M,) int64, the channels in the order of context coding, and the place of each; empty for static tables
    difference : channels in coding order that are differences, and of which kind
    """

    context: bool
    classes: int
    cumulative: Tensor
    row: Tensor
    length: Tensor
    mode: Tensor
    weight: Tensor
    threshold: Tensor
    low: Tensor
    high: Tensor
    order: Tensor
    place: Tensor
    difference: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tables: Tables | ContextTables, device: torch.device) -> "DeviceTables":
        """The tables in the device's memory."""
        context = isinstance(tables, ContextTables)
        arrays = _of_context(tables) if isinstance(tables, ContextTables) else _of_static(tables)
        kinds = tables.difference if isinstance(tables, ContextTables) else np.zeros(0, np.int64)
        placed = {name: torch.from_numpy(np.ascontiguousarray(value, np.int32)).to(device) for name, value in arrays.items()}
        return cls(
            context, placed["threshold"].shape[-1] + 1, placed["cumulative"], placed["row"], placed["length"], placed["mode"],
            placed["weight"], placed["threshold"], placed["low"], placed["high"],
            placed["order"].long(), placed["order"].argsort(),
            tuple((int(channel), int(kinds[channel])) for channel in np.flatnonzero(kinds)),
        )  # fmt: skip

    def index_dtype(self) -> torch.dtype:
        """The narrowest integers that hold all entries."""
        return torch.uint8 if self.context else torch.int32


def _of_static(tables: Tables) -> dict[str, npt.ArrayLike]:
    starts = np.cumsum(tables.length) - tables.length
    split = np.split(tables.mass, starts[1:])
    return {
        "cumulative": np.concatenate([np.cumsum(mass) - mass for mass in split]), "row": starts, "length": tables.length,
        "mode": [int(mass[:-1].argmax()) for mass in split], "low": tables.offset,
        "high": tables.offset + tables.length - 1, "weight": [], "threshold": [], "order": [],
    }  # fmt: skip


def _of_context(tables: ContextTables) -> dict[str, npt.ArrayLike]:
    mass = np.concatenate([tables.mass[:, :1], np.repeat(tables.mass[:, 1:-1], 2, axis=1), tables.mass[:, -1:]], axis=1)
    return {
        "cumulative": np.cumsum(mass, axis=1) - mass, "row": tables.table * mass.shape[1], "length": 2 * tables.radius + 2,
        "mode": np.zeros(len(tables.order)), "low": -tables.radius, "high": tables.radius + 1,
        "weight": tables.predictor, "threshold": tables.threshold, "order": tables.order,
    }  # fmt: skip


class Prepared(NamedTuple):
    """A payload's symbols, proven as far as that goes without decoding them.

    words : (k,) int32, of all streams; lengths: how many each has
    coded : how many channels are coded
    escapes : (e,) int32, the escape list
    """

    words: npt.NDArray[np.int32]
    lengths: tuple[int, ...]
    coded: int
    escapes: npt.NDArray[np.int32]


def prepare(coded: Coded, shape: Shape, context: bool) -> Prepared:
    """What `decode` takes; CorruptionError where the streams cannot be those of symbols (n, M, rows, columns)."""
    streams.layout(coded, shape)
    for stream in coded.streams:
        streams.check_words(stream)
    count, position = coded_channels(coded, shape[1]) if context else (shape[1], 0)
    escapes = np.frombuffer(coded.escapes, np.uint8, offset=position)
    listed = streams.list_escapes(escapes.data, int((escapes < 0x80).sum()), (2 if context else 1) * MAX_SYMBOL)
    words = np.frombuffer(b"".join(coded.streams), "<i4").astype(np.int32)
    return Prepared(words, tuple(len(stream) // 4 for stream in coded.streams), count, listed.astype(np.int32))


def decode(batch: Sequence[Prepared], tables: DeviceTables, shape: Shape) -> tuple[Tensor, Tensor]:
    """The symbols (N n, M, rows, columns) int32 of N payloads of this shape (n, M, rows, columns), in their order.

    And flags (N,) bool, true where a payload is damaged and its symbols mean nothing: the CPU's coder says how.
    """
    device = tables.row.device
    n, channels, height, columns = shape
    layout = streams.bands(n * height, columns, channels)
    lengths = np.concatenate([part.lengths for part in batch])
    words = _send(np.concatenate([*(part.words for part in batch), np.zeros(1, np.int32)]), device)
    left, begin = _send(lengths.astype(np.int32), device), _send(np.cumsum(lengths) - lengths, device)
    count = _send(np.array([part.coded for part in batch], np.int32), device)
    index = torch.zeros(len(batch), channels, n * height * columns, dtype=tables.index_dtype(), device=device)
    state = torch.zeros(len(lengths), dtype=torch.int64, device=device)
    features, rows = _scratch(index, tables)
    sizes = (channels, n * height, height, columns, len(layout), tables.classes)
    # What is around a position may be another stream's, which has to be there before the next channel begins.
    steps = range(channels) if tables.context and len(layout) > 1 else range(0, channels, channels)
    for first in steps:
        last = min(first + steps.step, channels)
        _kernels().decode[(len(lengths),)](
            words, begin, left, state, index, features, rows, tables.cumulative, tables.row, tables.length, tables.mode,
            tables.weight, tables.threshold, count, first, last, *sizes, context=tables.context,
            padded_classes=_power(tables.classes), block=_block(layout, columns), num_warps=WARPS,
        )  # fmt: skip
    unread = ((left != 0) | (state != 0)).view(len(batch), -1).any(1)
    values, wrong = _values(index, batch, tables, layout, columns)
    values = values.view(len(batch), channels, n, height, columns)
    for channel, kind in tables.difference:
        sums = integrate(values[:, channel].long(), kind)
        wrong |= (sums.abs() > MAX_SYMBOL).flatten(1).any(1)
        values[:, channel] = sums.int()
    symbols = values.transpose(1, 2).reshape(-1, channels, height, columns)
    if tables.context:
        symbols = symbols[:, tables.place]
    return symbols, unread | wrong


def encode(symbols: Tensor, tables: DeviceTables, count: int) -> list[Coded]:
    """Code symbols (N n, M, rows, columns) int32, each within +-2^24, as N payloads of n = `count` images."""
    total, channels, height, columns = symbols.shape
    size = total // count
    layout = streams.bands(count * height, columns, channels)
    ordered = symbols[:, tables.order] if tables.context else symbols
    values = ordered.view(size, count, channels, height, columns).transpose(1, 2).contiguous()
    for channel, kind in tables.difference:
        values[:, channel] = difference(values[:, channel], kind)
    values = values.view(size, channels, -1)
    index, escaped = _index(values, tables)
    used = torch.arange(1, channels + 1, dtype=torch.int32, device=symbols.device)
    coded = (used * (index != 0).any(2)).amax(1).int() if tables.context else used[-1:].repeat(size)
    words, written = _push(index, coded, tables, layout, (channels, count * height, height, columns))
    escapes = _pack_escapes(values, escaped, tables, layout, columns)
    counts, lengths = coded.tolist(), written.view(size, -1).tolist()
    parts = np.split(words, np.cumsum([length for each in lengths for length in each])[:-1])
    streams_of = iter(part.astype("<i4").tobytes() for part in parts)
    return [
        Coded(tuple(next(streams_of) for _ in each), (varint.pack(used) if tables.context else b"") + listed)
        for each, used, listed in zip(lengths, counts, escapes, strict=True)
    ]


def difference(values: Tensor, kind: int) -> Tensor:
    """Images (..., rows, columns) less their left neighbours (LEFT) or those above (UP), the margin less the other ones."""
    if kind == UP:
        return difference(values.mT, LEFT).mT
    out = values.clone()
    out[..., 1:] -= values[..., :-1]
    out[..., 1:, 0] -= values[..., :-1, 0]
    return out


def integrate(values: Tensor, kind: int) -> Tensor:
    """The inverse of `difference`: sums down the margin, then across."""
    if kind == UP:
        return integrate(values.mT, LEFT).mT
    out = values.clone()
    out[..., 0] = out[..., 0].cumsum(-1)
    return out.cumsum(-1)


def _index(values: Tensor, tables: DeviceTables) -> tuple[Tensor, Tensor]:
    """The entry of each value (N, M, P), and which of them are escapes."""
    low, high = tables.low[:, None], tables.high[:, None]
    escaped = (values < low) | (values >= high)
    entries = 2 * values.abs() - (values > 0).int() if tables.context else values - low
    return torch.where(escaped, tables.length[:, None] - 1, entries).to(tables.index_dtype()), escaped


def _values(
    index: Tensor, batch: Sequence[Prepared], tables: DeviceTables, layout: Layout, columns: int
) -> tuple[Tensor, Tensor]:
    """The value (N, M, P) int32 of each entry, and which payloads (N,) escape not as often as they list, or too far."""
    entries = index.int()
    half = (entries + 1) // 2
    values = torch.where(entries % 2 == 1, half, -half) if tables.context else entries + tables.low[:, None]
    escaped = entries == tables.length[:, None] - 1
    sizes = np.array([len(part.escapes) for part in batch])
    if not sizes.any():
        return values, escaped.flatten(1).any(1)
    rank = _in_order(escaped, layout, columns).cumsum(1, dtype=torch.int32)
    listed = _send(sizes.astype(np.int32), index.device)
    wrong = rank[:, -1] != listed
    place = _from_order(rank, layout, columns, escaped.shape[1]) + (listed.cumsum(0) - listed)[:, None, None] - 1
    escapes = _send(np.concatenate([part.escapes for part in batch]), index.device)
    number = escapes[place.clamp_(0, len(escapes) - 1)]
    outside = torch.where(number % 2 == 1, tables.low[:, None] - (number + 1) // 2, tables.high[:, None] + number // 2)
    values = torch.where(escaped, outside, values)
    if tables.context:
        wrong |= (values.abs() > MAX_SYMBOL).flatten(1).any(1)
    return values, wrong


def _pack_escapes(values: Tensor, escaped: Tensor, tables: DeviceTables, layout: Layout, columns: int) -> list[bytes]:
    """The escape list of each payload."""
    below = 2 * (tables.low[:, None] - values) - 1
    number = torch.where(below > 0, below, 2 * (values - tables.high[:, None]))
    order = _in_order(escaped, layout, columns)
    listed = _in_order(number, layout, columns)[order].cpu().numpy().astype(np.uint32)
    ends = np.cumsum(order.sum(1).cpu().numpy())
    return [varint.pack_many(part) for part in np.split(listed, ends[:-1])]


def _push(
    index: Tensor, count: Tensor, tables: DeviceTables, layout: Layout, sizes: tuple[int, int, int, int]
) -> tuple[npt.NDArray[np.int32], Tensor]:
    """The words of all streams, one after the other, and how many each has (streams,)."""
    channels, rows, _, columns = sizes
    total, options = len(index) * len(layout), {"block": _block(layout, columns), "num_warps": WARPS}
    features, _ = _scratch(index, tables)
    low, mass = torch.empty_like(index, dtype=torch.int32), torch.empty_like(index, dtype=torch.int32)
    words = torch.empty(index.numel() + 2 * total, dtype=torch.int32, device=index.device)
    written = torch.empty(total, dtype=torch.int32, device=index.device)
    kernels, grid = _kernels(), (total, channels)
    if tables.context:
        kernels.measure[grid](index, features, *sizes, len(layout), **options)
    kernels.choose[grid](
        index, features, low, mass, tables.cumulative, tables.row, tables.length, tables.weight, tables.threshold,
        channels, rows, columns, len(layout), tables.classes,
        context=tables.context, padded_classes=_power(tables.classes), **options,
    )  # fmt: skip
    kernels.encode[(total,)](low, mass, count, words, written, channels, rows, columns, len(layout), num_warps=1)
    room = np.array([(stop - start) * columns * channels + 2 for start, stop in layout] * len(index))
    begin = _send(np.cumsum(room) - room, index.device)
    gaps = begin - (written.cumsum(0) - written)
    places = torch.arange(int(written.sum()), device=index.device) + gaps.repeat_interleave(written)
    return words[places].cpu().numpy(), written


def _in_order(planes: Tensor, layout: Layout, columns: int) -> Tensor:
    """Planes (N, M, P) in the order of coding: (N, M P), band after band."""
    return torch.cat([planes[:, :, start * columns : stop * columns].flatten(1) for start, stop in layout], 1)


def _from_order(flat: Tensor, layout: Layout, columns: int, channels: int) -> Tensor:
    """The inverse of `_in_order`."""
    sizes = [(stop - start) * columns * channels for start, stop in layout]
    return torch.cat([part.view(len(flat), channels, -1) for part in torch.split(flat, sizes, 1)], 2)


def _scratch(index: Tensor, tables: DeviceTables) -> tuple[Tensor, Tensor]:
    """Features (N, 2 M, P) and rows (N, P) that kernels fill; of no use, and empty, for static tables."""
    size, channels, positions = index.shape if tables.context else (1, 1, 1)
    features = torch.empty(size, 2 * channels, positions, dtype=torch.int8, device=index.device)
    return features, torch.empty(size, positions, dtype=torch.int32, device=index.device)


def _send(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array in the device's memory, without waiting for it."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _block(layout: Layout, columns: int) -> int:
    """How many positions to take at once: those of a stream, where they are few."""
    return min(BLOCK, max(16, _power(max(stop - start for start, stop in layout) * columns)))
