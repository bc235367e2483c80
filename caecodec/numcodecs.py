"""numcodecs codecs: the compressors of Zarr v2 arrays (ids caecodec_cae and caecodec_overfitted)."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numcodecs.abc
import numcodecs.compat
import numpy as np
import numpy.typing as npt

from .bitstream import families
from .chunks.decoded import DecodedChunk, check_fits
from .codecs.autoencoder.parameters import Parameters
from .codecs.decoding import decode
from .codecs.overfitted.parameters import OverfittedParameters
from .weights import DEFAULT, Spec


class Compressor(numcodecs.abc.Codec):  # type: ignore[misc]  # numcodecs has no type hints: its Codec is Any
    """What the codecs share; each says how it encodes and decodes a chunk."""

    parameters: Parameters | OverfittedParameters

    @abstractmethod
    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        """The payload of a chunk."""

    @abstractmethod
    def _decode(self, data: memoryview) -> npt.NDArray[Any]:
        """The chunk in a payload."""

    def encode(self, buf: Any) -> bytes:
        """Compress one chunk, an N-d array, into a payload.

        Raises ParameterError for a chunk that the codec does not take.
        """
        return self._encode(numcodecs.compat.ensure_ndarray(buf))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk in a payload, a `DecodedChunk`; copied into `out`, an array of its shape or a flat one, where given.

        Raises CorruptionError (before anything is allocated, where `out` does not fit), FormatVersionError or WeightsError.
        """
        data = np.ascontiguousarray(numcodecs.compat.ensure_ndarray(buf)).view(np.uint8).reshape(-1).data
        if out is not None:
            check_fits(families.parse(data).header.shape, np.shape(out))
        array = self._decode(data).view(DecodedChunk)
        array.coded_shape = array.shape
        if out is None:
            return array
        if isinstance(out, np.ndarray) and (out.shape, out.dtype) == (array.shape, array.dtype):
            np.copyto(out, array)  # each value to its place; what follows copies in the order of memory
            return out
        return numcodecs.compat.ndarray_copy(array, out)

    def get_config(self) -> dict[str, Any]:
        """What array metadata stores: the id and the parameters, but for how and where they are run."""
        return {"id": self.codec_id, **self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"


class ConvolutionalAutoencoder(Compressor):
    """Learned compression of image chunks by a convolutional autoencoder.

    Parameters
    ----------
    quality
        1 (smallest) to 8 (best); 8 where neither this nor psnr, bpp or max_error is given.
    metric
        The distortion that the network was trained for, "mse" or "ms-ssim".
    channel_axis
        Where a chunk's channels are: -1 for y, x, c; -3 for c, y, x; None: there are none. Three uint8 channels are RGB.
    weights
        An installed name, the path of a .safetensors file or of a CompressAI checkpoint, or "compressai"; stored as
        NAME@DIGEST, so that an array says which weights wrote it.
    gpu
        True: CUDA where present; False: CPU; None: as `caecodec.settings` says. Not stored.
    entropy
        The entropy model to write with: "context", "static" (more bytes, the same pixels), or None: context where the weights
        have it. Stored where it is given.
    max_error, psnr, bpp
        A bound on the error of every value; or, instead of quality, the PSNR to reach or the bits per pixel to keep to: as in
        `caecodec.encode`. Stored where they are given.

    Raises
    ------
    ParameterError
        A parameter outside its range, or two that contradict each other.
    WeightsError
        There are no such weights for this quality and metric, or they have no context tables and entropy asks for them.
    """

    codec_id: ClassVar[str] = "caecodec_cae"
    parameters: Parameters

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
        self.parameters = Parameters.parse(quality, metric, channel_axis, weights, entropy, max_error, psnr, bpp)
        self.gpu = gpu

    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        from .codecs.autoencoder import codec  # here, because it imports torch: metadata alone opens without

        return codec.encode_with(self.parameters, array, self.gpu)

    def _decode(self, data: memoryview) -> npt.NDArray[Any]:
        return decode(data, self.parameters.weights, self.gpu)


class OverfittedAutoencoder(Compressor):
    """Compression of image chunks by latents and a small network that are fitted to each: slow to write, quick to read.

    Parameters
    ----------
    quality
        1 (smallest) to 8 (best); 8 where neither this nor lmbda is given.
    lmbda
        Instead of quality: what a bit per pixel is worth in mean squared error, of values in [0, 1].
    preset
        How long to fit: "instant", "faster", "fast", "medium", "slow" or "placebo".
    decoder
        The size of the network: "lop", "mop" or "hop"; None: by the size of the chunk.
    channel_axis
        As of `ConvolutionalAutoencoder`.
    tune
        The distortion to fit for: "mse".
    seed
        Of the fit's random numbers.
    network
        A network section, as bytes or in base64, that all chunks share; stored in metadata alone, once.
    gpu
        Where to fit: True: CUDA where present; False: CPU; None: as `caecodec.settings` says. Not stored.

    Raises
    ------
    ParameterError
        A parameter outside its range, or two that contradict each other.
    """

    codec_id: ClassVar[str] = "caecodec_overfitted"
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
        gpu: bool | None = None,
    ) -> None:
        self.parameters = OverfittedParameters.parse(quality, lmbda, preset, decoder, channel_axis, tune, seed, network)
        self.gpu = gpu

    def _encode(self, array: npt.NDArray[Any]) -> bytes:
        from .codecs.overfitted import codec

        return codec.encode_with(self.parameters, array, self.gpu)

    def _decode(self, data: memoryview) -> npt.NDArray[Any]:
        return decode(data, network=self.parameters.section)
