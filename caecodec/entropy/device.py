"""What entropy models share on a device: the kernels code many payloads of one shape at once.

    Coded of N payloads ── words, escapes ──▶ device ── kernels ── index ── values ──▶ symbols (N n, M, rows, columns)

Decoding never waits for the device: damage is reported as a tensor of flags that the caller must check. Encoding waits once,
for a copy that holds the words and escapes of all payloads; a second time only if they are more than was thought. The ranges
of `record_function` are the stages that a profiler shows.
"""

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.profiler import record_function

from ..bitstream import varint
from ..chunks.transfers import send
from . import streams
from .context_tables import LEFT, UP
from .device_lists import Escapes, Words, fetch_coded
from .model import DeviceCoder, Shape
from .streams import MAX_SYMBOL, CodedSymbols, StreamLayout

T = TypeVar("T")
BLOCK = 256  # positions whose tables a program computes at once
WARPS = 4


@cache
def available() -> bool:
    """Whether Triton, which the kernels need, is installed; it comes with PyTorch for CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def load_kernels() -> Any:
    """The module of kernels."""
    from . import kernels  # here, because it imports Triton

    return kernels


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """Tables of M channels on a device; `kernels` describes the arrays that it reads.

    low, high : (M,) int32; values with low <= value < high have entries, all others escape
    order, place : (M,) int64, the channels in coding order, and the place of each; empty if the order is unchanged
    difference : (channel in coding order, kind) of each channel that is coded as differences
    """

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
    def of(
        cls, arrays: dict[str, npt.ArrayLike], difference: tuple[tuple[int, int], ...], device: torch.device
    ) -> "DeviceTables":
        """Copy these arrays, named like the fields, to the device."""
        placed = {name: torch.from_numpy(np.ascontiguousarray(value, np.int32)).to(device) for name, value in arrays.items()}
        return cls(
            placed["threshold"].shape[-1] + 1, placed["cumulative"], placed["row"], placed["length"], placed["mode"],
            placed["weight"], placed["threshold"], placed["low"], placed["high"],
            placed["order"].long(), placed["order"].argsort(), difference,
        )  # fmt: skip


class PreparedSymbols(NamedTuple):
    """A payload's coded symbols, checked as far as possible without decoding them.

    words, lengths : (k,) int32, the words of all streams; how many each stream has
    coded : the number of coded channels
    escapes : (e,) int32, the escape list
    """

    words: npt.NDArray[np.int32]
    lengths: tuple[int, ...]
    coded: int
    escapes: npt.NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """The number of bytes that the symbols take while they wait."""
        return self.words.nbytes


class KernelCoder(DeviceCoder[T]):
    """An entropy model coded by the kernels; a subclass defines how its symbols become entries of its tables.

    contextual : whether earlier channels choose the tables; otherwise each channel has one table
    index_dtype : the narrowest integer dtype that holds all entries
    limit : the largest magnitude of an escaped value
    """

    contextual: ClassVar[bool]
    index_dtype: ClassVar[torch.dtype]
    limit: ClassVar[int]

    @abstractmethod
    def count(self, coded: CodedSymbols, channels: int) -> tuple[int, int]:
        """The number of coded channels, and where the escape list begins in `escapes`."""

    @abstractmethod
    def pack_count(self, count: int) -> bytes:
        """The bytes that precede the escape list."""

    @abstractmethod
    def used(self, index: Tensor) -> Tensor:
        """How many channels (N,) int32 of entries (N, M, P) must be coded."""

    @abstractmethod
    def launches(self, channels: int, bands: int) -> range:
        """The first channel of each launch of the decoder, for images with this many streams."""

    @abstractmethod
    def arrange(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """Put the channels of symbols (N n, M, rows, columns) into coding order."""

    @abstractmethod
    def restore(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """Invert `arrange`."""

    @abstractmethod
    def entries(self, values: Tensor, tables: DeviceTables) -> Tensor:
        """The entry of each value (N, M, P) that does not escape."""

    @abstractmethod
    def values(self, entries: Tensor, tables: DeviceTables) -> Tensor:
        """Invert `entries`."""

    @abstractmethod
    def scratch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Memory for features (N, 2 M, P) int8 and rows (N, P) int32 of entries (N, M, P); minimal if the kernels need none."""

    @abstractmethod
    def measure(self, index: Tensor, features: Tensor, sizes: tuple[int, int, int, int], bands: int, **options: int) -> None:
        """Fill the features before encoding, if there are any."""

    def beyond(self, values: Tensor) -> Tensor:
        """Which payloads (N,) have values (N, M, P) beyond the encoder's range, although each escape is within its limit."""
        return torch.zeros(len(values), dtype=torch.bool, device=values.device)

    def prepare(self, coded: CodedSymbols, shape: Shape) -> PreparedSymbols:
        """See `DeviceCoder.prepare`."""
        streams.layout(coded, shape)
        for stream in coded.streams:
            streams.check_words(stream)
        count, position = self.count(coded, shape[1])
        escapes = np.frombuffer(coded.escapes, np.uint8, offset=position)
        listed = streams.list_escapes(escapes.data, int((escapes < 0x80).sum()), self.limit)
        words = np.frombuffer(b"".join(coded.streams), "<i4").astype(np.int32)
        return PreparedSymbols(words, tuple(len(stream) // 4 for stream in coded.streams), count, listed.astype(np.int32))

    def decode(self, batch: Sequence[PreparedSymbols], tables: DeviceTables, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `DeviceCoder.decode`."""
        device = tables.row.device
        n, channels, height, columns = shape
        layout = streams.bands(n * height, columns, channels)
        with record_function("words in"):
            lengths = np.concatenate([part.lengths for part in batch])
            words = send(np.concatenate([*(part.words for part in batch), np.zeros(1, np.int32)]), device)
            left, begin = send(lengths.astype(np.int32), device), send(np.cumsum(lengths) - lengths, device)
            count = send(np.array([part.coded for part in batch], np.int32), device)
        with record_function("symbols"):
            index = torch.zeros(len(batch), channels, n * height * columns, dtype=self.index_dtype, device=device)
            state = torch.zeros(len(lengths), dtype=torch.int64, device=device)
            features, rows = self.scratch(index)
            sizes = (channels, n * height, height, columns, len(layout), tables.classes)
            steps = self.launches(channels, len(layout))
            for first in steps:
                last = min(first + steps.step, channels)
                load_kernels().decode[(len(lengths),)](
                    words, begin, left, state, index, features, rows, tables.cumulative, tables.row, tables.length, tables.mode,
                    tables.weight, tables.threshold, count, first, last, *sizes, context=self.contextual,
                    padded_classes=_power(tables.classes), block=_block(layout, columns), num_warps=WARPS,
                )  # fmt: skip
            unread = ((left != 0) | (state != 0)).view(len(batch), -1).any(1)
        with record_function("escapes"):
            values, wrong = self._all_values(index, batch, tables, layout, columns)
        with record_function("differences"):
            values = values.view(len(batch), channels, n, height, columns)
            for channel, kind in tables.difference:
                sums = integrate(values[:, channel].long(), kind)
                wrong |= (sums.abs() > MAX_SYMBOL).flatten(1).any(1)
                values[:, channel] = sums.int()
            symbols = values.transpose(1, 2).reshape(-1, channels, height, columns)
            return self.restore(symbols, tables), unread | wrong

    def encode(self, symbols: Tensor, tables: DeviceTables, count: int) -> list[CodedSymbols]:
        """See `DeviceCoder.encode`."""
        total, channels, height, columns = symbols.shape
        size = total // count
        layout = streams.bands(count * height, columns, channels)
        with record_function("differences"):
            ordered = self.arrange(symbols, tables)
            values = ordered.view(size, count, channels, height, columns).transpose(1, 2).contiguous()
            for channel, kind in tables.difference:
                values[:, channel] = difference(values[:, channel], kind)
            values = values.view(size, channels, -1)
        with record_function("escapes"):
            index, escaped = self._index(values, tables)
            coded = self.used(index)
            listed = _list_escapes(values, escaped, tables, layout, columns)
        words = self._push(index, coded, tables, layout, (channels, count * height, height, columns))
        counts, lengths, ends, found, numbers = fetch_coded(coded, words, listed)
        with record_function("bytes"):
            parts = np.split(found, np.cumsum(lengths)[:-1])
            streams_of = iter(part.astype("<i4").tobytes() for part in parts)
            escapes = [varint.pack_many(part.astype(np.uint32)) for part in np.split(numbers, ends[:-1])]
            return [
                CodedSymbols(tuple(next(streams_of) for _ in layout), self.pack_count(int(used)) + each)
                for used, each in zip(counts, escapes, strict=True)
            ]

    def _index(self, values: Tensor, tables: DeviceTables) -> tuple[Tensor, Tensor]:
        """The entry of each value (N, M, P), and which values escape."""
        low, high = tables.low[:, None], tables.high[:, None]
        escaped = (values < low) | (values >= high)
        entries = self.entries(values, tables)
        return torch.where(escaped, tables.length[:, None] - 1, entries).to(self.index_dtype), escaped

    def _all_values(
        self, index: Tensor, batch: Sequence[PreparedSymbols], tables: DeviceTables, layout: StreamLayout, columns: int
    ) -> tuple[Tensor, Tensor]:
        """The value (N, M, P) int32 of each entry, and which payloads (N,) have too many, too few or too large escapes."""
        entries = index.int()
        values = self.values(entries, tables)
        escaped = entries == tables.length[:, None] - 1
        sizes = np.array([len(part.escapes) for part in batch])
        if not sizes.any():
            return values, escaped.flatten(1).any(1)
        rank = _in_order(escaped, layout, columns).cumsum(1, dtype=torch.int32)
        listed = send(sizes.astype(np.int32), index.device)
        wrong = rank[:, -1] != listed
        place = _from_order(rank, layout, columns, escaped.shape[1]) + (listed.cumsum(0) - listed)[:, None, None] - 1
        escapes = send(np.concatenate([part.escapes for part in batch]), index.device)
        number = escapes[place.clamp_(0, len(escapes) - 1)]
        outside = torch.where(number % 2 == 1, tables.low[:, None] - (number + 1) // 2, tables.high[:, None] + number // 2)
        values = torch.where(escaped, outside, values)
        return values, wrong | self.beyond(values)

    def _push(
        self, index: Tensor, count: Tensor, tables: DeviceTables, layout: StreamLayout, sizes: tuple[int, int, int, int]
    ) -> Words:
        """Encode all streams."""
        channels, rows, _, columns = sizes
        total, options = len(index) * len(layout), {"block": _block(layout, columns), "num_warps": WARPS}
        kernels, grid = load_kernels(), (total, channels)
        with record_function("features"):
            features, _ = self.scratch(index)
            self.measure(index, features, sizes, len(layout), **options)
        with record_function("tables"):
            low, mass = torch.empty_like(index, dtype=torch.int32), torch.empty_like(index, dtype=torch.int32)
            kernels.choose[grid](
                index, features, low, mass, tables.cumulative, tables.row, tables.length, tables.weight, tables.threshold,
                channels, rows, columns, len(layout), tables.classes,
                context=self.contextual, padded_classes=_power(tables.classes), **options,
            )  # fmt: skip
        with record_function("symbols"):
            words = torch.empty(index.numel() + 2 * total, dtype=torch.int32, device=index.device)
            written = torch.empty(total, dtype=torch.int32, device=index.device)
            kernels.encode[(total,)](low, mass, count, words, written, channels, rows, columns, len(layout), num_warps=1)
            room = np.array([(stop - start) * columns * channels + 2 for start, stop in layout] * len(index))
            return Words(words, send(np.cumsum(room) - room, index.device), written)


def difference(values: Tensor, kind: int) -> Tensor:
    """See `context_numpy.difference`."""
    if kind == UP:
        return difference(values.mT, LEFT).mT
    out = values.clone()
    out[..., 1:] -= values[..., :-1]
    out[..., 1:, 0] -= values[..., :-1, 0]
    return out


def integrate(values: Tensor, kind: int) -> Tensor:
    """See `context_numpy.integrate`."""
    if kind == UP:
        return integrate(values.mT, LEFT).mT
    out = values.clone()
    out[..., 0] = out[..., 0].cumsum(-1)
    return out.cumsum(-1)


def _list_escapes(values: Tensor, escaped: Tensor, tables: DeviceTables, layout: StreamLayout, columns: int) -> Escapes:
    """The escapes among values (N, M, P)."""
    below = 2 * (tables.low[:, None] - values) - 1
    number = torch.where(below > 0, below, 2 * (values - tables.high[:, None]))
    rank = _in_order(escaped, layout, columns).flatten().cumsum(0, dtype=torch.int32)
    return Escapes(_in_order(number, layout, columns).flatten(), rank, rank.view(len(values), -1)[:, -1])


def _in_order(planes: Tensor, layout: StreamLayout, columns: int) -> Tensor:
    """Planes (N, M, P) in coding order: (N, M P), band after band."""
    return torch.cat([planes[:, :, start * columns : stop * columns].flatten(1) for start, stop in layout], 1)


def _from_order(flat: Tensor, layout: StreamLayout, columns: int, channels: int) -> Tensor:
    """Invert `_in_order`."""
    sizes = [(stop - start) * columns * channels for start, stop in layout]
    return torch.cat([part.view(len(flat), channels, -1) for part in torch.split(flat, sizes, 1)], 2)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _block(layout: StreamLayout, columns: int) -> int:
    """How many positions to process at once: those of a stream, if they are fewer than `BLOCK`."""
    return min(BLOCK, max(16, _power(max(stop - start for start, stop in layout) * columns)))
