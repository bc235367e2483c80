"""The background of an image: what colour it has, and chunks of nothing else, which are stored in few bytes or none."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError
from ..images.image import COLOURS, Image, Windows
from . import blocks
from .compressors import LOSSLESS
from .options import AUTO, NONE, Options, background_values

TOLERANCE = 8  # grey levels of 255, of images of 8 bits; that of others is 0
_BRIGHT = 180  # the least value of a channel in the background of a slide
_SHARE = 0.02  # of the pixels, which have at least to be background
_BIN = 8  # grey levels


class Background(NamedTuple):
    """What is background.

    colour : its value in each channel, or in all
    tolerance : the most by which a value of the background may differ from it
    """

    colour: tuple[float, ...]
    tolerance: float

    @property
    def fill(self) -> float:
        """The one value for all channels that is nearest to the colour."""
        return float(np.floor((min(self.colour) + max(self.colour)) / 2 + 0.5))


def background_of(image: Image, smallest: Windows, options: Options) -> Background | None:
    """What `options` say is the background of an image, of which `smallest` is a small version; None for nothing.

    Raises ParameterError for a colour of several values for an image that is not RGB, and for values beyond its dtype.
    """
    said = options.background or (AUTO if image.slide else NONE)
    tolerance = _tolerance(image, options)
    if said == AUTO:
        return find(smallest, tolerance) if image.rgb and image.axes == "cyx" and image.pixels.dtype == np.uint8 else None
    colour = background_values(said)
    if colour is None:
        return None
    if len(colour) > 1 and len(set(colour)) == 1:
        colour = colour[:1]
    if len(colour) not in (1, COLOURS if image.rgb else 1):
        raise ParameterError(f"background is {said!r}, of {len(colour)} values, but {image} needs one{' or three' * image.rgb}")
    if image.pixels.dtype.kind != "f":
        limits = np.iinfo(image.pixels.dtype)
        if not all(limits.min <= value <= limits.max and value.is_integer() for value in colour):
            raise ParameterError(f"background is {said!r} but {image} has integers from {limits.min} to {limits.max}")
    return Background(colour, tolerance)


def _tolerance(image: Image, options: Options) -> float:
    """The tolerance that was asked for, or the default, which keeps what is promised of lossless codecs and of bounds."""
    if options.background_tolerance is not None:
        return options.background_tolerance
    usual = TOLERANCE if image.pixels.dtype == np.uint8 else 0
    return 0 if options.codec in LOSSLESS else usual if options.max_error is None else min(usual, options.max_error)


def find(pixels: Windows, tolerance: float) -> Background | None:
    """The background of a slide, given a small version of it (3, height, width), uint8: its most frequent bright colour.

    None if too few pixels are bright.
    """
    values = np.asarray(pixels[(slice(None),) * 3]).reshape(COLOURS, -1)
    bright = values[:, values.min(axis=0) >= _BRIGHT]
    most = 256 // _BIN
    counts = np.bincount(np.ravel_multi_index(tuple(bright // _BIN), (most,) * COLOURS), minlength=most**COLOURS)
    if counts.max() < max(1, _SHARE * values.shape[1]):
        return None
    centre = np.array(np.unravel_index(counts.argmax(), (most,) * COLOURS)) * _BIN + _BIN // 2
    near = bright[:, (np.abs(bright - centre[:, None]) <= _BIN).all(axis=0)]
    return Background(tuple(float(value) for value in np.median(near, axis=1).round()), tolerance)


class Flattened:
    """An array whose chunks of background alone have one value in each channel.

    That is the fill value, with which they are not stored, where it is within the tolerance of all their values, and else the
    colour, which codecs store in a few bytes.

    Parameters
    ----------
    source
        The array.
    chunks
        The chunks in which it is written; only regions that begin and end with them, or with the array, are read.
    background
        Its background, of one value, or one for each channel, which a chunk must hold together.
    channel
        The axis of the channels.
    """

    def __init__(self, source: Windows, chunks: tuple[int, ...], background: Background, channel: int | None) -> None:
        self._source, self._sides, self._tolerance = source, chunks, background.tolerance
        several = len(background.colour) > 1
        self._others = tuple(i for i in range(len(chunks)) if not (several and i == channel))
        colour = np.array(background.colour)
        self._wanted = (np.array(background.fill), np.expand_dims(colour, self._others) if several else colour)
        self.shape, self.dtype = source.shape, source.dtype
        self.chunks = getattr(source, "chunks", chunks)

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        values = np.array(blocks.read(self._source, region))
        for part in blocks.parts(tuple(slice(0, n) for n in values.shape), self._sides):
            chunk = values[part]
            least = chunk.min(self._others, keepdims=True).astype(np.float64)
            most = chunk.max(self._others, keepdims=True).astype(np.float64)
            for value in self._wanted:
                if max((most - value).max(), (value - least).max()) <= self._tolerance:
                    values[part] = value.astype(values.dtype)
                    break
        return values
