"""Reads the payloads of an array, sharded or not, without decoding them: the bytes of each stored chunk."""

import asyncio
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import google_crc32c
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ..codecs.base import Codec, Parameters
from ..errors import CorruptionError, ParameterError
from ..numcodecs import Compressor
from ..zarr import Serializer

_DOCUMENTS = ("zarr.json", ".zarray", ".zattrs")
_UNFINISHED = ".partial"  # of files that zarr has not yet renamed; a killed writer leaves them behind
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_CRC_BYTES = 4


def coded_by(array: zarr.Array[Any]) -> tuple[Codec[Any, Any], Parameters]:
    """The caecodec codec of an array, and its parameters; ParameterError if it has none."""
    codec: Any = array.metadata.compressor if array.metadata.zarr_format == 2 else array.serializer
    if not isinstance(codec, Compressor | Serializer):
        raise ParameterError(f"array {array.store_path} is not coded by caecodec but by {codec}; name one that is")
    return codec.codec, codec.parameters


def payloads(array: zarr.Array[Any]) -> Iterator[bytes]:
    """The bytes of each stored chunk; chunks that hold only the fill value are not stored.

    Raises CorruptionError for a damaged shard index, and ParameterError for one that is coded in an unusual way.
    """
    prefix = f"{array.path}/" if array.path else ""

    async def keys() -> list[str]:
        return sorted([key async for key in array.store.list_prefix(prefix)])

    for key in sync(keys()):
        if key.rsplit("/", 1)[-1] in _DOCUMENTS or key.endswith(_UNFINISHED):
            continue
        buffer = sync(array.store.get(key, default_buffer_prototype()))
        if buffer is None:
            continue
        data = buffer.to_bytes()
        if array.shards is None:
            yield data
        else:
            yield from _inner(data, array, key)


def fetch(array: zarr.Array[Any], chunks: Sequence[tuple[int, ...]]) -> list[bytes | None]:
    """The bytes of the chunks at these positions in the grid of chunks; None for a chunk that is not stored.

    Only the index and these chunks of a shard are read. Raises the errors of `payloads`, and ParameterError for an array that
    has other codecs as well.
    """
    others = [*(array.filters or ()), *(array.compressors if array.metadata.zarr_format == 3 else ())]
    if others:
        raise ParameterError(f"array {array.store_path} has other codecs too, {others}; read it with array[...]")
    return sync(_fetch(array, chunks))


async def _fetch(array: zarr.Array[Any], chunks: Sequence[tuple[int, ...]]) -> list[bytes | None]:
    room = asyncio.Semaphore(zarr.config.get("async.concurrency"))

    async def get(key: str, part: ByteRequest | None = None) -> bytes | None:
        async with room:
            buffer = await array.store.get(f"{array.path}/{key}" if array.path else key, default_buffer_prototype(), part)
        return None if buffer is None else buffer.to_bytes()

    if array.shards is None:
        return await asyncio.gather(*(get(array.metadata.encode_chunk_key(chunk)) for chunk in chunks))
    in_shard = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    shards = [tuple(i // n for i, n in zip(chunk, in_shard, strict=True)) for chunk in chunks]
    places = [tuple(i % n for i, n in zip(chunk, in_shard, strict=True)) for chunk in chunks]
    keys = {shard: array.metadata.encode_chunk_key(shard) for shard in shards}
    size, at_start = _index_size(array)
    part = RangeByteRequest(0, size) if at_start else SuffixByteRequest(size)
    found = await asyncio.gather(*(get(key, part) for key in keys.values()))
    indices = {
        shard: None if data is None else _parse_index(data, array, key)
        for (shard, key), data in zip(keys.items(), found, strict=True)
    }

    async def inner(shard: tuple[int, ...], place: tuple[int, ...]) -> bytes | None:
        index = indices[shard]
        entry = None if index is None else index[_ravel(place, in_shard)]
        if entry is None or entry == _NO_CHUNK:
            return None
        return await get(keys[shard], RangeByteRequest(entry[0], sum(entry)))

    return await asyncio.gather(*(inner(shard, place) for shard, place in zip(shards, places, strict=True)))


def _ravel(place: tuple[int, ...], grid: tuple[int, ...]) -> int:
    """The number of a position in a grid, in C order."""
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number


def _inner(shard: bytes, array: zarr.Array[Any], key: str) -> Iterator[bytes]:
    """The inner chunks of a shard."""
    size, at_start = _index_size(array)
    for offset, length in _parse_index(shard[:size] if at_start else shard[-size:], array, key):
        if (offset, length) == _NO_CHUNK:
            continue
        if offset + length > len(shard):
            raise CorruptionError(f"shard {key} has {len(shard)} bytes but its index points beyond them: it is damaged")
        yield shard[offset : offset + length]


def _index_size(array: zarr.Array[Any]) -> tuple[int, bool]:
    """The size of a shard's index in bytes, and whether it is at the start; ParameterError if it is coded in an unusual way."""
    assert array.shards is not None
    codec: Any = array.metadata.codecs[0]  # type: ignore[union-attr]  # v2 metadata has no shards: asserted above
    assert isinstance(codec, ShardingCodec)
    index_codecs = [dict(c.to_dict()) for c in codec.index_codecs]
    if index_codecs != _INDEX_CODECS:
        raise ParameterError(
            f"shard index of {array.store_path} is coded by {index_codecs} but must be coded by {_INDEX_CODECS}; "
            "read it with array[...], or copy it with zarr's default index_codecs"
        )
    count = math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    return 16 * count + _CRC_BYTES, "start" in str(codec.index_location)


def _parse_index(data: bytes, array: zarr.Array[Any], key: str) -> list[tuple[int, int]]:
    """The (offset, length) pairs of little-endian uint64 in the index of a shard."""
    size, _ = _index_size(array)
    if len(data) != size:
        raise CorruptionError(f"shard {key} has {len(data)} bytes, too few for its index: it is cut short")
    entries, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    if google_crc32c.value(entries) != stored:
        raise CorruptionError(f"index of shard {key} does not match its CRC-32C: it is damaged")
    return list(struct.iter_unpack("<QQ", entries))
