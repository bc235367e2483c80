"""Bounds the error of every value: a prediction that is the same on every machine, and its residual (FORMAT.md, 12).

    values ── grid ── integers ── residual ── bytes        prediction: none, or symbols ── exact synthesis ── values ── grid

In: a chunk of any dtype and, if the network predicts, its symbols. Out: the bytes of a bound. Decoding goes back.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import zstd

from ...bitstream import varint
from ...bitstream.codings import BYTES, BoundKind, pack_bound_kind
from ...chunks.axes import Axes
from ...chunks.planes import Layout, to_values
from ...engine import EXACT_LEVELS
from ...entropy.residual import interlaced
from ...entropy.residual import planes as residual
from ...errors import CorruptionError

ZSTD_LEVEL = 9
MOST_STEPS = 2**32 - 1  # the largest number in a varint
_INTEGERS = struct.Struct("<ii")
_FLOATS = struct.Struct("<dd")


@dataclass(frozen=True)
class Grid:
    """The integers that stand for values: k, from 0 to `most`, is `low + step k`, and may be off by at most `bound`."""

    dtype: np.dtype[Any]
    low: float
    step: float
    most: int
    bound: int

    @classmethod
    def of(cls, array: npt.NDArray[Any], error: float) -> "Grid | None":
        """The grid whose points are within `error` of a chunk's values; None if the values must be stored as bytes."""
        if array.dtype.kind == "f" and not error:
            return None
        low, high = array.min().item(), array.max().item()
        if array.dtype.kind != "f":
            return cls(array.dtype, low, 1, high - low, int(min(error, high - low)))
        with np.errstate(over="ignore"):  # the spacing is infinite at the largest float
            rounding = float(np.spacing(np.maximum(np.abs(array.min()), np.abs(array.max()))))
        step = 2 * (error - rounding)
        if step <= 0 or not (steps := (high - low) / step) < MOST_STEPS:
            return None
        grid = cls(array.dtype, low, step, math.ceil(steps), 0)
        worst = np.abs(grid.values(grid.indices(array)).astype(np.longdouble) - array).max()
        return grid if worst <= error else None

    def indices(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The nearest points of the grid."""
        return np.clip(np.rint((values.astype(np.float64) - self.low) / self.step), 0, self.most).astype(np.int64)

    def values(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Points of the grid, in the chunk's dtype."""
        return (indices * self.step + self.low).astype(self.dtype)

    @property
    def limits(self) -> interlaced.Range:
        """The limits that the residual coder needs."""
        return residual.limits(0, self.most, self.bound)

    def pack(self) -> bytes:
        """The grid as bytes (FORMAT.md, 12)."""
        if self.dtype.kind == "f":
            return _FLOATS.pack(self.low, self.step) + varint.pack(self.most)
        return _INTEGERS.pack(int(self.low), int(self.low) + self.most) + varint.pack(self.bound)

    @classmethod
    def parse(cls, data: bytes, dtype: np.dtype[Any]) -> tuple["Grid", int]:
        """The grid at the start of data, and where it ends; CorruptionError if there is none."""
        layout = _FLOATS if dtype.kind == "f" else _INTEGERS
        if len(data) < layout.size:
            raise CorruptionError("payload ends within the grid of its values: it is damaged or cut short")
        first, second = layout.unpack_from(data)
        number, position = varint.unpack(data, layout.size)
        if dtype.kind == "f":
            grid = cls(dtype, first, second, number, 0)
            sound = math.isfinite(first) and math.isfinite(first + second * number) and second > 0
        else:
            limits = np.iinfo(dtype)
            grid = cls(dtype, first, 1, second - first, number)
            sound = limits.min <= first <= second <= limits.max and number <= second - first
        if not sound:
            raise CorruptionError(f"payload has a grid of values, {grid}, that no {dtype} chunk has: it is damaged")
        return grid, position


def encode(
    array: npt.NDArray[Any], axes: Axes, kind: BoundKind, grid: Grid | None,
    prediction: npt.NDArray[np.float64] | None = None,
) -> bytes:  # fmt: skip
    """The bytes of a chunk: a byte for the kind, then what the kind needs.

    grid : the grid of its values; None only for BYTES
    prediction : the values (n, height, width, channels) that the network predicts; only for predicted kinds
    """
    if grid is None:
        return pack_bound_kind(kind) + _shuffled(array)
    planes = _planes(grid, axes.images(array))
    given = None if prediction is None else _planes(grid, prediction)
    return pack_bound_kind(kind) + grid.pack() + residual.encode(planes, kind.residual, grid.limits, given)


def decode(
    kind: BoundKind, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], axes: Axes,
    prediction: npt.NDArray[np.float64] | None,
) -> npt.NDArray[Any]:  # fmt: skip
    """The chunk in a bound of this kind; `data` follows the kind. Raises CorruptionError if it is damaged."""
    if kind == BYTES:
        return _unshuffled(data, shape, dtype)
    grid, position = Grid.parse(data, dtype)
    height, width, channels = shape[axes.height], shape[axes.width], axes.channels(shape)
    planes = (math.prod(shape) // (channels * height * width), channels, height, width)
    given = None if prediction is None else _planes(grid, prediction)
    indices = residual.decode(data[position:], kind.residual, planes, grid.limits, given)
    return axes.chunk(grid.values(indices.transpose(0, 2, 3, 1)), shape)


def predicted(levels: npt.NDArray[np.int32], shape: tuple[int, ...], axes: Axes,
              layout: Layout) -> npt.NDArray[np.float64]:  # fmt: skip
    """The values (n, height, width, channels) that the planes (m, 3, height, width) of the exact synthesis stand for.

    Only operations that IEEE 754 rounds correctly are used, one at a time, so the result is the same everywhere.
    """
    return to_values(levels.astype(np.float64), float(EXACT_LEVELS), shape, axes, layout)


def _planes(grid: Grid, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Values (n, height, width, channels) as integers (n, channels, height, width)."""
    return np.ascontiguousarray(grid.indices(values).transpose(0, 3, 1, 2))


def _shuffled(array: npt.NDArray[Any]) -> bytes:
    """Zstandard of the first bytes of all values in C order, then their second bytes, and so on."""
    data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).reshape(-1, 1).view(np.uint8)
    packed: bytes = zstd.compress(np.ascontiguousarray(data.T), ZSTD_LEVEL)
    return packed


def _unshuffled(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    out = np.empty((dtype.itemsize, math.prod(shape)), np.uint8)
    try:
        zstd.decompress(data, out)
    except (RuntimeError, ValueError) as error:
        raise CorruptionError(f"payload holds no Zstandard frame of {out.size} bytes ({error}): it is damaged") from error
    return np.ascontiguousarray(out.T).view(dtype.newbyteorder("<")).astype(dtype).reshape(shape)
