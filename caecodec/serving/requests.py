"""Paths and queries of requests -> what they ask for, checked."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ParameterError
from .pyramid import Choice, Pyramid

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_KNOWN = ("at", "channel", "channels", "layers", "window")


class Missing(Exception):  # noqa: N818  # an answer, 404
    """There is no such image, level or tile."""


class Asked(NamedTuple):
    """What of an image is asked for.

    choices : one, or one for each channel of a composite
    windows : for each of them the values that are shown black and white; None for the usual ones
    composite : whether the channels are shown in their colours, and added
    """

    choices: tuple[Choice, ...]
    windows: tuple[tuple[float, float], ...] | None
    composite: bool


class Place(NamedTuple):
    """A part of a level."""

    level: int
    rows: range
    columns: range


def parse_query(pyramid: Pyramid, query: Mapping[str, str]) -> Asked:
    """The meaning of `at=3,0&channel=1&layers=2&window=100,4000`, all of which may be left out.

    For a composite it is `channels=0,2&window=100,4000,50,900` in place of a channel and its window.
    Raises ParameterError for anything else.
    """
    unknown = [name for name in query if name not in _KNOWN]
    if unknown:
        raise ParameterError(f"{unknown[0]!r} is asked for, but a request may say only {', '.join(_KNOWN)}")
    at = [_number(one, "at") for one in query["at"].split(",")] if query.get("at") else None
    channel = _number(query["channel"], "channel") if "channel" in query else None
    layers = _number(query["layers"], "layers") if "layers" in query else None
    channels = [channel]
    if "channels" in query:
        channels = [_number(one, "channels") for one in query["channels"].split(",")]
        if "channel" in query or pyramid.rgb or len(set(channels)) != len(channels):
            raise ParameterError(
                f"channels is {query['channels'][:80]!r} but must be different ones, not of RGB, and without channel"
            )
    choices = tuple(pyramid.choose(at, one, layers) for one in channels)
    windows = _windows(query["window"], len(choices)) if "window" in query else None
    return Asked(choices, windows, "channels" in query)


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


def _windows(text: str, count: int) -> tuple[tuple[float, float], ...]:
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    windows = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    if len(numbers) != 2 * count or not all(-math.inf < low < high < math.inf for low, high in windows):
        each = " for each channel" if count > 1 else ""
        raise ParameterError(f"window is {text[:80]!r} but must be two numbers{each}, the lower one first, such as 100,4000")
    return windows
