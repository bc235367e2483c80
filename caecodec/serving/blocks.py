"""The levels of pyramids -> decoded values. What is decoded is kept within a bound, and decoded once at a time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from ..ngff import blocks
from ..ngff.pyramid import means
from .pyramid import Choice, Pyramid, ShownLevel
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

    def get(self, keys: Sequence[_Key], make: Callable[[list[_Key]], list[_Values]]) -> list[_Values]:
        """The arrays of these keys. Those that are not kept are what `make(keys)` returns, or an error that it raises.

        No key is made by two threads at a time: the later one waits for what the other makes.
        """
        with self._lock:
            kept = {key: self._blocks[key] for key in keys if key in self._blocks}
            for key in kept:
                self._blocks.move_to_end(key)
            mine: dict[_Key, Future[_Values]] = {key: Future() for key in keys if key not in kept and key not in self._pending}
            self._pending.update(mine)
            pending = {key: self._pending[key] for key in keys if key not in kept}
        if mine:
            self._make(mine, make)  # before waiting, so that no two threads wait for each other
        return [kept[key] if key in kept else pending[key].result() for key in keys]

    def _make(self, mine: dict[_Key, "Future[_Values]"], make: Callable[[list[_Key]], list[_Values]]) -> None:
        try:
            made = make(list(mine))
        except BaseException as error:  # those that wait get it, whatever it is
            with self._lock:
                for key in mine:
                    del self._pending[key]
            for future in mine.values():
                future.set_exception(error)
            return
        with self._lock:
            for key, values in zip(mine, made, strict=True):
                del self._pending[key]
                if values.nbytes <= self.most_bytes:
                    self._blocks[key] = values
                    self.bytes += values.nbytes
            while self.bytes > self.most_bytes:
                self.bytes -= self._blocks.popitem(last=False)[1].nbytes
        for future, values in zip(mine.values(), made, strict=True):
            future.set_result(values)


class BlockReader:
    """Reads parts of the levels of pyramids by blocks, in the threads of its callers."""

    def __init__(self, cache: BlockCache) -> None:
        self._cache = cache

    def read(self, pyramid: Pyramid, level: int, choice: Choice, rows: range, columns: range) -> _Values:
        """The values of a part of a level: (channels, rows, columns), where there are 3 channels of RGB, or 1.

        Raises CaeCodecError if chunks cannot be decoded.
        """
        height, width = pyramid.levels[level].block
        down = range(rows.start // height, -(-rows.stop // height))
        across = range(columns.start // width, -(-columns.stop // width))
        keys: list[_Key] = [(pyramid, level, choice, i, j) for i in down for j in across]
        found = dict(zip(keys, self._cache.get(keys, self._make), strict=True))
        whole = np.concatenate(
            [np.concatenate([found[pyramid, level, choice, i, j] for j in across], axis=2) for i in down], axis=1
        )
        top, left = down.start * height, across.start * width
        return whole[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def _make(self, keys: list[_Key]) -> list[_Values]:
        """The blocks of these keys of one level; those that fill a rectangle at once, for the sake of batches."""
        down, across = ({key[axis] for key in keys} for axis in (3, 4))
        if len(keys) != len(down) * len(across):
            return [self._make([key])[0] for key in keys]
        pyramid, number, choice, *_ = keys[0]
        level: ShownLevel = pyramid.levels[number]
        places = [(_part(key[3], level.block[0], level.height), _part(key[4], level.block[1], level.width)) for key in keys]
        rows = range(places[0][0].start, places[-1][0].stop)
        columns = range(places[0][1].start, places[-1][1].stop)
        if level.halvings == 0:
            values = _decoded(level, choice, rows, columns)
        else:
            finer = pyramid.levels[number - 1]
            twice = [range(2 * part.start, min(2 * part.stop, n)) for part, n in zip((rows, columns), finer[:2], strict=True)]
            values = _halved(self.read(pyramid, number - 1, choice, *twice))
        return [
            values[:, y.start - rows.start : y.stop - rows.start, x.start - columns.start : x.stop - columns.start].copy()
            for y, x in places
        ]


def _part(index: int, side: int, length: int) -> range:
    return range(index * side, min((index + 1) * side, length))


def _decoded(level: ShownLevel, choice: Choice, rows: range, columns: range) -> _Values:
    """The values of a part of a stored level, as `BlockReader.read`."""
    axes, positions = level.source.axes, iter(choice.positions)
    places: dict[str, slice] = {"y": slice(rows.start, rows.stop), "x": slice(columns.start, columns.stop)}
    places["c"] = slice(None) if choice.channel is None else slice(choice.channel, choice.channel + 1)
    region = tuple(places[axis] if axis in places else slice(at := next(positions), at + 1) for axis in axes)
    if choice.layers is None:
        values = blocks.read(level.source.array, region)
    else:
        from ..reading import read  # imports PyTorch

        values = read(level.source.array, region, choice.layers)
    count_pixels(len(rows) * len(columns))
    order = sorted(range(len(axes)), key=lambda axis: ("c", "y", "x").index(axes[axis]) if axes[axis] in "cyx" else -1)
    return values.transpose(order).reshape(-1, len(rows), len(columns))


def _halved(values: _Values) -> _Values:
    """Half of the rows and columns: means, or, of what may be labels, every other value."""
    if values.dtype.kind == "f" or (values.dtype.kind in "ui" and values.dtype.itemsize <= 2):
        return means(values)
    return values[:, ::2, ::2]
