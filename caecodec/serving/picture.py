"""Values -> pictures for browsers: PNG, so that a lossy picture format adds no errors of its own."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_LEVEL = 1  # of zlib: a tile of a photograph in a tenth of the time of the default, a tenth larger
_TAIL = 0.1  # percent of the values that are left out at either end of a window


def png(values: npt.NDArray[Any], window: tuple[float, float]) -> bytes:
    """A PNG of values (channels, height, width), 3 channels for RGB or 1, from black to white at the ends of the window."""
    shown = values if values.dtype == np.uint8 and window == (0, 255) else _windowed(values, *window)
    return _encoded(shown[0] if len(shown) == 1 else np.ascontiguousarray(np.moveaxis(shown, 0, -1)))


def composite(values: npt.NDArray[Any], windows: Sequence[tuple[float, float]], colours: Sequence[str]) -> bytes:
    """A PNG of channels (channels, height, width), each from black to its colour at the ends of its window, added up.

    colours : one for each channel, as RRGGBB
    """
    light = np.zeros((*values.shape[1:], 3), np.float32)
    for plane, window, colour in zip(values, windows, colours, strict=True):
        light += _scaled(plane, *window)[..., None] * (np.frombuffer(bytes.fromhex(colour), np.uint8) / np.float32(255))
    return _encoded(np.rint(np.minimum(light, 255)).astype(np.uint8))


def window_of(values: npt.NDArray[Any]) -> tuple[float, float]:
    """A window for values: without a thousandth of them at either end, and without those that are not finite."""
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = np.percentile(finite, (_TAIL, 100 - _TAIL)).tolist() if finite.size else (0.0, 0.0)
    return low, high if high > low else low + 1


def _encoded(picture: npt.NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=_LEVEL)
    return stream.getvalue()


def _windowed(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = np.rint(_scaled(values, low, high)).astype(np.uint8)
    return rounded


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.floating[Any]]:
    """Values of a window from 0 to 255; what is not a number is 0."""
    exact = values.astype(np.result_type(values.dtype, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):  # a window far away from the values, or values that are not finite
        return np.nan_to_num(np.clip((exact - low) * (255 / (high - low)), 0, 255))
