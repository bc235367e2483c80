"""Checks of parameters that several codecs have. Each returns the value as it is stored, or raises ParameterError."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..bitstream.autoencoder import MAX_QUALITY, METRICS
from ..errors import FormatVersionError, ParameterError

DEFAULT_QUALITY = 8


def parse_stored(kind: type, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a codec's class in a stored configuration.

    Raises FormatVersionError for keys that the class has no argument for.
    """
    known = inspect.signature(kind).parameters
    unknown = [f"{name}={value!r}" for name, value in configuration.items() if name not in known]
    if unknown:
        raise FormatVersionError(
            f"configuration of {kind.__name__} has {', '.join(unknown)}, which this caecodec does not know: a newer one wrote "
            f"it, so upgrade caecodec; or, if you wrote it yourself, use some of {', '.join(known)}"
        )
    return dict(configuration)


def parse_quality(quality: Any) -> int:
    """An operating point, 1 to 8."""
    if isinstance(quality, bool) or not hasattr(quality, "__index__") or not 1 <= quality <= MAX_QUALITY:
        raise ParameterError(f"quality is {quality!r} but must be an integer from 1 (smallest) to {MAX_QUALITY} (best)")
    return int(quality)


def parse_metric(metric: Any) -> str:
    """The distortion that a network was trained for, "mse" or "ms-ssim"."""
    if metric not in METRICS.values():
        raise ParameterError(f"metric is {metric!r} but must be 'mse' or 'ms-ssim'")
    return str(metric)


def parse_channel_axis(channel_axis: Any) -> int | None:
    """An axis number, or None for chunks without channels."""
    if channel_axis is None:
        return None
    if isinstance(channel_axis, bool) or not hasattr(channel_axis, "__index__"):
        raise ParameterError(
            f"channel_axis is {channel_axis!r} but must be an integer (-1 for y, x, c; -3 for c, y, x) or None for a plane"
        )
    return int(channel_axis)


def parse_positive(name: str, value: Any, unit: str, zero: bool = False) -> float | None:
    """A finite number above 0 (or from 0 on, with `zero`), or None."""
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    if not number or not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ParameterError(f"{name} is {value!r} but must be {'0 or more' if zero else 'above 0'}, in {unit}, or None")
    return float(value)
