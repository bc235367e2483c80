"""zarr v3 codecs: the serializers of Zarr v3 arrays (names caecodec.cae, caecodec.overfitted, caecodec.sae)."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import ByteGetter, OffsetByteRequest, RangeByteRequest
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration
from zarr.core.indexing import SelectorTuple
from zarr.storage import StorePath

from .bitstream.first_layers import fetch_layers
from .chunks.cuda_arrays import from_cuda, is_cuda, to_cuda
from .chunks.given import as_chunk
from .chunks.pending import Pending
from .codecs.autoencoder.interface import AUTOENCODER
from .codecs.autoencoder.parameters import AutoencoderArguments
from .codecs.base import Codec, Decoding, Parameters
from .codecs.decoding import start_decode
from .codecs.overfitted.interface import OVERFITTED
from .codecs.overfitted.parameters import OverfittedArguments
from .codecs.parse import parse_stored
from .codecs.scalable.interface import SCALABLE
from .codecs.scalable.parameters import ScalableArguments

NAME = AUTOENCODER.zarr_name
OVERFITTED_NAME = OVERFITTED.zarr_name


@dataclass(frozen=True, init=False, repr=False)
class Serializer(ArrayBytesCodec):
    """A codec for zarr. Derived classes name the codec, and inherit a signature that sets `parameters` and `gpu`."""

    is_fixed_size = False
    codec: ClassVar[Codec[Any, Any]]

    parameters: Parameters
    gpu: bool | None = field(compare=False)

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec that array metadata describes; FormatVersionError for parameters that only a newer caecodec knows."""
        _, configuration = parse_named_configuration(data, cls.codec.zarr_name, require_configuration=False)
        return cls(**parse_stored(cls, configuration or {}))

    def to_dict(self) -> dict[str, JSON]:
        """What array metadata stores: the name and the parameters, without gpu."""
        return {"name": self.codec.zarr_name, "configuration": self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raise NotImplementedError, which tells zarr that the size of payloads varies."""
        raise NotImplementedError  # zarr's protocol for codecs of variable size, as its gzip and zstd do

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return chunk_spec.prototype.buffer.from_bytes(self._start_encode(chunk_data, chunk_spec).result())

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._finish_decode(self._start_decode(chunk_data, chunk_spec), chunk_spec)

    # Chunks for a device that works on batches do not take a thread each: the number of threads would limit the batches.

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        if not self.codec.in_batches(self._gpu(chunk_data.as_ndarray_like())):
            return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)
        encoding = self._start_encode(chunk_data, chunk_spec)
        await encoding.wait()
        return chunk_spec.prototype.buffer.from_bytes(encoding.result())

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        if not self.codec.in_batches(self._gpu(chunk_data.as_array_like())):
            return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)
        decoding = self._start_decode(chunk_data, chunk_spec)
        await decoding.pending.wait()
        return self._finish_decode(decoding, chunk_spec)

    def _start_encode(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Pending[bytes]:
        array = chunk_data.as_ndarray_like()
        chunk = from_cuda(array) if is_cuda(array) else as_chunk(chunk_data.as_numpy_array())
        if tuple(chunk.shape) != chunk_spec.shape:  # some filters flatten chunks
            chunk = chunk.reshape(chunk_spec.shape)
        return self.codec.start_encode(self.parameters, chunk, self._gpu(array))

    def _start_decode(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Decoding:
        array, dtype = chunk_data.as_array_like(), _native(chunk_spec.dtype)
        data, dependencies = chunk_data.to_bytes(), self.parameters.dependencies
        return start_decode(data, dependencies, self._gpu(array), chunk_spec.shape, dtype, keep=is_cuda(array))

    def _finish_decode(self, decoding: Decoding, chunk_spec: ArraySpec) -> NDBuffer:
        if decoding.kept:
            return chunk_spec.prototype.nd_buffer.from_ndarray_like(to_cuda(decoding.tensor()))
        chunk = decoding.result(copy=False).astype(_native(chunk_spec.dtype), copy=False)  # filters view it in this byte order
        return chunk_spec.prototype.nd_buffer.from_numpy_array(chunk)

    def _gpu(self, array: Any) -> bool | None:
        """The codec's `gpu`; if that is None, True for arrays on a GPU."""
        return True if self.gpu is None and is_cuda(array) else self.gpu


class ConvolutionalAutoencoder(AutoencoderArguments, Serializer):
    """Learned compression of image chunks, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.ConvolutionalAutoencoder`, which zarr accepts as serializer as well.
    """

    codec: ClassVar[Codec[Any, Any]] = AUTOENCODER


class OverfittedAutoencoder(OverfittedArguments, Serializer):
    """Compression by latents and a network fitted to each chunk, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.OverfittedAutoencoder`, which zarr accepts as serializer as well.
    """

    codec: ClassVar[Codec[Any, Any]] = OVERFITTED


class ScalableAutoencoder(ScalableArguments, Serializer, ArrayBytesCodecPartialDecodeMixin):
    """Learned compression in layers, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.ScalableAutoencoder`, which zarr accepts as serializer as well. Of chunks
    that are not in shards, zarr fetches only the layers that ``caecodec.settings`` ask for; `caecodec.read` does so in shards
    as well.
    """

    codec: ClassVar[Codec[Any, Any]] = SCALABLE

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: SelectorTuple, chunk_spec: ArraySpec
    ) -> NDBuffer | None:
        async def get(start: int, stop: int | None) -> bytes | None:
            part = OffsetByteRequest(start) if stop is None else RangeByteRequest(start, stop)
            found = await byte_getter.get(chunk_spec.prototype, part)
            return None if found is None else found.to_bytes()

        first = SCALABLE.first_layers(None)
        if first is None or not isinstance(byte_getter, StorePath):  # in a shard, zarr has fetched all of the chunk
            data = await byte_getter.get(chunk_spec.prototype)
        else:
            fetched = await fetch_layers(get, first)
            data = None if fetched is None else chunk_spec.prototype.buffer.from_bytes(fetched)
        return None if data is None else (await self._decode_single(data, chunk_spec))[selection]


def _native(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a zarr dtype."""
    native: np.dtype[Any] = dtype.to_native_dtype()
    return native
