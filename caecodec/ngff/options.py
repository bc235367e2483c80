"""The options of a conversion, checked once."""

from dataclasses import dataclass, field
from typing import Any

from ..codecs.autoencoder.parameters import Parameters
from ..codecs.overfitted.parameters import OverfittedParameters
from ..errors import ParameterError
from ..weights import DEFAULT, Source, by_place

CODECS = ("cae", "overfitted", "none", "blosc", "jpeg2k")
LEARNED = ("cae", "overfitted")
NGFF_VERSIONS = ("0.5", "0.4")
DEPTHS = (8, 10)
MAX_CHUNK = 4096
_OF_CODECS = {
    "cae": ("quality", "metric", "weights", "entropy", "max_error", "psnr", "bpp", "with_weights"),
    "overfitted": ("quality", "lmbda", "preset", "decoder", "seed", "shared"),
}
_DEFAULTS: dict[str, Any] = {"metric": "mse", "weights": DEFAULT}


@dataclass(frozen=True)
class Options:
    """How image files and groups become OME-NGFF. None stands for the codec's default.

    quality, metric, weights, entropy, max_error, psnr, bpp : as of `caecodec.ConvolutionalAutoencoder`, for codec "cae"
    quality, lmbda, preset, decoder, seed : as of `caecodec.OverfittedAutoencoder`, for codec "overfitted"
    shared : with codec "overfitted", fit one network to a sample of the chunks of each array, which they all share
    codec : "cae", "overfitted"; or "none", "blosc" (lossless), "jpeg2k" (JPEG 2000 at 32 dB) to compare with
    chunk_size : pixels a side, 16 to 4096
    shard_size : pixels a side of a shard, a multiple of chunk_size; None: no shards
    ngff : "0.5" (Zarr v3) or "0.4" (Zarr v2)
    with_weights : store the weights that the arrays need in the group, for codec "cae"; None: those that are not shipped with
        caecodec
    overwrite : replace outputs that exist
    resume : keep unfinished groups, and continue those that were begun with the same options and source
    size, depth : width and height, and bits, of raw .yuv files; None: as their names say
    gpu : as of the codecs; stored nowhere

    Raises ParameterError or WeightsError for choices that are not there or do not fit.
    """

    quality: int | None = None
    metric: str | None = None
    weights: str | None = None
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
    lmbda: float | None = None
    preset: str | None = None
    decoder: str | None = None
    seed: int | None = None
    shared: bool = False
    resume: bool = False
    size: tuple[int, int] | None = None
    depth: int | None = None
    with_weights: bool | None = None
    parameters: Parameters | OverfittedParameters = field(init=False)

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
        if self.size is not None and min(self.size) < 1:
            raise ParameterError(f"size is {self.size} but width and height must be at least 1")
        if self.depth not in (None, *DEPTHS):
            raise ParameterError(f"depth is {self.depth} but must be {' or '.join(map(str, DEPTHS))} bits")
        given = self._given()
        given.pop("with_weights", None)
        if self.codec == "cae":
            arguments = {**_DEFAULTS, "quality": None, "channel_axis": -3, **given}
            object.__setattr__(self, "parameters", Parameters.parse(**arguments))
        elif self.codec == "overfitted":
            given.pop("shared", None)
            object.__setattr__(self, "parameters", OverfittedParameters.parse(channel_axis=-3, **given))

    def stored(self) -> dict[str, Any]:
        """All that what is written depends on."""
        parameters = {**self.parameters.config(), "shared": self.shared} if self.codec in LEARNED else {}
        names = ("codec", "chunk_size", "shard_size", "ngff", "size", "depth", "with_weights")
        own = {name: getattr(self, name) for name in names}
        return {**own, "size": None if self.size is None else list(self.size), **parameters}

    def carried(self) -> tuple[Source, ...]:
        """The weights to store in the group.

        Raises WeightsError if they are not installed.
        """
        if self.codec != "cae" or self.with_weights is False:
            return ()
        assert isinstance(self.parameters, Parameters)
        if not self.parameters.needs_weights:
            return ()
        shipped = () if self.with_weights else {source.sha256 for source in by_place()["shipped"]}
        needed = {source.sha256: source for source in self.parameters.sources().values()}
        return tuple(source for sha256, source in needed.items() if sha256 not in shipped)

    def _given(self) -> dict[str, Any]:
        """The options of the codec that are not left as they are; ParameterError for those of another one."""
        names = dict.fromkeys(name for of_one in _OF_CODECS.values() for name in of_one)
        given = {name: value for name in names if (value := getattr(self, name)) is not None and value is not False}
        wrong = [name for name in given if name not in _OF_CODECS.get(self.codec, ())]
        if wrong:
            name = wrong[0]
            owner = next(codec for codec, of_one in _OF_CODECS.items() if name in of_one)
            raise ParameterError(
                f"{name} is {given[name]!r} but codec is {self.codec!r}, which has no {name}: leave it out, "
                f"or use codec {owner!r}"
            )
        return given
