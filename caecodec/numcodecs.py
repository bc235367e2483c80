"""numcodecs codecs: compressors of Zarr v2 arrays (ids caecodec_cae and caecodec_overfitted), serializers of Zarr v3 arrays."""

from typing import Any, ClassVar

import numcodecs.abc
import numcodecs.compat
import numpy as np

from .chunks.decoded import check_fits, deliver
from .codecs.autoencoder.interface import AUTOENCODER
from .codecs.autoencoder.parameters import AutoencoderArguments
from .codecs.base import Codec
from .codecs.decoding import parse_payload, start_decode
from .codecs.overfitted.interface import OVERFITTED
from .codecs.overfitted.parameters import OverfittedArguments


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
        """Compress one chunk, an N-d array, into a payload.

        Raises ParameterError for a chunk that the codec does not take.
        """
        return self.codec.encode(self.parameters, numcodecs.compat.ensure_ndarray(buf), self.gpu)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk in a payload, a `DecodedChunk`; copied into `out`, an array of its shape or a flat one, where given.

        Raises CorruptionError (before anything is allocated, where `out` does not fit), FormatVersionError or WeightsError.
        """
        data = np.ascontiguousarray(numcodecs.compat.ensure_ndarray(buf)).view(np.uint8).reshape(-1).data
        if out is not None:
            check_fits(parse_payload(data).header.shape, np.shape(out))
        return deliver(start_decode(data, self.parameters.dependencies, self.gpu).result(), out)

    def get_config(self) -> dict[str, Any]:
        """What array metadata stores: the id and the parameters, but for how and where they are run."""
        return {"id": self.codec_id, **self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"


class ConvolutionalAutoencoder(AutoencoderArguments, Compressor):
    """Learned compression of image chunks by a convolutional autoencoder.

    As ``compressors=`` of a Zarr v2 array, or as ``serializer=`` of a Zarr v3 array with ``compressors=None``.

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

    codec_id: ClassVar[str] = AUTOENCODER.codec_id
    codec: ClassVar[Codec[Any, Any]] = AUTOENCODER


class OverfittedAutoencoder(OverfittedArguments, Compressor):
    """Compression of image chunks by latents and a small network that are fitted to each: slow to write, quick to read.

    As ``compressors=`` of a Zarr v2 array, or as ``serializer=`` of a Zarr v3 array with ``compressors=None``.

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

    codec_id: ClassVar[str] = OVERFITTED.codec_id
    codec: ClassVar[Codec[Any, Any]] = OVERFITTED
