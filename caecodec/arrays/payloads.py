"""The payloads of a stored array, as bytes: one for each chunk that is stored, sharded or not, without decoding any."""

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
_UNFINISHED = ".partial"  # what zarr writes before it renames it; a killed writer leaves it behind
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_CRC_BYTES = 4


def coded_by(array: zarr.Array[Any]) -> tuple[Codec[Any, Any], Parameters]:
    """The caecodec codec of an array, and its parameters; ParameterError when it has none."""
    codec: Any = array.metadata.compressor if array.metadata.zarr_format == 2 else array.serializer
    if not isinstance(codec, Compressor | Serializer):
        raise ParameterError(f"array {array.store_path} is not coded by caecodec but by {codec}; name one that is")
    return codec.codec, codec.parameters


def payloads(array: zarr.Array[Any]) -> Iterator[bytes]:
    """The bytes of each chunk that is stored; chunks of the fill value alone are not.

    Raises CorruptionError for a shard whose index is damaged, ParameterError for an index of an uncommon kind.
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
    """The bytes of the chunks at these places in the grid of chunks; None where one is not stored.

    Of a shard, only its index and these chunks are read. Raises as `payloads` does, and ParameterError for an array with other
    codecs besides.
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
    """The number of a place in a grid, the last axis varying fastest."""
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
            raise CorruptionError(f"shard {key} has {len(shard)} bytes but its index names more: it is damaged")
        yield shard[offset : offset + length]


def _index_size(array: zarr.Array[Any]) -> tuple[int, bool]:
    """How many bytes the index of a shard has, and whether it is at the start; ParameterError for an uncommon kind."""
    assert array.shards is not None
    codec: Any = array.metadata.codecs[0]  # type: ignore[union-attr]  # of a union with v2's, which has no shards: asserted above
    assert isinstance(codec, ShardingCodec)
    index_codecs = [dict(c.to_dict()) for c in codec.index_codecs]
    if index_codecs != _INDEX_CODECS:
        raise ParameterError(f"shard index of {array.store_path} is coded by {index_codecs}, which is not read here")
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
