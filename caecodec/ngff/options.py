"""The options of a conversion, checked once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..codecs.base import Codec, Parameters
from ..codecs.registry import codecs
from ..errors import ParameterError
from ..images.image import AXES
from ..weights import Source, by_place

TO_COMPARE = ("none", "blosc", "jpeg2k")
NGFF_VERSIONS = ("0.5", "0.4", "0.6")
KINDS = ("ngff", "cae")
DEPTHS = (8, 10)
PYRAMIDS = ("keep", "build")
AUTO, NONE = "auto", "none"  # backgrounds besides colours
MAX_CHUNK = 4096


def codec_names() -> tuple[str, ...]:
    """The codecs that a conversion can write: those of caecodec, and others to compare with."""
    return (*codecs(), *TO_COMPARE)


def option_names(codec: Codec[Any, Any]) -> tuple[str, ...]:
    """The options of a conversion that only some codecs take, of which this one takes these."""
    carries = ("with_weights",) if codec.carries_weights else ()
    shares = ("shared",) if codec.shares else ()
    return (*(option.name for option in codec.options), *carries, *shares)


def background_values(text: str) -> tuple[float, ...] | None:
    """The values that a text gives, a number, numbers with commas, or a colour's name or #RRGGBB; None for auto and none.

    Raises ParameterError for other texts.
    """
    if text in (AUTO, NONE):
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        pass
    from PIL import ImageColor

    try:
        return tuple(map(float, ImageColor.getrgb(text)[:3]))
    except ValueError as error:
        raise ParameterError(
            f"background is {text!r} but must be {AUTO}, {NONE}, a value, one for each channel (240,238,241), or a colour such "
            "as white or #F0EEF1"
        ) from error


@dataclass(frozen=True)
class Options:
    """How image files and groups become OME-NGFF. None stands for the codec's default.

    quality, metric, weights, entropy, max_error, psnr, bpp : as of `caecodec.ConvolutionalAutoencoder`, for codec "cae"
    quality, lmbda, preset, decoder, seed : as of `caecodec.OverfittedAutoencoder`, for codec "overfitted"
    layers, metric, weights : as of `caecodec.ScalableAutoencoder`, for codec "sae"
    shared : with codec "overfitted", fit one network to a sample of the chunks of each array, which they all share
    codec : "cae", "overfitted", "sae", or one that was registered; or, to compare with, "none", "blosc" (lossless) or "jpeg2k"
        (JPEG 2000 at 32 dB)
    chunk_size : pixels a side, 16 to 4096
    shard_size : pixels a side of a shard, a multiple of chunk_size; None: no shards
    ngff : "0.5" or "0.6" (Zarr v3), or "0.4" (Zarr v2)
    with_weights : store the weights that the arrays need in the group, for codecs "cae" and "sae"; None: those that are not
        shipped with caecodec
    pyramid : "keep" the levels that a source has, and halve the last until it fits a chunk, or "build" all from the full size;
        of a group, "keep" neither adds nor drops any
    background : chunks of nothing else are not stored, or cost a few bytes: a value or colour, "auto" (the most frequent bright
        colour of 8-bit RGB), or "none"; None: "auto" for slides, "none" for others
    background_tolerance : the most by which a value of the background may differ from it; None: 8 for 8 bits and lossy codecs,
        no more than max_error, and 0 for others
    associated : also convert the label, overview and thumbnail of slides, into the group "associated"
    axes : those of Zarr arrays that are no OME-NGFF images, such as "yxc"; None: as they say, or by their shape
    to : "ngff", or "cae" for .cae files, each of one image
    zipped : write groups as zipped files (.ozx)
    overwrite : replace outputs that exist
    resume : keep unfinished groups, and continue those that were begun with the same options and source
    size, depth : width and height, and bits, of raw .yuv files; None: as their names say
    gpu : as of the codecs; stored nowhere
    others : options of a registered codec that are not among these, by name
    learned : the codec, if it is one of caecodec's or a registered one
    parameters : its parameters

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
    layers: int | None = None
    shared: bool = False
    resume: bool = False
    size: tuple[int, int] | None = None
    depth: int | None = None
    with_weights: bool | None = None
    pyramid: str = "keep"
    background: str | None = None
    background_tolerance: float | None = None
    associated: bool = False
    axes: str | None = None
    to: str = "ngff"
    zipped: bool = False
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)
    learned: Codec[Any, Any] | None = field(init=False)
    parameters: Parameters = field(init=False)

    def __post_init__(self) -> None:
        if self.codec not in codec_names():
            raise ParameterError(f"codec is {self.codec!r} but must be one of {', '.join(codec_names())}")
        if self.to not in KINDS:
            raise ParameterError(f"to is {self.to!r} but must be one of {', '.join(KINDS)}")
        if self.ngff not in NGFF_VERSIONS:
            raise ParameterError(f"ngff is {self.ngff!r} but must be one of {', '.join(NGFF_VERSIONS)}")
        if not 16 <= self.chunk_size <= MAX_CHUNK:
            raise ParameterError(f"chunk_size is {self.chunk_size} but must be 16 to {MAX_CHUNK} pixels")
        if self.shard_size is not None:
            if self.ngff == "0.4":
                raise ParameterError("shard_size needs Zarr v3: use ngff 0.5, or leave it out")
            if self.shard_size < self.chunk_size or self.shard_size % self.chunk_size:
                raise ParameterError(f"shard_size is {self.shard_size} but must be a multiple of chunk_size, {self.chunk_size}")
        if self.zipped and self.ngff == "0.4":
            raise ParameterError("zipped groups need Zarr v3: use ngff 0.5 or 0.6, or leave zipped (.ozx) out")
        if self.zipped and self.resume:
            raise ParameterError("resume continues groups in folders, not zipped ones: leave resume or zipped (.ozx) out")
        if self.pyramid not in PYRAMIDS:
            raise ParameterError(f"pyramid is {self.pyramid!r} but must be one of {', '.join(PYRAMIDS)}")
        if self.background is not None:
            background_values(self.background)
        tolerance, bound = self.background_tolerance, self.max_error
        if tolerance is not None and not 0 <= tolerance <= (math.inf if bound is None else bound):
            within = "0 or more" if bound is None else f"0 to max_error, {bound}"
            raise ParameterError(f"background_tolerance is {tolerance} but must be {within}")
        if self.axes is not None and (len(set(self.axes)) < len(self.axes) or not {*"yx"} <= {*self.axes} <= {*AXES}):
            raise ParameterError(f"axes is {self.axes!r} but must name y, x and any of t, c, z, such as 'yxc'")
        if self.size is not None and min(self.size) < 1:
            raise ParameterError(f"size is {self.size} but width and height must be at least 1")
        if self.depth not in (None, *DEPTHS):
            raise ParameterError(f"depth is {self.depth} but must be {' or '.join(map(str, DEPTHS))} bits")
        learned, given = codecs().get(self.codec), self._given()
        object.__setattr__(self, "learned", learned)
        if learned:
            own = {option.name: given[option.name] for option in learned.options if option.name in given}
            object.__setattr__(self, "parameters", learned.parse(channel_axis=-3, **own))

    def stored(self) -> dict[str, Any]:
        """All that what is written depends on."""
        parameters = {**self.parameters.config(), "shared": self.shared} if self.learned else {}
        layout = ("codec", "chunk_size", "shard_size", "ngff", "size", "depth", "with_weights")
        content = ("pyramid", "background", "background_tolerance", "associated", "axes")
        own = {name: getattr(self, name) for name in (*layout, *content)}
        return {**own, "size": None if self.size is None else list(self.size), **parameters}

    def carried(self) -> tuple[Source, ...]:
        """The weights to store in the group.

        Raises WeightsError if they are not installed.
        """
        if not (self.learned and self.learned.carries_weights) or self.with_weights is False:
            return ()
        needed = self.parameters.needed_weights()
        shipped = {source.sha256 for source in by_place()["shipped"]} if needed and not self.with_weights else ()
        return tuple(source for source in needed if source.sha256 not in shipped)

    def _given(self) -> dict[str, Any]:
        """The options of the codec that are not left as they are; ParameterError for those of another one."""
        names = {name: option_names(codec) for name, codec in codecs().items()}
        every = dict.fromkeys([*(one for of_codec in names.values() for one in of_codec), *self.others])
        values = {name: self.others[name] if name in self.others else getattr(self, name, None) for name in every}
        given = {name: value for name, value in values.items() if value is not None and value is not False}
        wrong = [name for name in given if name not in names.get(self.codec, ())]
        if wrong:
            name = wrong[0]
            owner = next((codec for codec, of_codec in names.items() if name in of_codec), None)
            if owner is None:
                raise ParameterError(f"{name} is {given[name]!r} but no codec has an option {name!r}; leave it out")
            raise ParameterError(
                f"{name} is {given[name]!r} but codec is {self.codec!r}, which has no {name}: leave it out, "
                f"or use codec {owner!r}"
            )
        return given
