"""Shows images at a few rates, coded by caecodec and by the other codecs at as many bits per pixel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .compared import CodecSetting, ComparedCodec
from .curves import Measurement, Pixels

PLACES = (1 / 7, 3 / 7)  # where among the settings of the first codec the rates are: of qualities 1 to 8, at 2 and 4


@dataclass(frozen=True)
class Crop:
    """A part of an image as a codec decoded it, (height, width, 3) uint8, and the measurement of the whole image."""

    name: str
    setting: str
    pixels: Pixels
    values: Measurement


@dataclass(frozen=True)
class Comparison:
    """One part of an image: the original, and for each rate the crops of all codecs, of which the first sets the rate."""

    image: str
    original: Pixels
    rates: tuple[tuple[Crop, ...], ...]


@dataclass(frozen=True)
class CodedImage:
    """An image coded at one setting: its measurement, and a function that returns the part to show."""

    setting: CodecSetting
    values: Measurement
    part: Callable[[], Pixels]


Code = Callable[[ComparedCodec, CodecSetting], CodedImage]
Rate = Callable[[CodecSetting], float]


def chosen(images: int, samples: int | None) -> tuple[int, ...]:
    """The numbers, from 0, of `samples` images spread evenly over all `images`; of all for None."""
    count = images if samples is None else min(samples, images)
    return tuple((2 * i + 1) * images // (2 * count) for i in range(count))


def middle(image: Pixels, side: int) -> Pixels:
    """The middle of an image: side x side pixels, or fewer if the image is smaller; all of it for side 0."""
    y, x = (max(0, (n - (side or n)) // 2) for n in image.shape[:2])
    return image[y : y + (side or image.shape[0]), x : x + (side or image.shape[1])]


def match_rates(
    image: str, original: Pixels, coded: Sequence[tuple[ComparedCodec, Sequence[CodedImage]]], code: Code, bpp: Rate
) -> Comparison:
    """Match the codecs' rates for an image of which `original` is the part to show.

    The rates are those of the first codec at two of its settings. Each other codec takes the setting whose bits per pixel are
    nearest, by their ratio, among its `finer` settings if it has any.

    coded : the image at each codec's settings
    code, bpp : code the image at another setting, in full, or only to see its bits per pixel
    """
    first = coded[0][1]
    rates = []
    for place in sorted({round(place * (len(first) - 1)) for place in PLACES}):
        rate = first[place].values.bpp
        taken = [(coded[0][0], first[place])]
        taken += [(codec, _nearest(rate, codec, results, code, bpp)) for codec, results in coded[1:]]
        rates.append(tuple(Crop(codec.name, one.setting.name, one.part(), one.values) for codec, one in taken))
    return Comparison(image, original, tuple(rates))


def _nearest(rate: float, codec: ComparedCodec, coded: Sequence[CodedImage], code: Code, bpp: Rate) -> CodedImage:
    """The image coded at the setting that is nearest to this rate."""
    nearest = min(coded, key=lambda one: _distance(one.values.bpp, rate))
    if not codec.finer:
        return nearest
    places = {setting.name: place for place, setting in enumerate(codec.finer)}
    rates = {places[one.setting.name]: one.values.bpp for one in coded}
    below = max((place for place in rates if rates[place] <= rate), default=None)
    above = min((place for place in rates if rates[place] > rate), default=None)
    if below is None or above is None:
        return nearest
    while above - below > 1:
        between = (below + above) // 2
        rates[between] = bpp(codec.finer[between])
        below, above = (between, above) if rates[between] <= rate else (below, between)
    found = codec.finer[min(rates, key=lambda place: _distance(rates[place], rate))]
    return next((one for one in coded if one.setting.name == found.name), None) or code(codec, found)


def _distance(bpp: float, rate: float) -> float:
    return abs(math.log(bpp / rate))
