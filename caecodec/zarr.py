"""zarr v3 codecs: the serializers of Zarr v3 arrays (names caecodec.cae and caecodec.overfitted)."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from . import pixels
from .decoding import decode
from .overfitted.parameters import OverfittedParameters
from .parameters import Parameters
from .weights import DEFAULT, Spec

NAME = "caecodec.cae"
OVERFITTED_NAME = "caecodec.overfitted"


@dataclass(frozen=True, init=False, repr=False)
class Serializer(ArrayBytesCodec):
    """What the codecs share; each says how it encodes and decodes a chunk."""

    is_fixed_size = False
    name: ClassVar[str]

    parameters: Parameters | OverfittedParameters

    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        raise NotImplementedError

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        raise NotImplementedError

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
            pixels.check(tuple(chunk), _native(dtype), self.parameters.channel_axis)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before encoding: raises NotImplementedError, by which zarr knows that of a compressor."""
        raise NotImplementedError

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return chunk_spec.prototype.buffer.from_bytes(self._encode(chunk_data.as_numpy_array()))

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        array = self._decode(chunk_data.to_bytes(), chunk_spec.shape, _native(chunk_spec.dtype))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

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

    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        from . import codec  # here, because it imports torch: metadata alone opens without

        return codec.encode_with(self.parameters, array, self.gpu)

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return decode(data, self.parameters.weights, self.gpu, shape, dtype)


@dataclass(frozen=True, init=False, repr=False)
class OverfittedAutoencoder(Serializer):
    """Compression by latents and a network fitted to each chunk, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.OverfittedAutoencoder`.
    """

    name: ClassVar[str] = OVERFITTED_NAME

    parameters: OverfittedParameters

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
    ) -> None:
        parameters = OverfittedParameters.parse(quality, lmbda, preset, decoder, channel_axis, tune, seed, network)
        object.__setattr__(self, "parameters", parameters)

    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        from .overfitted import codec

        return codec.encode_with(self.parameters, array)

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return decode(data, expected_shape=shape, expected_dtype=dtype, network=self.parameters.section)


def _native(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a zarr one."""
    native: np.dtype[Any] = dtype.to_native_dtype()
    return native
