"""Side by side: a few images at one or two rates, by caecodec and by each other codec at the nearest rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .contenders import Contender
from .curves import Curve, Measurement
from .sweep import ImageFile, code

SIDE = 192
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """What a codec made of a part of an image, (height, width, 3) uint8, and the values of the whole image."""

    name: str
    setting: str
    pixels: Array
    values: Measurement


@dataclass(frozen=True)
class Comparison:
    """The same part of one image: the original, the first caecodec curve's, and the others' at the nearest rate."""

    image: str
    original: Array
    crops: tuple[Crop, ...]


def compare_crops(
    images: Sequence[ImageFile], contenders: Sequence[Contender], curves: Sequence[Curve], chunk: int, samples: int
) -> tuple[Comparison, ...]:
    """The middle of `samples` images, spread evenly over `images`, at up to two rates each.

    The rates are those of the first contender at a quarter and at three quarters of its settings; the others' settings are
    those whose bits per pixel of the same image are nearest, in ratio.
    """
    count = min(samples, len(images))
    numbers = [(2 * i + 1) * len(images) // (2 * count) for i in range(count)]
    last = len(contenders[0].settings) - 1
    return tuple(
        _compare(images[n], n, contenders, curves, chunk, setting)
        for n in numbers
        for setting in sorted({round(last / 4), round(3 * last / 4)})
    )


def _compare(
    image: ImageFile, number: int, contenders: Sequence[Contender], curves: Sequence[Curve], chunk: int, setting: int
) -> Comparison:
    pixels = image.read()
    rate = curves[0].points[setting].images[number].bpp
    crops = []
    for i, (contender, curve) in enumerate(zip(contenders, curves, strict=True)):
        values = [point.images[number] for point in curve.points]
        nearest = setting if i == 0 else min(range(len(values)), key=lambda s: abs(math.log(values[s].bpp / rate)))
        decoded = code(pixels, contender, contender.settings[nearest], chunk)[0]
        crops.append(Crop(contender.name, contender.settings[nearest].name, middle(decoded), values[nearest]))
    return Comparison(image.info.name, middle(pixels), tuple(crops))


def middle(image: Array) -> Array:
    """The middle of an image, SIDE x SIDE pixels or what there is."""
    y, x = (max(0, (n - SIDE) // 2) for n in image.shape[:2])
    return image[y : y + SIDE, x : x + SIDE]
