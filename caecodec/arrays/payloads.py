"""Reads the payloads of an array, sharded or not, without decoding them: what its codec of caecodec wrote for each chunk."""

import asyncio
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import google_crc32c
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ..bitstream.first_layers import fetch_layers
from ..errors import CorruptionError, ParameterError
from .layers import ShardLayer, coded_by, layers, name

__all__ = ["coded_by", "fetch", "fetch_pieces", "payloads", "placed_payloads", "stored"]
GROUP = 512  # chunks whose coded bytes are in memory at once, while as many more are fetched
_DOCUMENT = "zarr.json"  # those of Zarr v2 are hidden, as are files that file managers leave; folders in zip files have no name
_UNFINISHED = ".partial"  # of files that zarr has not yet renamed; a killed writer leaves them behind
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_CRC_BYTES = 4
T = TypeVar("T")


def payloads(array: zarr.Array[Any]) -> Iterator[bytes]:
    """The payload of each stored chunk; chunks that hold only the fill value are not stored. Raises as `placed_payloads`."""
    return (data for _, data in placed_payloads(array))


def placed_payloads(array: zarr.Array[Any]) -> Iterator[tuple[str, bytes]]:
    """What holds the payload of each stored chunk, "chunk KEY" or "shard KEY" with the key in the store, and the payload.

    Raises CorruptionError for a damaged shard index and for a chunk that another codec of the array cannot decode, and
    ParameterError for an index that is coded in an unusual way.
    """
    nesting = layers(array)
    kind = "shard" if len(nesting) > 1 else "chunk"
    for key, data in stored(array):
        for payload in _unpack(data, nesting, key):
            yield f"{kind} {key}", payload


def stored(array: zarr.Array[Any]) -> Iterator[tuple[str, bytes]]:
    """The key of each stored chunk or shard in the store of an array, and what is stored there.

    Raises CorruptionError for a member of a zip file that is damaged or encrypted.
    """
    prefix = f"{array.path}/" if array.path else ""

    async def keys() -> list[str]:
        return sorted([key async for key in array.store.list_prefix(prefix)])

    for key in sync(keys()):
        last = key.rsplit("/", 1)[-1]
        if last in (_DOCUMENT, "") or last.startswith(".") or key.endswith(_UNFINISHED):
            continue
        try:
            buffer = sync(array.store.get(key, default_buffer_prototype()))
        except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise CorruptionError(f"{key} in {array.store} cannot be read: {error}") from error
        if buffer is not None:
            yield key, buffer.to_bytes()


def fetch(array: zarr.Array[Any], chunks: Sequence[tuple[int, ...]], first: int | None = None) -> list[bytes | None]:
    """The bytes of the chunks at these positions in the grid of chunks; None for a chunk that is not stored.

    first : fetch only so many layers of chunks that have layers

    Only the index and these chunks of a shard are read. Raises the errors of `payloads`, and ParameterError for an array that
    has other codecs as well.
    """
    *outer, inner = layers(array)
    others = [codec for layer in (*outer, inner) for codec in (*layer.filters, *layer.compressors)]
    if others or len(outer) > 1:
        what = f"other codecs too, {', '.join(map(name, others))}" if others else "shards within shards"
        raise ParameterError(f"array {array.store_path} has {what}; read it with array[...]")
    return sync(_fetch(array, chunks, Shards.of(outer[0], inner, str(array.store_path)) if outer else None, first))


def fetch_pieces(
    array: zarr.Array[Any], pieces: Iterable[T], place: Callable[[T], Sequence[int]], first: int | None = None
) -> Iterator[tuple[T, bytes | None]]:
    """Each piece with the bytes of the chunk whose position `place` gives; `fetch` explains what is read and raised.

    Pieces are fetched in groups: while the chunks of one group are taken, the next group comes.
    """
    waiting = iter(pieces)
    groups = iter(lambda: list(islice(waiting, GROUP)), [])

    def fetched(group: list[T]) -> list[tuple[T, bytes | None]]:
        return list(zip(group, fetch(array, [tuple(place(piece)) for piece in group], first), strict=True))

    context = copy_context()  # stores may look at that of the caller
    with ThreadPoolExecutor(1) as fetcher:
        group = next(groups, None)
        coming = group and fetcher.submit(context.run, fetched, group)
        while coming:
            found, following = coming.result(), next(groups, None)
            coming = following and fetcher.submit(context.run, fetched, following)
            yield from found


