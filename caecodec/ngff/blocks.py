"""Copies arrays into Zarr arrays block by block, so that both may be larger than memory; each chunk is encoded once."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.common import concurrent_map
from zarr.core.sync import sync

from ..errors import CaeCodecError, ParameterError
from ..images.image import Windows
from ..images.windows import chunks_of
from ..storage.settling import settle
from .chunk_runner import ChunkRunner, Written, raise_if_stopped
from .journal import Journal

Region = tuple[slice, ...]
BLOCK_BYTES = 2**26  # holds enough chunks for the network's batches
_UNREADABLE = (RuntimeError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)  # raised by other codecs for damaged chunks


def store(
    group: zarr.Group,
    path: str,
    source: Windows,
    runner: ChunkRunner | None = None,
    notes: Path | None = None,
    channels: int = 1,
    **options: Any,
) -> None:
    """Write all values of `source` into an array of `group`; `options` are those of zarr.create_array except shape and dtype.

    Chunks that reach over the edge are filled up with the values next to it, which cost a codec the fewest bytes. Each chunk,
    or shard, is either complete or absent, whatever happens. With `notes`, a folder where is noted what is complete without
    being stored, an array that exists, begun with the same options, is continued: only its missing chunks are written.
    `channels`: how many the array has.
    Raises what reading and encoding raise; nothing more is written after that.
    """
    runner = runner or ChunkRunner()
    runner.begin(path, channels)
    unit = options.get("shards") or options["chunks"]
    padded = padded_shape(source.shape, options["chunks"])
    if notes is None or not isinstance(array := group.get(path), zarr.Array):
        array = group.create_array(path, shape=padded, dtype=source.dtype.newbyteorder("="), **options)
    elif "attributes" in options:
        array.attrs.put(options["attributes"])  # a Zarr v2 array keeps them in a document of their own
    if array.shape != padded:  # it is finished, and has its final shape
        count = chunk_count(padded, array.chunks)
        runner.count(Written(count, count))
        return
    block = block_shape(padded, unit, chunks_of(source) or unit, source.dtype.itemsize)
    writer = BlockWriter(array, source, unit, notes)
    try:
        if runner.cluster:
            runner.cluster.write(writer, regions(padded, block), runner)
        else:
            with ThreadPoolExecutor(1, "caecodec-read") as reader:
                for region, missing, data in _read_ahead(writer, regions(padded, block), runner, reader):
                    raise_if_stopped()
                    writer.put(region, missing, data, runner)
    # The error is raised again once zarr's other chunks have ended; they would recreate the folder after its removal.
    except Exception:
        sync(settle())
        raise
    array.resize(source.shape)


@dataclass(frozen=True, eq=False)
class BlockWriter:
    """Writes blocks of an array; other processes can, because it can be pickled.

    array, source : the array, and its values
    unit : the shape of its shards, or of its chunks if it has none
    notes : the folder where is noted what is complete without being stored; None: nothing that exists is kept
    """

    array: "zarr.Array[Any]"
    source: Windows
    unit: tuple[int, ...]
    notes: Path | None

    def write(self, region: Region, runner: ChunkRunner) -> None:
        """Write those units of a block that are not complete, and let `runner` count them all."""
        if missing := self.missing(region, runner):
            self.put(region, missing, read_padded(self.source, region), runner)

    def missing(self, region: Region, runner: ChunkRunner) -> list[Region]:
        """The units of a block that are not complete; `runner` counts the others."""
        units = list(parts(region, self.unit))
        if self._journal is None:
            return units
        missing = []
        for one, stored in zip(units, self._stored_bytes(units), strict=True):  # zarr renames files into place
            if stored is None and self._key(one) not in self._journal:
                missing.append(one)
            else:
                chunks, nbytes = self._size(one)
                runner.count(Written(chunks, chunks, nbytes, stored or 0))
        return missing

    def put(self, region: Region, missing: list[Region], data: npt.NDArray[Any], runner: ChunkRunner) -> None:
        """Write these units of a block whose values are `data`, and let `runner` count them.

        With `notes`, shards are written one after the other, so that no more than the work on one is lost.
        """

        def write(one: Region) -> None:
            self.array[one] = data[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(one, region, strict=True))]
            self._count([one], runner)

        in_turn = self.notes is not None and self.unit != self.array.chunks
        if not (runner.slow or in_turn) and len(missing) == sum(1 for _ in parts(region, self.unit)):
            self.array[region] = data
            self._count(missing, runner)
            return
        step = 1 if in_turn else len(missing)
        for i in range(0, len(missing), step):
            raise_if_stopped()
            runner.run([partial(write, one) for one in missing[i : i + step]])

    @cached_property
    def _journal(self) -> Journal | None:
        return None if self.notes is None else Journal(self.notes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_journal"}  # each process has its own

    def _count(self, units: list[Region], runner: ChunkRunner) -> None:
        """Count units that were written now, and note those that are not stored."""
        for one, stored in zip(units, self._stored_bytes(units), strict=True):
            if stored is None and self._journal is not None:
                self._journal.add(self._key(one))
            chunks, nbytes = self._size(one)
            runner.count(Written(chunks, 0, nbytes, stored or 0, nbytes // (runner.channels * self.array.dtype.itemsize)))

    def _size(self, one: Region) -> tuple[int, int]:
        """The number of chunks of a unit, and its bytes, uncompressed."""
        shape = tuple(part.stop - part.start for part in one)
        return chunk_count(shape, self.array.chunks), prod(shape) * self.array.dtype.itemsize

    def _key(self, one: Region) -> str:
        place = tuple(part.start // n for part, n in zip(one, self.unit, strict=True))
        return f"{self.array.path}/{self.array.metadata.encode_chunk_key(place)}"

    def _stored_bytes(self, units: list[Region]) -> list[int | None]:
        """The bytes that each of these units is stored in; None for one that is not."""

        async def size(key: str) -> int | None:
            try:
                return await self.array.store.getsize(key)
            except FileNotFoundError:
                return None

        return sync(concurrent_map([(self._key(one),) for one in units], size, zarr.config.get("async.concurrency")))


def _read_ahead(
    writer: BlockWriter, regions: Iterable[Region], runner: ChunkRunner, reader: Executor
) -> Iterator[tuple[Region, list[Region], npt.NDArray[Any]]]:
    """What `BlockWriter.put` takes for each block that is not complete; the next one is read while the caller writes one."""
    last = None
    for region in regions:
        if missing := writer.missing(region, runner):
            data = reader.submit(copy_context().run, read_padded, writer.source, region)
            if last:
                yield *last[:2], last[2].result()
            last = region, missing, data
    if last:
        yield *last[:2], last[2].result()


def read(source: Windows, region: Region) -> npt.NDArray[Any]:
    """The values of a part of an array, in this machine's byte order.

    Raises ParameterError, which names the array, if they cannot be decoded.
    """
    try:
        values = np.asarray(source[region])
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    # After any error zarr reads its other chunks on: they must end before the caller closes the source. All errors are raised
    # again, and those that a damaged chunk causes say which array it is in.
    except Exception as error:
        sync(settle())
        if isinstance(error, CaeCodecError) or not isinstance(error, _UNREADABLE):
            raise
        raise ParameterError(f"array {getattr(source, 'path', '')!r} cannot be read: {error}") from error


def read_padded(source: Windows, region: Region) -> npt.NDArray[Any]:
    """The same for a part that reaches over the edge, filled up with the values next to the edge."""
    data = read(source, region)
    missing = [(0, part.stop - part.start - n) for part, n in zip(region, data.shape, strict=True)]
    return np.pad(data, missing, mode="edge") if any(after for _, after in missing) else data


def padded_shape(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the whole chunks that cover an array."""
    return tuple(-(-n // chunk) * chunk for n, chunk in zip(shape, chunks, strict=True))


def chunk_count(shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """How many chunks cover an array."""
    return prod(-(-n // chunk) for n, chunk in zip(shape, chunks, strict=True))


def regions(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Region]:
    """The blocks of an array of this shape, in order; those at its end may be smaller."""
    return parts(tuple(slice(0, n) for n in shape), block)


def parts(region: Region, side: tuple[int, ...]) -> Iterator[Region]:
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
