"""Side by side: a few images at one or two rates, by caecodec and by each other codec at the nearest rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .curves import Measurement, Pixels
from .images import EvaluationImage
from .sweep import SweepResult, middle


@dataclass(frozen=True)
class Crop:
    """What a codec made of a part of an image, (height, width, 3) uint8, and the values of the whole image."""

    name: str
    setting: str
    pixels: Pixels
    values: Measurement


@dataclass(frozen=True)
class Comparison:
    """The same part of one image: the original, the first caecodec curve's, and the others' at the nearest rate."""

    image: str
    original: Pixels
    crops: tuple[Crop, ...]


def chosen(images: int, samples: int) -> tuple[int, ...]:
    """The numbers, from 0, of `samples` of so many images, spread evenly."""
    count = min(samples, images)
    return tuple((2 * i + 1) * images // (2 * count) for i in range(count))


def compare_crops(images: Sequence[EvaluationImage], swept: SweepResult, numbers: Sequence[int]) -> tuple[Comparison, ...]:
    """The middles of the images of these numbers, which the sweep was to show, at up to two rates each.

    The rates are those of the first contender at a quarter and at three quarters of its settings; the others' settings are
    those whose bits per pixel of the same image are nearest, in ratio.
    """
    last = len(swept.curves[0].points) - 1
    settings = sorted({round(last / 4), round(3 * last / 4)})
    return tuple(_compare(images[number], number, swept, setting) for number in numbers for setting in settings)


def _compare(image: EvaluationImage, number: int, swept: SweepResult, setting: int) -> Comparison:
    rate = swept.curves[0].points[setting].images[number].bpp
    crops: list[Crop] = []
    for curve in swept.curves:
        values = [point.images[number] for point in curve.points]
        nearest = setting if not crops else min(range(len(values)), key=lambda s: abs(math.log(values[s].bpp / rate)))
        name = curve.points[nearest].setting
        crops.append(Crop(curve.name, name, swept.middles[number, curve.name, name], values[nearest]))
    return Comparison(image.info.name, middle(image.file.pixels()), tuple(crops))