async def _fetch(
    array: zarr.Array[Any], chunks: Sequence[tuple[int, ...]], layout: "Shards | None", first: int | None
) -> list[bytes | None]:
    room = asyncio.Semaphore(zarr.config.get("async.concurrency"))

    async def get(key: str, part: ByteRequest | None = None) -> bytes | None:
        async with room:
            buffer = await array.store.get(f"{array.path}/{key}" if array.path else key, default_buffer_prototype(), part)
        return None if buffer is None else buffer.to_bytes()

    async def payload(key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """The payload at [start, stop) of what is stored at a key, or its first layers."""

        async def part(begin: int, end: int | None) -> bytes | None:
            last = stop if end is None else start + end if stop is None else min(start + end, stop)
            if last is None:
                return await get(key, OffsetByteRequest(begin))
            return await get(key, RangeByteRequest(start + begin, last)) if start + begin < last else b""

        if first is not None:
            return await fetch_layers(part, first)
        return await get(key) if stop is None else await get(key, RangeByteRequest(start, stop))

    if layout is None:
        return await asyncio.gather(*(payload(array.metadata.encode_chunk_key(chunk)) for chunk in chunks))
    in_shard = layout.grid
    shards = [tuple(i // n for i, n in zip(chunk, in_shard, strict=True)) for chunk in chunks]
    places = [tuple(i % n for i, n in zip(chunk, in_shard, strict=True)) for chunk in chunks]
    keys = {shard: array.metadata.encode_chunk_key(shard) for shard in shards}
    part = RangeByteRequest(0, layout.index_bytes) if layout.at_start else SuffixByteRequest(layout.index_bytes)
    found = await asyncio.gather(*(get(key, part) for key in keys.values()))
    indices = {
        shard: None if data is None else layout.parse_index(data, key)
        for (shard, key), data in zip(keys.items(), found, strict=True)
    }

    async def inner(shard: tuple[int, ...], place: tuple[int, ...]) -> bytes | None:
        index = indices[shard]
        entry = None if index is None else index[_ravel(place, in_shard)]
        if entry is None or entry == _NO_CHUNK:
            return None
        return await payload(keys[shard], entry[0], sum(entry))

    return await asyncio.gather(*(inner(shard, place) for shard, place in zip(shards, places, strict=True)))


def _ravel(place: tuple[int, ...], grid: tuple[int, ...]) -> int:
    """The number of a position in a grid, in C order."""
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number


class Shards(NamedTuple):
    """How shards hold their chunks.

    grid : how many chunks a shard has along each axis
    index_bytes : the size of the index
    at_start : whether it is at the start of the shard, or at the end
    """

    grid: tuple[int, ...]
    index_bytes: int
    at_start: bool

    @classmethod
    def of(cls, outer: ShardLayer, inner: ShardLayer, where: str) -> "Shards":
        """The layout of the shards of a layer; ParameterError if their index is coded in an unusual way."""
        codec: ShardingCodec = outer.serializer
        if not outer.regular:
            raise ParameterError(f"shards of {where} have several shapes; read it with array[...]")
        index_codecs = [dict(one.to_dict()) for one in codec.index_codecs]
        if index_codecs != _INDEX_CODECS:
            raise ParameterError(
                f"shard index of {where} is coded by {index_codecs} but must be coded by {_INDEX_CODECS}; "
                "read it with array[...], or copy it with zarr's default index_codecs"
            )
        grid = tuple(s // c for s, c in zip(outer.spec.shape, codec.chunk_shape, strict=True))
        return cls(grid, 16 * math.prod(grid) + _CRC_BYTES, "start" in str(codec.index_location))

    def index_of(self, shard: bytes) -> bytes:
        """The bytes of the index of a shard."""
        return shard[: self.index_bytes] if self.at_start else shard[-self.index_bytes :]

    def parse_index(self, data: bytes, key: str) -> list[tuple[int, int]]:
        """The (offset, length) pairs of little-endian uint64 in an index; CorruptionError if it is damaged."""
        if len(data) != self.index_bytes:
            raise CorruptionError(f"shard {key} has {len(data)} bytes, too few for its index: it is cut short")
        entries, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
        if google_crc32c.value(entries) != stored:
            raise CorruptionError(f"index of shard {key} does not match its CRC-32C: it is damaged")
        return list(struct.iter_unpack("<QQ", entries))

    def pack(self, chunks: Sequence[bytes | None]) -> bytes:
        """A shard that holds these chunks, all of its grid in C order; None for those that are not stored."""
        position = self.index_bytes if self.at_start else 0
        entries: list[int] = []
        for data in chunks:
            entries += _NO_CHUNK if data is None else (position, len(data))
            position += 0 if data is None else len(data)
        index = struct.pack(f"<{len(entries)}Q", *entries)
        index += int(google_crc32c.value(index)).to_bytes(_CRC_BYTES, "little")
        body = b"".join(data for data in chunks if data is not None)
        return index + body if self.at_start else body + index


def _unpack(data: bytes, nesting: Sequence[ShardLayer], key: str) -> Iterator[bytes]:
    """The payloads in what is stored at a key."""
    outer, *inner = nesting
    data = outer.unpack(data, key)
    if not inner:
        yield data
        return
    layout = Shards.of(outer, inner[0], key)
    for offset, length in layout.parse_index(layout.index_of(data), key):
        if (offset, length) != _NO_CHUNK:
            if offset + length > len(data):
                raise CorruptionError(f"shard {key} has {len(data)} bytes but its index points beyond them: it is damaged")
            yield from _unpack(data[offset : offset + length], inner, key)
