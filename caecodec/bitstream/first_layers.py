"""Fetches the first layers of a payload, and none of the bytes behind them."""

from collections.abc import Awaitable, Callable

from ..errors import CorruptionError
from . import directory, scalable
from .prefix import DIRECTORY_VERSION

HEAD_BYTES = 128  # fetched first: the directory and the head of four layers take about 75


async def fetch_layers(get: Callable[[int, int | None], Awaitable[bytes | None]], count: int) -> bytes | None:
    """The beginning of a payload, with its first `count` layers; None if there is no payload, and all of one of another kind.

    get : returns the bytes of the payload from a position to another, or to the end; None if there is no payload
    """
    size = HEAD_BYTES
    while True:
        start = await get(0, size)
        if start is None or bytes(start[2:4]) != bytes((DIRECTORY_VERSION, scalable.FAMILY)):
            return start if start is None or len(start) < size else start + (await get(size, None) or b"")
        try:
            ends = scalable.layer_ends(directory.parse_directory(start))
            break
        except CorruptionError:
            if len(start) < size:  # this is all, so it is not the fault of the cut
                raise
            size *= 4
    end = ends[min(count, len(ends)) - 1] if count < len(ends) else None
    if end is not None and end <= len(start):
        return start[:end]
    if len(start) < size:
        return start
    return start + (await get(len(start), end) or b"")
