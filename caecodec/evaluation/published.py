"""Published rate-distortion points: a JSON file -> curves that are drawn and compared beside the measured ones.

The file is an object whose "codecs" maps each codec's name to a list of points; other keys, of both, are ignored:

    {"codecs": {"NAME": [{"bpp": 0.123, "psnr": 26.91, "ms_ssim": 0.9100}, ...], ...}}

bpp : bits per pixel, a positive number
psnr : dB, and ms_ssim : 0 to 1 (not dB); either may be missing or null, but not both
setting : optional, the codec's name for the point

The results.json of an earlier evaluation is such a file.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import ParameterError
from .curves import Curve, Point

_FORM = '{"codecs": {"NAME": [{"bpp": 0.5, "psnr": 30.1, "ms_ssim": 0.95}, ...]}}'


def read_published(path: Path, taken: Collection[str] = ()) -> tuple[Curve, ...]:
    """The curves in a file. The name of a curve that is already `taken` is followed by the file's name in brackets.

    Raises ParameterError for a file that cannot be read, does not have this form, or has values out of range.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ParameterError(f"reference {path} cannot be read as JSON: {error}") from error
    codecs = content.get("codecs") if isinstance(content, dict) else None
    if not isinstance(codecs, dict) or not codecs:
        raise ParameterError(f"reference {path} has no codecs; it must be of the form {_FORM}")
    curves = []
    for name, points in codecs.items():
        if not isinstance(points, list) or not points:
            raise ParameterError(f"reference {path}: codec {name!r} has no list of points; it must be of the form {_FORM}")
        parsed = tuple(_point(point, f"reference {path}: codec {name!r}, point {i}") for i, point in enumerate(points, 1))
        full = f"{name} [{path.stem}]" if name in taken else name
        if full in taken:
            raise ParameterError(f"reference {path} is given twice, or shares name and codec with another file; rename it")
        curves.append(Curve(full, "published", f"published points, {path.name}", parsed))
    return tuple(curves)


def _point(point: Any, where: str) -> Point:
    if not isinstance(point, dict):
        raise ParameterError(f"{where} is {point!r} but must be an object with bpp, psnr, ms_ssim")
    bpp, psnr, similarity = (_number(point, key, where) for key in ("bpp", "psnr", "ms_ssim"))
    if bpp is None or bpp <= 0:
        raise ParameterError(f"{where} has bpp {bpp} but it must be a positive number of bits per pixel")
    if similarity is not None and not 0 <= similarity <= 1:
        raise ParameterError(f"{where} has ms_ssim {similarity} but it must be from 0 to 1; convert decibels to plain values")
    if psnr is None and similarity is None:
        raise ParameterError(f"{where} has neither psnr nor ms_ssim; give one, or leave the point out")
    return Point(str(point.get("setting", "")), bpp, psnr, similarity)


def _number(point: dict[str, Any], key: str, where: str) -> float | None:
    value = point.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise ParameterError(f"{where} has {key} {value!r} but it must be a finite number, or null")
    return float(value)
