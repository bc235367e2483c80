"""Images and codecs -> curves: each image is cut into chunks, which are coded one by one, reassembled and compared."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ..errors import CaeCodecError, ParameterError
from ..images.metrics import MS_SSIM_SIDE, ms_ssim, psnr
from .cache import Cache, key
from .compared import CodecSetting, ComparedCodec
from .curves import Curve, ImageInfo, Measurement, Pixels, Point
from .images import EvaluationImage
from .side_by_side import CodedImage, Comparison, match_rates, middle

LineListener = Callable[[str], None]


class SweepResult(NamedTuple):
    """The curve of each codec, and for each image to show what the codecs make of it."""

    curves: tuple[Curve, ...]
    comparisons: tuple[Comparison, ...]


def sweep(
    images: Sequence[EvaluationImage],
    codecs: Sequence[ComparedCodec],
    chunk: int,
    say: LineListener,
    cache: Cache | None = None,
    shown: Collection[int] = (),
    side: int = 0,
) -> SweepResult:
    """Measure each codec at each of its settings.

    say : called with a line about each image when its turn comes, and about each result of a slow codec
    cache : where results are looked up, and saved as they come
    shown : the numbers, from 0, of the images to show
    side : how much of each to show: the middle side x side pixels; 0: all of it

    Raises ParameterError if a codec does not take an image.
    """
    bench = _Bench(chunk, cache, side)
    measured: dict[tuple[str, str], list[Measurement]] = {(c.name, s.name): [] for c in codecs for s in c.settings}
    comparisons = []
    for number, image in enumerate(images):
        say(f"{number + 1}/{len(images)} {image.info.name}")
        pixels = image.file.pixels()
        coded: dict[str, list[CodedImage]] = {codec.name: [] for codec in codecs}
        for codec, setting in ((c, s) for c in codecs for s in c.settings):
            one = bench.result(image.info.name, pixels, codec, setting)
            measured[codec.name, setting.name].append(one.values)
            if codec.slow:
                say(f"  {codec.name}, {setting.name}: {one.values.bpp:.4f} bpp, {one.values.psnr:.2f} dB")
            if number in shown:
                coded[codec.name].append(one)
        if number in shown:
            comparisons.append(
                match_rates(
                    image.info.name,
                    middle(pixels, side),
                    [(codec, coded[codec.name]) for codec in codecs],
                    partial(bench.result, image.info.name, pixels),
                    partial(_bpp, pixels, chunk),
                )
            )
    curves = (
        Curve(c.name, c.kind, c.about, tuple(Point.mean(s.name, tuple(measured[c.name, s.name])) for s in c.settings))
        for c in codecs
    )
    return SweepResult(tuple(curves), tuple(comparisons))


class _Bench:
    """Measures images, or takes results from the cache."""

    def __init__(self, chunk: int, cache: Cache | None, side: int) -> None:
        self._chunk, self._cache, self._side = chunk, cache, side
        self._ready: set[str] = set()  # the settings that ran once, so that their networks are loaded

    def result(self, name: str, pixels: Pixels, codec: ComparedCodec, setting: CodecSetting) -> CodedImage:
        """The image at this setting; of the decoded image it keeps the middle alone, or the payloads if they were saved."""
        chunk, saved = self._chunk, ""
        if self._cache:
            saved = key(pixels, setting, chunk)
            found = self._cache.get(saved, name)
            if found:
                values, payloads = found
                return CodedImage(setting, values, lambda: middle(restore(payloads, pixels.shape, setting, chunk), self._side))
        if not codec.slow and setting.about not in self._ready:
            code(pixels[: chunk or None, : chunk or None], codec, setting, chunk)  # not timed: this loads the network
            self._ready.add(setting.about)
        values, payloads, decoded = measure(name, pixels, codec, setting, chunk)
        if self._cache:
            self._cache.put(saved, codec.name, setting.name, values, payloads)
        part = middle(decoded, self._side).copy()
        return CodedImage(setting, values, lambda: part)


def _bpp(pixels: Pixels, chunk: int, setting: CodecSetting) -> float:
    """The bits per pixel of an image at this setting."""
    height, width, _ = pixels.shape
    return 8 * sum(len(setting.encode(np.ascontiguousarray(part))) for part in cut(pixels, chunk)) / (int(height) * int(width))


class Measured(NamedTuple):
    """One image at one setting: its measurement, the payloads of its chunks, and the decoded image."""

    values: Measurement
    payloads: list[bytes]
    decoded: Pixels


def measure(name: str, pixels: Pixels, codec: ComparedCodec, setting: CodecSetting, chunk: int) -> Measured:
    """Code one image at one setting, and measure it."""
    decoded, payloads, encoding, decoding = code(pixels, codec, setting, chunk)
    area = pixels.shape[0] * pixels.shape[1]
    size = sum(map(len, payloads))
    values = Measurement(
        image=name,
        bytes=size,
        bpp=8 * size / area,
        psnr=psnr(pixels, decoded),
        ms_ssim=ms_ssim(pixels, decoded) if min(pixels.shape[:2]) >= MS_SSIM_SIDE else None,
        encode_s_per_mp=encoding / area * 1e6,
        decode_s_per_mp=decoding / area * 1e6,
    )
    return Measured(values, payloads, decoded)


def code(pixels: Pixels, codec: ComparedCodec, setting: CodecSetting, chunk: int) -> tuple[Pixels, list[bytes], float, float]:
    """Code the chunks of an image: the decoded image, the payloads, and the seconds for encoding and for decoding."""
    decoded, payloads = np.empty_like(pixels), []
    encoding, decoding = 0.0, 0.0
    for part, place in zip(cut(pixels, chunk), cut(decoded, chunk), strict=True):
        part = np.ascontiguousarray(part)
        try:
            start = time.perf_counter()
            payload = setting.encode(part)
            between = time.perf_counter()
            place[...] = setting.decode(payload)
            decoding += time.perf_counter() - between
        except CaeCodecError:
            raise
        except (RuntimeError, ValueError) as error:  # what imagecodecs raises
            raise ParameterError(
                f"{codec.name}, {setting.name}, cannot code {part.shape[1]} x {part.shape[0]} pixels: {error}; "
                "pass a smaller chunk (--chunk), or leave the codec out (--codecs)"
            ) from error
        encoding += between - start
        payloads.append(payload)
    return decoded, payloads, encoding, decoding


def restore(payloads: Sequence[bytes], shape: tuple[int, ...], setting: CodecSetting, chunk: int) -> Pixels:
    """The image of this shape, decoded from the payloads of its chunks."""
    decoded = np.empty(shape, np.uint8)
    for payload, place in zip(payloads, cut(decoded, chunk), strict=True):
        place[...] = setting.decode(payload)
    return decoded


def cut(image: Pixels, chunk: int) -> list[Pixels]:
    """Views of the image's chunks, row by row; the whole image for chunk 0."""
    side = chunk or max(image.shape[:2])
    return [image[y : y + side, x : x + side] for y in range(0, image.shape[0], side) for x in range(0, image.shape[1], side)]


def notes(images: Sequence[ImageInfo], curves: Sequence[Curve]) -> tuple[str, ...]:
    """What is missing from the curves, and why."""
    said = []
    small = [image.name for image in images if min(image.height, image.width) < MS_SSIM_SIDE]
    if small:
        said.append(
            f"There is no mean MS-SSIM: it needs {MS_SSIM_SIDE} pixels a side, and {_list(small)} have fewer. "
            "Leave smaller images out to get it."
        )
    for curve in curves:
        exact = {m.image: None for point in curve.points for m in point.images if math.isinf(m.psnr)}
        if exact:
            said.append(
                f"{curve.name}: no mean PSNR where {_list(list(exact))} came back exactly, because its PSNR is infinite."
            )
    if any(curve.kind == "published" for curve in curves):
        said.append("Published points were measured by others; compare with them only on the images they were published for.")
    return tuple(said)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
