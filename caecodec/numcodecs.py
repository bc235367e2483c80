"""numcodecs codecs, as compressors of Zarr v2 arrays or serializers of Zarr v3.

Their ids are caecodec_cae, caecodec_overfitted and caecodec_sae.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numcodecs.abc
import numcodecs.compat
import numpy as np
import numpy.typing as npt

from .bitstream.byte_order import as_big_endian
from .chunks.decoded import check_out, deliver
from .chunks.given import as_chunk
from .codecs.autoencoder.interface import AUTOENCODER
from .codecs.autoencoder.parameters import AutoencoderArguments
from .codecs.base import Codec
from .codecs.decoding import parse_payload, start_decode
from .codecs.overfitted.interface import OVERFITTED
from .codecs.overfitted.parameters import OverfittedArguments
from .codecs.parse import parse_stored
from .codecs.scalable.interface import SCALABLE
from .codecs.scalable.parameters import ScalableArguments
from .errors import ParameterError


class Compressor(numcodecs.abc.Codec, dict[str, Any]):  # type: ignore[misc]  # numcodecs has no type hints: its Codec is Any
    """A codec for numcodecs. Derived classes name the codec, and inherit a signature that sets `parameters` and `gpu`.

    It is also a dict that holds the name and the parameters of its counterpart in caecodec.zarr. zarr accepts such a dict as
    `serializer=` and makes the counterpart of it, so one object serves both formats. A class cannot derive from the codecs of
    numcodecs and of zarr, because both have methods `encode` and `decode` with different meanings.
    """

    codec: ClassVar[Codec[Any, Any]]
    parameters: Any  # the signatures declare the class
    gpu: bool | None

    def __init__(self) -> None:
        super().__init__(name=self.codec.zarr_name, configuration={**self.parameters.arguments(), "gpu": self.gpu})

    def encode(self, buf: Any) -> bytes:
        """Compress one chunk, an N-d array, into a payload, which says in what byte order the array was.

        Raises ParameterError for a chunk that the codec does not accept.
        """
        array = buf if isinstance(buf, np.ndarray) else _array(buf)
        payload = self.codec.encode(self.parameters, as_chunk(array), self.gpu)
        return as_big_endian(payload) if array.dtype.str.startswith(">") else payload

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk in a payload, as a `DecodedChunk`; or `out`, an array of its shape or a flat one, or as many bytes.

        The chunk has the byte order that was encoded: filters before this codec take its bytes for those that they wrote.

        Raises CorruptionError (before anything is allocated if `out` does not fit), FormatVersionError or WeightsError.
        """
        data = np.ascontiguousarray(_array(buf)).view(np.uint8).reshape(-1).data
        if out is not None:
            header = parse_payload(data).header
            check_out(header.shape, header.numpy_dtype, out)
        return deliver(start_decode(data, self.parameters.dependencies, self.gpu).as_given(), out)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The codec that array metadata describes; FormatVersionError for parameters that only a newer caecodec knows."""
        return cls(**parse_stored(cls, config))

    def get_config(self) -> dict[str, Any]:
        """What array metadata stores: the id and the parameters, without gpu."""
        return {"id": self.codec_id, **self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"


def _array(buf: Any) -> npt.NDArray[Any]:
    """A buffer as an array."""
    try:
        array: npt.NDArray[Any] = numcodecs.compat.ensure_ndarray(buf)
    except TypeError as error:
        raise ParameterError(
            f"{type(buf).__name__} is no array and no buffer of bytes, of which one is needed; pass numpy.asarray of it"
        ) from error
    return array


class ConvolutionalAutoencoder(AutoencoderArguments, Compressor):
    """Learned compression of image chunks by a convolutional autoencoder.

    As ``compressors=`` of a Zarr v2 array, or as ``serializer=`` of a Zarr v3 array with ``compressors=None``.

    Parameters
    ----------
    quality
        1 (smallest) to 8 (best); 8 if none of quality, psnr, bpp and max_error is given.
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        The axis of a chunk's channels: -1 for y, x, c; -3 for c, y, x; None if it has none. Three uint8 channels are RGB.
    weights
        An installed name, the path of a .safetensors file or of a CompressAI checkpoint, or "compressai"; stored as
        NAME@DIGEST, so that an array says which weights wrote it.
    gpu
        True: CUDA if present; False: the CPU; None: the device of `caecodec.settings`. Not stored.
    entropy
        The entropy model to write with: "context", "binary-context" (weights of the family binary alone), "static" (more bytes,
        the same pixels), or None for the best that the weights have tables for. Stored if given.
    max_error, psnr, bpp
        A bound on the error of every value, or, instead of quality, the least PSNR or the most bits per pixel, as in
        `caecodec.encode`. Stored if given.

    Raises
    ------
    ParameterError
        A parameter is outside its range, or two contradict each other.
    WeightsError
        There are no such weights for this quality and metric, or they lack the tables that entropy asks for.
    """

    codec_id: ClassVar[str] = AUTOENCODER.codec_id
    codec: ClassVar[Codec[Any, Any]] = AUTOENCODER


class OverfittedAutoencoder(OverfittedArguments, Compressor):
    """Compression of image chunks by latents and a small network that are fitted to each: slow to write, quick to read.

    As ``compressors=`` of a Zarr v2 array, or as ``serializer=`` of a Zarr v3 array with ``compressors=None``.

    Parameters
    ----------
    quality
        1 (smallest) to 8 (best); 8 if neither quality nor lmbda is given.
    lmbda
        Instead of quality: what a bit per pixel is worth in mean squared error, of values in [0, 1].
    preset
        How long to fit: "instant", "faster", "fast", "medium", "slow" or "placebo".
    decoder
        The size of the network: "lop", "mop" or "hop"; None chooses it by the size of the chunk.
    channel_axis
        As for `ConvolutionalAutoencoder`.
    tune
        The distortion to fit for: "mse".
    seed
        The seed of the fit's random numbers.
    network
        A network section, as bytes or in base64, that all chunks share. It is stored once, in the metadata.
    gpu
        Where to fit. True: CUDA if present; False: the CPU; None: the device of `caecodec.settings`. Not stored.

    Raises
    ------
    ParameterError
        A parameter is outside its range, or two contradict each other.
    """

    codec_id: ClassVar[str] = OVERFITTED.codec_id
    codec: ClassVar[Codec[Any, Any]] = OVERFITTED


class ScalableAutoencoder(ScalableArguments, Compressor):
    """Learned compression of image chunks in layers: the first ones alone are a smaller image of the same size.

    As ``compressors=`` of a Zarr v2 array, or as ``serializer=`` of a Zarr v3 array with ``compressors=None``.

    Parameters
    ----------
    layers
        How many layers to write; None: all that the weights have.
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        As for `ConvolutionalAutoencoder`.
    weights
        An installed name, or the path of a .safetensors file, of weights with layers; stored as NAME@DIGEST.
    gpu
        True: CUDA if present; False: the CPU; None: the device of `caecodec.settings`. Not stored.

    Raises
    ------
    ParameterError
        A parameter is outside its range.
    WeightsError
        There are no such weights, they have no layers, or they have fewer of them.
    """

    codec_id: ClassVar[str] = SCALABLE.codec_id
    codec: ClassVar[Codec[Any, Any]] = SCALABLE
