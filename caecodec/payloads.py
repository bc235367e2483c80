"""The payloads of a stored array, as bytes: one for each chunk that is stored, sharded or not, without decoding any."""

import math
import struct
from collections.abc import Iterator
from typing import Any

import zarr
from zarr.codecs import ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from .errors import CorruptionError, ParameterError
from .numcodecs import Compressor
from .overfitted.parameters import OverfittedParameters
from .parameters import Parameters
from .zarr import Serializer

_DOCUMENTS = ("zarr.json", ".zarray", ".zattrs")
_UNFINISHED = ".partial"  # what zarr writes before it renames it; a killed writer leaves it behind
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_CRC_BYTES = 4


def parameters(array: zarr.Array[Any]) -> Parameters | OverfittedParameters:
    """The parameters of the caecodec codec of an array; ParameterError when it has none."""
    codec: Any = array.metadata.compressor if array.metadata.zarr_format == 2 else array.serializer
    if not isinstance(codec, Compressor | Serializer):
        raise ParameterError(f"array {array.store_path} is not coded by caecodec but by {codec}; name one that is")
    return codec.parameters


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


def _inner(shard: bytes, array: zarr.Array[Any], key: str) -> Iterator[bytes]:
    """The inner chunks of a shard, by the index at its end (or start), of (offset, length) pairs of little-endian uint64."""
    assert array.shards is not None
    codec: Any = array.metadata.codecs[0]  # type: ignore[union-attr]  # v2 metadata has no codecs, and no shards
    assert isinstance(codec, ShardingCodec)
    index_codecs = [dict(c.to_dict()) for c in codec.index_codecs]
    if index_codecs != _INDEX_CODECS:
        raise ParameterError(f"shard index of {array.store_path} is coded by {index_codecs}, which is not read here")
    count = math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    size = 16 * count
    index = shard[:size] if "start" in str(codec.index_location) else shard[-size - _CRC_BYTES : -_CRC_BYTES]
    if len(index) != size:
        raise CorruptionError(f"shard {key} has {len(shard)} bytes, too few for its index: it is cut short")
    for offset, length in struct.iter_unpack("<QQ", index):
        if (offset, length) == _NO_CHUNK:
            continue
        if offset + length > len(shard):
            raise CorruptionError(f"shard {key} has {len(shard)} bytes but its index names more: it is damaged")
        yield shard[offset : offset + length]
