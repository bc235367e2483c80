"""The compared codecs: caecodec in any configuration and those of imagecodecs, as functions that encode and decode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..bitstream.autoencoder import MAX_QUALITY
from ..codecs import registry
from ..codecs.autoencoder.interface import AUTOENCODER
from ..codecs.autoencoder.parameters import AutoencoderParameters, parse_entropy
from ..codecs.base import Codec, Parameters
from ..codecs.decoding import start_decode
from ..codecs.overfitted.interface import OVERFITTED
from ..codecs.parse import parse_metric, parse_quality
from ..engine import DevicePlacement
from ..errors import ParameterError, WeightsError
from ..weights import CHECKPOINT_SUFFIXES, COMPRESSAI, Spec, resolve
from . import extra
from .curves import CurveKind, Pixels


@dataclass(frozen=True)
class CodecSetting:
    """One setting of a codec: images (height, width, 3) uint8 to bytes and back; `about` names all that the bytes depend on."""

    name: str
    about: str
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes], Pixels]


@dataclass(frozen=True)
class ComparedCodec:
    """A codec in one configuration, with the settings that make its curve; `about` says how it is run.

    slow : it takes minutes for an image, so each result is reported, and nothing is run to warm up
    finer : more settings, in close steps and in the order of rates, the curve's among them, to match another codec's rate
    """

    name: str
    kind: CurveKind
    about: str
    settings: tuple[CodecSetting, ...]
    slow: bool = False
    finer: tuple[CodecSetting, ...] = ()


def caecodec(
    weights: Sequence[str | Path],
    metrics: Sequence[str],
    qualities: Sequence[int] | None,
    entropy: str | None,
    gpu: bool | None,
) -> tuple[ComparedCodec, ...]:
    """A codec for each of the weights and metrics, with these qualities, or all that the weights have.

    Raises
    ------
    ParameterError
        An unknown metric, quality or entropy; or weights that do not say which qualities or metric they hold, if these are left
        open.
    WeightsError
        There are no such weights, they lack a quality in all of the metrics, or they have no context tables but entropy asks
        for them.
    """
    metrics = [parse_metric(metric) for metric in metrics]
    parse_entropy(entropy)
    found: dict[tuple[Spec, str], list[AutoencoderParameters]] = {}
    for spec in dict.fromkeys(Spec.parse(w) for w in weights):
        for metric, quality in _available(spec, metrics, qualities):
            parameters = AUTOENCODER.parse(quality=quality, metric=metric, weights=spec, entropy=entropy)
            pinned = spec.path or spec.digest  # a name may stand for several files, each with some of the qualities
            same = found.setdefault((parameters.weights if pinned else Spec(parameters.weights.name), metric), [])
            if parameters not in same:
                same.append(parameters)
    plain = [(_label(spec), metric) for spec, metric in found]
    codecs, place = [], DevicePlacement.choose(gpu)
    for (spec, metric), configurations in found.items():
        unique = plain.count((_label(spec), metric)) == 1
        name = f"caecodec {_label(spec) if unique else spec} {metric}"
        files = ", ".join(dict.fromkeys(str(parameters.weights) for parameters in configurations))
        about = f"weights {files}, metric {metric}, entropy model {entropy or 'context if the weights have it'}"
        settings = tuple(
            _setting(AUTOENCODER, f"quality {one.quality}", f"cae {one}, {place.device}, {place.precision}", one, gpu)
            for one in configurations
        )
        codecs.append(ComparedCodec(name, "caecodec", about, settings))
    return tuple(codecs)


def overfitted(
    presets: Sequence[str], qualities: Sequence[int] | None, decoder: str | None, gpu: bool | None
) -> tuple[ComparedCodec, ...]:
    """A codec for each preset of the overfitted codec, with these qualities, or all.

    Raises ParameterError for an unknown preset, quality or decoder, and for a missing device.
    """
    codecs = []
    device = DevicePlacement.choose(gpu).device.partition(":")[0]
    for preset in dict.fromkeys(presets):
        configurations = [
            OVERFITTED.parse(quality=quality, preset=preset, decoder=decoder)
            for quality in (range(1, MAX_QUALITY + 1) if qualities is None else sorted(set(qualities)))
        ]
        settings = tuple(
            _setting(OVERFITTED, f"quality {one.quality}", f"overfitted {one} lmbda={one.trade_off} {device}", one, gpu)
            for one in configurations
        )
        name = f"caecodec overfitted {preset}" + (f" {decoder}" if decoder else "")
        about = f"a network fitted to each chunk: preset {preset}, decoder {decoder or 'by the size of the chunk'}, tune mse"
        codecs.append(ComparedCodec(name, "caecodec", about, settings, slow=True))
    return tuple(codecs)


def registered(names: Sequence[str], qualities: Sequence[int] | None, gpu: bool | None) -> tuple[ComparedCodec, ...]:
    """The codecs of these names, of caecodec's registry, at their operating points."""
    found, place = [], DevicePlacement.choose(gpu)
    for codec in (registry.codecs()[name] for name in dict.fromkeys(names)):
        settings = tuple(
            _setting(codec, name, f"{codec.name} {parameters}, {place.device}, {place.precision}", parameters, gpu)
            for name, parameters in codec.operating_points(qualities)
        )
        found.append(ComparedCodec(f"caecodec {codec.name}", "caecodec", f"codec {codec.name}", settings, codec.slow))
    return tuple(found)


