"""The choices of a conversion, checked once."""

from dataclasses import dataclass, field

from ..errors import ParameterError
from ..parameters import Parameters
from ..weights import DEFAULT

CODECS = ("cae", "none", "blosc", "jpeg2k")
NGFF_VERSIONS = ("0.5", "0.4")
MAX_CHUNK = 4096


@dataclass(frozen=True)
class Options:
    """How image files and groups become OME-NGFF.

    quality, metric, weights, gpu, entropy, max_error, psnr, bpp : as of `caecodec.ConvolutionalAutoencoder`
    codec : "cae"; or "none", "blosc" (lossless), "jpeg2k" (JPEG 2000 at 32 dB) to compare with
    chunk_size : pixels a side, 16 to 4096
    shard_size : pixels a side of a shard, a multiple of chunk_size; None: no shards
    ngff : "0.5" (Zarr v3) or "0.4" (Zarr v2)
    overwrite : replace what is there

    Raises ParameterError or WeightsError for choices that are not there or do not fit.
    """

    quality: int | None = None
    metric: str = "mse"
    weights: str = DEFAULT
    codec: str = "cae"
    chunk_size: int = 256
    shard_size: int | None = None
    ngff: str = "0.5"
    overwrite: bool = False
    gpu: bool | None = None
    entropy: str | None = None
    max_error: float | None = None
    psnr: float | None = None
    bpp: float | None = None
    parameters: Parameters = field(init=False)

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ParameterError(f"codec is {self.codec!r} but must be one of {', '.join(CODECS)}")
        if self.ngff not in NGFF_VERSIONS:
            raise ParameterError(f"ngff is {self.ngff!r} but must be one of {', '.join(NGFF_VERSIONS)}")
        if not 16 <= self.chunk_size <= MAX_CHUNK:
            raise ParameterError(f"chunk_size is {self.chunk_size} but must be 16 to {MAX_CHUNK} pixels")
        if self.shard_size is not None:
            if self.ngff == "0.4":
                raise ParameterError("shard_size needs Zarr v3: use ngff 0.5, or leave it out")
            if self.shard_size < self.chunk_size or self.shard_size % self.chunk_size:
                raise ParameterError(f"shard_size is {self.shard_size} but must be a multiple of chunk_size, {self.chunk_size}")
        if self.codec == "cae":
            parameters = Parameters.parse(
                self.quality, self.metric, -3, self.weights, self.entropy, self.max_error, self.psnr, self.bpp
            )
            object.__setattr__(self, "parameters", parameters)
