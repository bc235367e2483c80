"""The codecs of an array, layer by layer: shards, the shards in them, and at last the chunks that a codec of caecodec codes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numcodecs.abc
import zarr
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ..codecs.base import Codec, Parameters
from ..errors import CorruptionError, ParameterError
from ..numcodecs import Compressor
from ..zarr import Serializer


@dataclass(frozen=True)
class ShardLayer:
    """The codecs of one nesting of chunks.

    filters : those before the serializer
    serializer : the codec that turns a chunk into bytes; a ShardingCodec if the chunk holds those of the next layer, and in the
        last layer the codec of caecodec, if the array has one
    compressors : those after it
    chunk_shape : the shape of its chunks; if they have several, the greatest length along each axis
    regular : whether they have only one
    spec : a chunk of that shape as the serializer gets it
    """

    filters: tuple[Any, ...]
    serializer: Any
    compressors: tuple[Any, ...]
    chunk_shape: tuple[int, ...]
    regular: bool
    spec: ArraySpec

    def unpack(self, data: bytes, key: str) -> bytes:
        """The bytes that the serializer wrote, from those that are stored; CorruptionError if they cannot be decoded."""
        for codec in reversed(self.compressors):
            try:
                data = self._decoded(codec, data)
            # Codecs document no errors: damage raises RuntimeError, ValueError, zlib.error and others.
            except Exception as error:
                raise CorruptionError(f"chunk {key} cannot be decoded by {name(codec)}: it is damaged ({error})") from error
        return data

    def _decoded(self, codec: Any, data: bytes) -> bytes:
        if isinstance(codec, numcodecs.abc.Codec):
            return bytes(memoryview(codec.decode(data)).cast("B"))
        buffer = self.spec.prototype.buffer.from_bytes(data)
        (decoded,) = sync(codec.decode([(buffer, self.spec)]))
        found: bytes = decoded.to_bytes()
        return found


def layers(array: zarr.Array[Any]) -> list[ShardLayer]:
    """The layers of an array, from the chunks that are stored to those in the innermost shards."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        chain = [*(metadata.filters or ()), *([] if metadata.compressor is None else [metadata.compressor])]
        at = next((i for i, codec in enumerate(chain) if isinstance(codec, Compressor)), max(0, len(chain) - 1))
        serializer = chain[at] if chain else None
        spec = _spec(array, metadata.chunks)
        return [ShardLayer(tuple(chain[:at]), serializer, tuple(chain[at + 1 :]), metadata.chunks, True, spec)]
    shape = getattr(metadata.chunk_grid, "chunk_shape", None)
    regular = shape is not None
    greatest = shape if regular else tuple(max(sizes, default=1) for sizes in array.write_chunk_sizes)
    return list(_nested(metadata.codecs, _spec(array, greatest), regular))


def coded_by(array: zarr.Array[Any]) -> tuple[Codec[Any, Any], Parameters]:
    """The caecodec codec of an array, and its parameters; ParameterError if it has none."""
    codec = layers(array)[-1].serializer
    if not isinstance(codec, Compressor | Serializer):
        by = ", ".join(names(array)) or "no codec"
        raise ParameterError(f"array {array.store_path} is not coded by caecodec but by {by}; name one that is")
    return codec.codec, codec.parameters


def names(array: zarr.Array[Any]) -> list[str]:
    """The names of all codecs of an array, from the values to the bytes."""
    found = layers(array)
    inwards = [name(codec) for layer in found for codec in (*layer.filters, layer.serializer) if codec is not None]
    return inwards + [name(codec) for layer in reversed(found) for codec in layer.compressors]


def same(array: zarr.Array[Any], other: zarr.Array[Any]) -> bool:
    """Whether two arrays have the same codecs with the same parameters."""
    mine, others = array.metadata.to_dict(), other.metadata.to_dict()
    return all(mine.get(key) == others.get(key) for key in ("codecs", "filters", "compressor"))


def name(codec: Any) -> str:
    """The name of a codec in the metadata of an array."""
    return str(codec.codec_id if isinstance(codec, numcodecs.abc.Codec) else codec.to_dict()["name"])


def as_coded(array: zarr.Array[Any], shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a part of an array as the innermost codec sees it, after the filters of all layers."""
    found = _spec(array, tuple(shape))
    if array.metadata.zarr_format == 3:
        for layer in layers(array):
            found = _filtered(layer.filters, found)
    return found.shape


def chunk_grid(array: zarr.Array[Any]) -> tuple[tuple[int, ...], int]:
    """The shape of the innermost chunks (of several, the greatest length along each axis), and how many cover the array."""
    inner = layers(array)[-1]
    if not inner.regular:
        return inner.chunk_shape, math.prod(map(len, array.read_chunk_sizes))
    return inner.chunk_shape, math.prod(-(-n // chunk) for n, chunk in zip(array.shape, inner.chunk_shape, strict=True))


def _nested(codecs: Sequence[Any], spec: ArraySpec, regular: bool) -> Iterator[ShardLayer]:
    at = next(i for i, codec in enumerate(codecs) if isinstance(codec, ArrayBytesCodec))
    seen = _filtered(codecs[:at], spec)
    yield ShardLayer(tuple(codecs[:at]), codecs[at], tuple(codecs[at + 1 :]), spec.shape, regular, seen)
    if isinstance(codecs[at], ShardingCodec):
        yield from _nested(codecs[at].codecs, replace(seen, shape=codecs[at].chunk_shape), regular=True)


def _filtered(filters: Sequence[ArrayArrayCodec], spec: ArraySpec) -> ArraySpec:
    """A chunk as filters leave it."""
    for codec in filters:
        spec = codec.resolve_metadata(spec)
    return spec


def _spec(array: zarr.Array[Any], shape: Any) -> ArraySpec:
    dtype, fill = array.metadata.dtype, array.metadata.fill_value
    return ArraySpec(shape, dtype, fill, ArrayConfig.from_dict({}), default_buffer_prototype())
