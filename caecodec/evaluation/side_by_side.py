"""Shows a few images at one or two rates side by side, coded by caecodec and by the other codecs at the nearest rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .curves import Measurement, Pixels
from .images import EvaluationImage
from .sweep import SweepResult, middle


@dataclass(frozen=True)
class Crop:
    """A part of an image as a codec decoded it, (height, width, 3) uint8, and the measurement of the whole image."""

    name: str
    setting: str
    pixels: Pixels
    values: Measurement


@dataclass(frozen=True)
class Comparison:
    """One part of an image: the original, that of the first caecodec curve, and the others' at the nearest rate."""

    image: str
    original: Pixels
    crops: tuple[Crop, ...]


def chosen(images: int, samples: int) -> tuple[int, ...]:
    """The numbers, from 0, of `samples` images spread evenly over all `images`."""
    count = min(samples, images)
    return tuple((2 * i + 1) * images // (2 * count) for i in range(count))


def compare_crops(images: Sequence[EvaluationImage], swept: SweepResult, numbers: Sequence[int]) -> tuple[Comparison, ...]:
    """The middles of the images with these numbers, which the sweep kept, at up to two rates each.

    The rates are those of the first curve at a quarter and at three quarters of its settings. For each other curve, it
    takes the setting whose bits per pixel for the same image are nearest, by their ratio.
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
