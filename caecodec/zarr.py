"""zarr v3 codecs: the serializers of Zarr v3 arrays (names caecodec.cae and caecodec.overfitted)."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from .chunks.axes import check_chunk
from .chunks.pending import Pending
from .codecs.autoencoder.parameters import Parameters
from .codecs.decoding import Decoding, decode, start_decode
from .codecs.overfitted.parameters import OverfittedParameters
from .weights import DEFAULT, Spec

if TYPE_CHECKING:
    from torch import Tensor

NAME = "caecodec.cae"
OVERFITTED_NAME = "caecodec.overfitted"


@dataclass(frozen=True, init=False, repr=False)
class Serializer(ArrayBytesCodec):
    """What the codecs share; each says how it encodes and decodes a chunk."""

    is_fixed_size = False
    name: ClassVar[str]

    parameters: Parameters | OverfittedParameters

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec that array metadata describes."""
        _, configuration = parse_named_configuration(data, cls.name, require_configuration=False)
        return cls(**(configuration or {}))

    def to_dict(self) -> dict[str, JSON]:
        """What array metadata stores: the name and the parameters, but for gpu."""
        return {"name": self.name, "configuration": self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """ParameterError unless the array's dtype and chunks can be encoded."""
        chunk = getattr(chunk_grid, "chunk_shape", None)  # only regular grids have one shape; encode checks the others
        if chunk is not None:
            check_chunk(tuple(chunk), _native(dtype), self.parameters.channel_axis)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before encoding: raises NotImplementedError, by which zarr knows that of a compressor."""
        raise NotImplementedError  # zarr's protocol for codecs of variable size, as its gzip and zstd do

    # zarr's base classes are no ABC, in which these could be abstract.

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        raise NotImplementedError  # abstract: both codecs below define it

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        raise NotImplementedError  # abstract: both codecs below define it

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)


@dataclass(frozen=True, init=False, repr=False)
class ConvolutionalAutoencoder(Serializer):
    """Learned compression of image chunks, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.ConvolutionalAutoencoder`.
    """

    name: ClassVar[str] = NAME

    parameters: Parameters
    gpu: bool | None = field(compare=False)

    def __init__(
        self,
        quality: int | None = None,
        metric: str = "mse",
        channel_axis: int | None = -1,
        weights: str | Path | Spec = DEFAULT,
        gpu: bool | None = None,
        entropy: str | None = None,
        max_error: float | None = None,
        psnr: float | None = None,
        bpp: float | None = None,
    ) -> None:
        parameters = Parameters.parse(quality, metric, channel_axis, weights, entropy, max_error, psnr, bpp)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "gpu", gpu)

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return chunk_spec.prototype.buffer.from_bytes(self._start_encode(chunk_data).result())

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._finish_decode(self._start_decode(chunk_data, chunk_spec), chunk_spec)

    # Where a device works on batches there is no thread for each chunk: there would be too few of them.

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        if not self._in_batches(chunk_data.as_ndarray_like()):
            return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)
        encoding = self._start_encode(chunk_data)
        await encoding.wait()
        return chunk_spec.prototype.buffer.from_bytes(encoding.result())

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        if not self._in_batches(chunk_data.as_array_like()):
            return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)
        decoding = self._start_decode(chunk_data, chunk_spec)
        await decoding.pending.wait()
        return self._finish_decode(decoding, chunk_spec)

    def _start_encode(self, chunk_data: NDBuffer) -> Pending[bytes]:
        from .codecs.autoencoder import codec  # here, because it imports torch: metadata alone opens without

        array = chunk_data.as_ndarray_like()
        chunk = _from_cuda(array) if _is_cuda(array) else chunk_data.as_numpy_array()
        return codec.start_encode(self.parameters, chunk, self._gpu(array))

    def _start_decode(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Decoding:
        array, dtype = chunk_data.as_array_like(), _native(chunk_spec.dtype)
        data, weights = chunk_data.to_bytes(), self.parameters.weights
        return start_decode(data, weights, self._gpu(array), chunk_spec.shape, dtype, keep=_is_cuda(array))

    def _finish_decode(self, decoding: Decoding, chunk_spec: ArraySpec) -> NDBuffer:
        if decoding.kept:
            return chunk_spec.prototype.nd_buffer.from_ndarray_like(_to_cuda(decoding.tensor()))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(decoding.result(copy=False))

    def _gpu(self, array: Any) -> bool | None:
        """What was asked for; for arrays that are on a GPU, it, unless something else was asked for."""
        return True if self.gpu is None and _is_cuda(array) else self.gpu

    def _in_batches(self, array: Any) -> bool:
        """Whether a device works on batches of chunks, of values or bytes such as these."""
        from .engine import DevicePlacement, engine

        return engine().line(DevicePlacement.choose(self._gpu(array))).batches


@dataclass(frozen=True, init=False, repr=False)
class OverfittedAutoencoder(Serializer):
    """Compression by latents and a network fitted to each chunk, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.OverfittedAutoencoder`.
    """

    name: ClassVar[str] = OVERFITTED_NAME

    parameters: OverfittedParameters
    gpu: bool | None = field(compare=False)

    def __init__(
        self,
        quality: int | None = None,
        lmbda: float | None = None,
        preset: str = "fast",
        decoder: str | None = None,
        channel_axis: int | None = -1,
        tune: str = "mse",
        seed: int = 0,
        network: bytes | str | None = None,
        gpu: bool | None = None,
    ) -> None:
        parameters = OverfittedParameters.parse(quality, lmbda, preset, decoder, channel_axis, tune, seed, network)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "gpu", gpu)

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        from .codecs.overfitted import codec

        return chunk_spec.prototype.buffer.from_bytes(codec.encode_with(self.parameters, chunk_data.as_numpy_array(), self.gpu))

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        data, dtype, section = chunk_data.to_bytes(), _native(chunk_spec.dtype), self.parameters.section
        array = decode(data, expected_shape=chunk_spec.shape, expected_dtype=dtype, network=section)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)


def _is_cuda(array: Any) -> bool:
    """Whether an array is on a GPU, as cupy's are, which zarr.config.enable_gpu() makes of chunks and bytes."""
    return hasattr(array, "__cuda_array_interface__")


def _from_cuda(array: Any) -> "Tensor":
    """A cupy array as a tensor of the same memory, in the order of this thread's streams."""
    import torch

    tensor: Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor


def _to_cuda(tensor: "Tensor") -> Any:
    """A tensor on the GPU as a cupy array of the same memory; one on the CPU as a copy."""
    import cupy  # here, because it is there only where somebody uses it

    return cupy.from_dlpack(tensor) if tensor.is_cuda else cupy.asarray(tensor.numpy())


def _native(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a zarr one."""
    native: np.dtype[Any] = dtype.to_native_dtype()
    return native
