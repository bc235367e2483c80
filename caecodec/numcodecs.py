"""numcodecs codec: the compressor of Zarr v2 arrays (id caecodec_cae)."""

from pathlib import Path
from typing import Any, ClassVar

import numcodecs.abc
import numcodecs.compat
import numpy as np

from .parameters import Parameters
from .weights import DEFAULT, Spec


class ConvolutionalAutoencoder(numcodecs.abc.Codec):  # type: ignore[misc]  # numcodecs is untyped
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

    def encode(self, buf: Any) -> bytes:
        """Compress one chunk, an N-d array, into a payload.

        Raises ParameterError for a chunk that the codec does not take.
        """
        from . import codec  # here, because it imports torch: metadata alone opens without

        return codec.encode_with(self.parameters, numcodecs.compat.ensure_ndarray(buf), self.gpu)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk in a payload; copied into `out`, an array of its size, where that is given.

        Raises CorruptionError, FormatVersionError or WeightsError.
        """
        from . import codec

        data = np.ascontiguousarray(numcodecs.compat.ensure_ndarray(buf)).view(np.uint8).reshape(-1)
        array = codec.decode(data.data, self.parameters.weights, self.gpu)
        return array if out is None else numcodecs.compat.ndarray_copy(array, out)

    def get_config(self) -> dict[str, Any]:
        """What array metadata stores: the id and the parameters, but for gpu."""
        return {"id": self.codec_id, **self.parameters.config()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters})"