def _setting(codec: Codec[Any, Any], name: str, about: str, parameters: Parameters, gpu: bool | None) -> CodecSetting:
    def decode(data: bytes) -> Pixels:
        return start_decode(data, parameters.dependencies, gpu).result()

    return CodecSetting(name, about, partial(codec.encode, parameters, gpu=gpu), decode)


def _available(spec: Spec, metrics: Sequence[str], qualities: Sequence[int] | None) -> list[tuple[str, int]]:
    """The metrics and qualities of these weights to measure."""
    checkpoint = spec.path is not None and spec.path.suffix in CHECKPOINT_SUFFIXES
    if qualities is None and (checkpoint or spec.name == COMPRESSAI):
        raise ParameterError(f"weights {str(spec)!r} do not list their qualities; pass qualities (--qualities 1-5)")
    if checkpoint and len(metrics) > 1:
        raise ParameterError(f"weights {str(spec)!r} do not say their metric; pass metrics (--metric mse, or ms-ssim)")
    found, missing = [], []
    for quality in range(1, MAX_QUALITY + 1) if qualities is None else sorted({parse_quality(q) for q in qualities}):
        errors = []
        for metric in metrics:
            try:
                resolve(spec, metric, quality)
                found.append((metric, quality))
            except WeightsError as error:
                errors.append(error)
        if len(errors) == len(metrics):
            missing += errors
    if missing and (qualities is not None or not found):
        raise missing[0]
    return found


def _label(spec: Spec) -> str:
    return spec.path.name if spec.path else spec.name


@dataclass(frozen=True)
class _Reference:
    """A codec of imagecodecs: the stem of its functions' names, the levels that make its curve, and the step between others."""

    stem: str
    title: str
    level: str
    unit: str
    levels: tuple[int, ...]
    step: float
    options: dict[str, Any]
    about: str


_REFERENCES = {
    "jpeg": _Reference(
        "jpeg8", "JPEG", "level", "quality {}", (5, 10, 20, 35, 50, 65, 80, 90), 1,
        {"subsampling": "420", "optimize": True}, "4:2:0, Huffman tables fitted to each chunk",
    ),
    "jpeg2k": _Reference(
        "jpeg2k", "JPEG 2000", "level", "{} dB", (24, 27, 30, 33, 36, 39, 42), 0.25,
        {"codecformat": "j2k", "reversible": False, "mct": True}, "9/7 wavelet, bare codestream",
    ),
    "jpegxl": _Reference(
        "jpegxl", "JPEG XL", "distance", "distance {}", (15, 10, 7, 5, 3, 2, 1), -0.125,
        {"effort": 7}, "effort 7, bare codestream; from distance 10 it halves the resolution",
    ),
    "webp": _Reference(
        "webp", "WebP", "level", "quality {}", (1, 10, 30, 50, 70, 85, 95), 1,
        {"lossless": False, "method": 6}, "lossy (4:2:0), method 6",
    ),
    "avif": _Reference(
        "avif", "AVIF", "level", "quality {}", (10, 20, 30, 45, 60, 75, 85), 1,
        {"speed": 6, "pixelformat": "yuv444"}, "4:4:4, speed 6",
    ),
}  # fmt: skip
CODECS = tuple(_REFERENCES)


def references(names: Sequence[str]) -> tuple[ComparedCodec, ...]:
    """The reference codecs of these names; ParameterError for names not in CODECS, and for those that imagecodecs lacks."""
    unknown = [name for name in names if name not in CODECS]
    if unknown:
        raise ParameterError(f"codec is {unknown[0]!r} but reference codecs are {', '.join(CODECS)} (or none)")
    return tuple(_reference(name) for name in dict.fromkeys(names))


def _reference(name: str) -> ComparedCodec:
    imagecodecs, codec = extra.module("imagecodecs"), _REFERENCES[name]
    if not getattr(imagecodecs, codec.stem.upper()).available:
        raise ParameterError(f"codec {name!r} is not in this build of imagecodecs; leave it out of codecs (--codecs)")
    encode, decode = (getattr(imagecodecs, f"{codec.stem}_{direction}") for direction in ("encode", "decode"))
    version = getattr(imagecodecs, f"{codec.stem}_version")().replace("_", "-")

    def setting(level: float) -> CodecSetting:
        about = f"{version}, {codec.level} {level:g}, {codec.options}"
        return CodecSetting(
            codec.unit.format(f"{level:g}"), about, partial(encode, **{codec.level: level}, **codec.options), decode
        )

    first, last = codec.levels[0], codec.levels[-1]
    finer = tuple(setting(first + i * codec.step) for i in range(round((last - first) / codec.step) + 1))
    settings = tuple(setting(level) for level in codec.levels)
    return ComparedCodec(codec.title, "reference codec", f"{version}; {codec.about}", settings, finer=finer)
