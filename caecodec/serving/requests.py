"""Paths and queries of requests -> what they ask for, checked."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ParameterError
from .pyramid import Choice, Pyramid

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_KNOWN = ("at", "channel", "layers", "window")


class Missing(Exception):  # noqa: N818  # an answer, 404
    """There is no such image, level or tile."""


class Asked(NamedTuple):
    """What of an image is asked for; window: the values that are shown black and white, None for the usual ones."""

    choice: Choice
    window: tuple[float, float] | None


class Place(NamedTuple):
    """A part of a level."""

    level: int
    rows: range
    columns: range


def parse_query(pyramid: Pyramid, query: Mapping[str, str]) -> Asked:
    """The meaning of `at=3,0&channel=1&layers=2&window=100,4000`, all of which may be left out.

    Raises ParameterError for anything else.
    """
    unknown = [name for name in query if name not in _KNOWN]
    if unknown:
        raise ParameterError(f"{unknown[0]!r} is asked for, but a request may say only {', '.join(_KNOWN)}")
    at = [_number(one, "at") for one in query["at"].split(",")] if query.get("at") else None
    channel = _number(query["channel"], "channel") if "channel" in query else None
    layers = _number(query["layers"], "layers") if "layers" in query else None
    window = _window(query["window"]) if "window" in query else None
    return Asked(pyramid.choose(at, channel, layers), window)


def parse_place(pyramid: Pyramid, level: str, column: str, row: str) -> Place:
    """A tile of a level; levels count from the finest. Raises `Missing` if the image has no such tile."""
    if not all(map(_NUMBER.fullmatch, (level, column, row))) or int(level) >= len(pyramid.levels):
        raise Missing
    found = pyramid.levels[int(level)]
    top, left = int(row) * found.tile, int(column) * found.tile
    if top >= found.height or left >= found.width:
        raise Missing
    return Place(int(level), range(top, min(top + found.tile, found.height)), range(left, min(left + found.tile, found.width)))


def _number(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ParameterError(f"{name} is {text[:40]!r} but must be whole numbers from 0 on")
    return int(text)


def _window(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"window is {text[:80]!r} but must be two numbers, the lower one first, such as 100,4000")
    return low, high
