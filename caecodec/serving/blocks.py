"""The levels of pyramids -> decoded values. What is decoded is kept within a bound, and decoded once at a time."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from ..ngff import blocks
from ..ngff.groups import halved
from .pyramid import TILE, Choice, Pyramid, ShownLevel
from .served_store import count_pixels

_Values = npt.NDArray[Any]
_Key = tuple[Any, ...]


class BlockCache:
    """Arrays by keys, of which those that were used last are kept, of at most so many bytes. Threads may share one."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._blocks: OrderedDict[_Key, _Values] = OrderedDict()
        self._pending: dict[_Key, Future[_Values]] = {}

    def get(self, key: _Key, make: Any) -> _Values:
        """The array of a key: the one that is kept, or what `make()` returns or raises, called by one thread at a time."""
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
            pending = self._pending.get(key)
            if mine := pending is None:
                pending = self._pending[key] = Future()
        if mine:
            self._make(key, make, pending)
        return pending.result()

    def _make(self, key: _Key, make: Any, pending: "Future[_Values]") -> None:
        try:
            values = make()
        except BaseException as error:  # those that wait get it, whatever it is
            with self._lock:
                del self._pending[key]
            pending.set_exception(error)
            return
        with self._lock:
            del self._pending[key]
            if values.nbytes <= self.most_bytes:
                self._blocks[key] = values
                self.bytes += values.nbytes
            while self.bytes > self.most_bytes:
                self.bytes -= self._blocks.popitem(last=False)[1].nbytes
        pending.set_result(values)


class BlockReader:
    """Reads parts of the levels of pyramids by blocks of whole chunks, in the threads of its callers."""

    def __init__(self, cache: BlockCache) -> None:
        self._cache = cache

    def read(self, pyramid: Pyramid, level: int, choice: Choice, rows: range, columns: range) -> _Values:
        """The values of a part of a level: (channels, rows, columns), where there are 3 channels of RGB, or 1.

        Raises CaeCodecError if chunks cannot be decoded.
        """
        found = pyramid.levels[level]
        height, width = found.source.block if found.halvings == 0 else (TILE, TILE)
        parts = []
        for i in range(rows.start // height, -(-rows.stop // height)):
            row = []
            for j in range(columns.start // width, -(-columns.stop // width)):
                place = (_part(i, height, found.height), _part(j, width, found.width))
                block = self._block(pyramid, level, choice, *place)
                inner = [
                    slice(max(asked.start - there.start, 0), asked.stop - there.start)
                    for asked, there in zip((rows, columns), place, strict=True)
                ]
                row.append(block[:, *inner])
            parts.append(np.concatenate(row, axis=2))
        return np.concatenate(parts, axis=1)

    def _block(self, pyramid: Pyramid, level: int, choice: Choice, rows: range, columns: range) -> _Values:
        key = (pyramid, level, choice, rows.start, columns.start)
        found = pyramid.levels[level]
        if found.halvings == 0:
            return self._cache.get(key, lambda: _decoded(found, choice, rows, columns))

        def make() -> _Values:
            finer = pyramid.levels[level - 1]
            twice = [range(2 * part.start, min(2 * part.stop, n)) for part, n in zip((rows, columns), finer[:2], strict=True)]
            return _halved(self.read(pyramid, level - 1, choice, *twice))

        return self._cache.get(key, make)


def _part(index: int, side: int, length: int) -> range:
    return range(index * side, min((index + 1) * side, length))


def _decoded(level: ShownLevel, choice: Choice, rows: range, columns: range) -> _Values:
    """The values of a part of a stored level, as `BlockReader.read`."""
    axes, positions = level.source.axes, iter(choice.positions)
    places: dict[str, slice] = {"y": slice(rows.start, rows.stop), "x": slice(columns.start, columns.stop)}
    places["c"] = slice(None) if choice.channel is None else slice(choice.channel, choice.channel + 1)
    region = tuple(places[axis] if axis in places else slice(at := next(positions), at + 1) for axis in axes)
    values = blocks.read(level.source.array, region)
    count_pixels(len(rows) * len(columns))
    order = sorted(range(len(axes)), key=lambda axis: ("c", "y", "x").index(axes[axis]) if axes[axis] in "cyx" else -1)
    return np.ascontiguousarray(values.transpose(order).reshape(-1, len(rows), len(columns)))


def _halved(values: _Values) -> _Values:
    """Half of the rows and columns: means, or, of what may be labels, every other value."""
    if values.dtype.kind == "f" or (values.dtype.kind in "ui" and values.dtype.itemsize <= 2):
        return halved(values)
    return np.ascontiguousarray(values[:, ::2, ::2])
