"""zarr v3 codec: the serializer of Zarr v3 arrays (name caecodec.cae)."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from . import pixels
from .parameters import Parameters
from .weights import DEFAULT, Spec

NAME = "caecodec.cae"


@dataclass(frozen=True, init=False)
class ConvolutionalAutoencoder(ArrayBytesCodec):
    """Learned compression of image chunks, as ``serializer=`` with ``compressors=None``.

    The parameters and errors are those of `caecodec.ConvolutionalAutoencoder`.
    """

    is_fixed_size = False

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

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec that array metadata describes."""
        _, configuration = parse_named_configuration(data, NAME, require_configuration=False)
        return cls(**(configuration or {}))  # type: ignore[arg-type]  # any JSON: the constructor parses it, with errors that say what is wrong

    def to_dict(self) -> dict[str, JSON]:
        """What array metadata stores: the name and the parameters, but for gpu."""
        return {"name": NAME, "configuration": self.parameters.config()}

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
        from . import codec  # here, because it imports torch: metadata alone opens without

        payload = codec.encode_with(self.parameters, chunk_data.as_numpy_array(), self.gpu)
        return chunk_spec.prototype.buffer.from_bytes(payload)

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        from . import codec

        dtype = _native(chunk_spec.dtype)
        array = codec.decode(chunk_data.to_bytes(), self.parameters.weights, self.gpu, chunk_spec.shape, dtype)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)


def _native(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a zarr one."""
    native: np.dtype[Any] = dtype.to_native_dtype()
    return native
