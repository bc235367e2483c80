"""Copies arrays into Zarr arrays block by block, so that both may be larger than memory; each chunk is encoded once."""

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync

from ..errors import CaeCodecError, ParameterError
from ..images.image import Windows
from ..storage.settling import settle
from .chunk_runner import ChunkRunner, raise_if_stopped

BLOCK_BYTES = 2**26  # holds enough chunks for the network's batches
_UNREADABLE = (RuntimeError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)  # raised by other codecs for damaged chunks


def store(group: zarr.Group, path: str, source: Windows, runner: ChunkRunner | None = None, **options: Any) -> None:
    """Write all values of `source` into an array of `group`; `options` are those of zarr.create_array except shape and dtype.

    Chunks that reach over the edge are filled up with the values next to it, which cost a codec the fewest bytes. With
    `runner`, chunks (or shards) are written one by one, and each is either complete or absent, whatever happens. If the array
    exists, begun with the same options, only its missing chunks are written.
    Raises what reading and encoding raise; nothing more is written after that.
    """
    unit = options.get("shards") or options["chunks"]
    padded = padded_shape(source.shape, options["chunks"])
    if runner is None or not isinstance(array := group.get(path), zarr.Array):
        array = group.create_array(path, shape=padded, dtype=source.dtype.newbyteorder("="), **options)
    elif array.shape != padded:  # it is finished, and has its final shape
        runner.count_done(chunk_count(padded, array.chunks))
        return
    elif "attributes" in options:
        array.attrs.put(options["attributes"])  # a Zarr v2 array keeps them in a document of their own
    block = block_shape(padded, unit, getattr(source, "chunks", unit), source.dtype.itemsize)
    try:
        for region in regions(padded, block):
            raise_if_stopped()
            if runner is None:
                array[region] = read_padded(source, region)
            else:
                _store_units(array, source, region, unit, runner)
    # The error is raised again once zarr's other chunks have ended; they would recreate the folder after its removal.
    except Exception:
        sync(settle())
        raise
    array.resize(source.shape)


def read(source: Windows, region: tuple[slice, ...]) -> npt.NDArray[Any]:
    """The values of a part of an array, in this machine's byte order.

    Raises ParameterError, which names the array, if they cannot be decoded.
    """
    try:
        values = np.asarray(source[region])
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    except Exception as error:  # whatever it is, zarr goes on with its other chunks
        sync(settle())
        if isinstance(error, CaeCodecError) or not isinstance(error, _UNREADABLE):
            raise
        raise ParameterError(f"array {getattr(source, 'path', '')!r} cannot be read: {error}") from error


def read_padded(source: Windows, region: tuple[slice, ...]) -> npt.NDArray[Any]:
    """The same for a part that reaches over the edge, filled up with the values next to the edge."""
    data = read(source, region)
    missing = [(0, part.stop - part.start - n) for part, n in zip(region, data.shape, strict=True)]
    return np.pad(data, missing, mode="edge")


def padded_shape(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the whole chunks that cover an array."""
    return tuple(-(-n // chunk) * chunk for n, chunk in zip(shape, chunks, strict=True))


def chunk_count(shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """How many chunks cover an array."""
    return prod(-(-n // chunk) for n, chunk in zip(shape, chunks, strict=True))


def regions(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The blocks of an array of this shape, in order; those at its end may be smaller."""
    return parts(tuple(slice(0, n) for n in shape), block)


def parts(region: tuple[slice, ...], side: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The blocks of a part of an array, as `regions`."""
    starts = (range(part.start, part.stop, n) for part, n in zip(region, side, strict=True))
    for start in product(*starts):
        yield tuple(slice(a, min(a + n, part.stop)) for a, n, part in zip(start, side, region, strict=True))


def block_shape(shape: tuple[int, ...], unit: tuple[int, ...], read_unit: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A block of whole units to write: at least as large as a unit to read, and then as large as BLOCK_BYTES allows."""
    block = [-(-max(one, min(other, n)) // one) * one for n, one, other in zip(shape, unit, read_unit, strict=True)]
    for axis in reversed(range(len(shape))):
        while block[axis] < shape[axis] and 2 * prod(block) * itemsize <= BLOCK_BYTES:
            block[axis] *= 2
    return tuple(block)


def _store_units(
    array: zarr.Array[Any], source: Windows, region: tuple[slice, ...], unit: tuple[int, ...], runner: ChunkRunner
) -> None:
    """Write those chunks, or shards, of a block that are missing."""
    missing = []
    for one in parts(region, unit):
        count = chunk_count(tuple(part.stop - part.start for part in one), array.chunks)
        if _is_there(array, one, unit):
            runner.count_done(count)
        else:
            missing.append((one, count))
    if not missing:
        return
    data = read_padded(source, region)

    def write(one: tuple[slice, ...], count: int) -> None:
        array[one] = data[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(one, region, strict=True))]
        runner.count_done(count)

    runner.run([partial(write, one, count) for one, count in missing])


def _is_there(array: zarr.Array[Any], region: tuple[slice, ...], unit: tuple[int, ...]) -> bool:
    """Whether a chunk or shard is stored; zarr renames files into place, so a stored one is complete."""
    key = array.metadata.encode_chunk_key(tuple(part.start // n for part, n in zip(region, unit, strict=True)))
    return sync(array.store.exists(f"{array.path}/{key}"))
