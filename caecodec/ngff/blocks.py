"""Arrays into Zarr arrays, block by block, so that either may be larger than memory; each chunk is encoded once, whole."""

import asyncio
import zlib
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync

from ..errors import CaeCodecError, ParameterError

BLOCK_BYTES = 2**26  # enough chunks at once for batches of the network
_UNREADABLE = (RuntimeError, ValueError, EOFError, zlib.error)  # what codecs raise for damaged chunks

Source = npt.NDArray[Any] | zarr.Array[Any]


def store(group: zarr.Group, path: str, source: Source, **options: Any) -> None:
    """Write all values of `source` into a new array of `group`; `options` are those of zarr.create_array but shape and dtype.

    Chunks that reach over the edge are filled up with the values next to it, which costs a codec less than any other.
    Raises what reading and encoding raise; then nothing more is written afterwards.
    """
    chunks = options["chunks"]
    unit = options.get("shards") or chunks
    padded = tuple(-(-n // chunk) * chunk for n, chunk in zip(source.shape, chunks, strict=True))
    array = group.create_array(path, shape=padded, dtype=source.dtype.newbyteorder("="), **options)
    block = block_shape(padded, unit, source.chunks if isinstance(source, zarr.Array) else unit, source.dtype.itemsize)
    try:
        for region in regions(padded, block):
            data = read(source, region)
            missing = [(0, part.stop - part.start - n) for part, n in zip(region, data.shape, strict=True)]
            array[region] = np.pad(data, missing, mode="edge")
    except Exception:  # of any kind, and raised again: zarr's other chunks go on, and would make a folder anew that is removed
        sync(settle())
        raise
    array.resize(source.shape)


def read(source: Source, region: tuple[slice, ...]) -> npt.NDArray[Any]:
    """The values of a part of an array, or a ParameterError that names the array where they cannot be decoded."""
    try:
        return np.asarray(source[region])
    except CaeCodecError:
        raise
    except _UNREADABLE as error:
        raise ParameterError(f"array {getattr(source, 'path', '')!r} cannot be read: {error}") from error


def regions(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The blocks of an array of this shape, in order; those at its end may be smaller."""
    starts = (range(0, n, side) for n, side in zip(shape, block, strict=True))
    for start in product(*starts):
        yield tuple(slice(a, min(a + side, n)) for a, side, n in zip(start, block, shape, strict=True))


def block_shape(shape: tuple[int, ...], unit: tuple[int, ...], read_unit: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A block of whole units to write that is as large as a unit to read, and then as BLOCK_BYTES allow."""
    block = [-(-max(one, min(other, n)) // one) * one for n, one, other in zip(shape, unit, read_unit, strict=True)]
    for axis in reversed(range(len(shape))):
        while block[axis] < shape[axis] and 2 * prod(block) * itemsize <= BLOCK_BYTES:
            block[axis] *= 2
    return tuple(block)


async def settle() -> None:
    """Wait for what else runs in zarr's event loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)
