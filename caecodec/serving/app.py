"""Requests -> responses, as a Starlette application.

    /                                         the page and its files
    /images                                   JSON: what there is to see
    /images/KEY/window?at=0,3&channel=1&layers=2
                                              JSON: the values to show black and white
    /tiles/KEY/LEVEL/COLUMN_ROW.png?at=0,3&channel=1&layers=2&window=100,4000
                                              PNG: a tile

KEY is that of an image, LEVEL counts from the finest, and a tile has as many pixels a side as the level says, fewer at the
edges. For a composite, of channels in their colours that are added, it is `channels=0,2&window=100,4000,50,900`, in place of a
channel and its window. Of an image in layers, no more bytes are read than those of so many layers. The answer to a tile has the
headers Caecodec-Read-Bytes (what it took to read from the store), Caecodec-Decoded-Pixels and Server-Timing (ms): both are 0 if
it was made of what the server still had.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import anyio
import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import CaeCodecError, ParameterError
from . import picture
from .blocks import BlockCache, BlockReader
from .collection import Collection
from .pyramid import TILE, Choice, Pyramid
from .requests import Asked, Missing, Place, parse_place, parse_query
from .served_store import Cost, adding_to

_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"  # a rule that OpenSeadragon 6.1 puts into the page
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src 'self'; style-src 'self' {_STYLE}; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # keep it, but ask whether it is still the same
}
_CLOSED_REQUEST = 499  # nobody reads the answer
_MOST_WARM = 4  # codecs


class _Tile(NamedTuple):
    data: bytes
    cost: Cost
    decoding: float  # seconds
    encoding: float


class Viewer:
    """What the application does: it finds images by their keys, and decodes tiles in a few threads."""

    def __init__(self, collection: Collection, cache: BlockCache) -> None:
        self._collection = collection
        self._reader = BlockReader(cache)
        self._workers = anyio.CapacityLimiter(max(2, min(4, os.cpu_count() or 1)))
        self._started = secrets.token_hex(8)

    def warm(self) -> None:
        """Decode a tile of each codec, of a few, so that the first that is asked for need not wait for imports and networks."""
        of_codecs = {one.codec: one for one in reversed(self._collection.pyramids.values())}
        for pyramid in islice(reversed(of_codecs.values()), _MOST_WARM):
            with suppress(CaeCodecError):  # whoever asks for such an image is told
                _sample(self._reader, pyramid, pyramid.choose(None, None))

    async def images(self, request: Request) -> Response:
        """What there is to see."""
        images = [_description(key, one) for key, one in self._collection.pyramids.items()]
        return JSONResponse({"name": self._collection.name, "images": images, "left_out": self._collection.left_out})

    async def window(self, request: Request) -> Response:
        """The contrast windows of channels, by metadata, the dtype, or the values in the middle of the image: low, high, ..."""
        pyramid = self._pyramid(request)
        asked = parse_query(pyramid, request.query_params)
        found = await self._run(request, partial(self._windows, pyramid, asked))
        return Response(status_code=_CLOSED_REQUEST) if found is None else JSONResponse({"window": [*chain(*found)]})

    async def tile(self, request: Request) -> Response:
        """A tile as a PNG."""
        pyramid = self._pyramid(request)
        place = parse_place(pyramid, *(request.path_params[name] for name in ("level", "column", "row")))
        asked = parse_query(pyramid, request.query_params)
        etag = f'"{hashlib.sha256(f"{self._started} {request.url.path} {asked}".encode()).hexdigest()[:24]}"'
        if etag in {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}:
            return Response(status_code=304, headers={"ETag": etag})
        came = time.perf_counter()
        found = await self._run(request, partial(self._tile, pyramid, place, asked))
        if found is None:
            return Response(status_code=_CLOSED_REQUEST)
        waiting = time.perf_counter() - came - found.decoding - found.encoding
        steps = {"wait": waiting, "decode": found.decoding, "png": found.encoding}
        headers = {
            "ETag": etag,
            "Caecodec-Read-Bytes": str(found.cost.bytes),
            "Caecodec-Decoded-Pixels": str(found.cost.pixels),
            "Server-Timing": ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in steps.items()),
        }
        return Response(found.data, media_type="image/png", headers=headers)

    def _pyramid(self, request: Request) -> Pyramid:
        try:
            return self._collection.pyramids[request.path_params["key"]]
        except KeyError:
            raise Missing from None

    async def _run(self, request: Request, work: Any) -> Any:
        """What `work()` returns in a thread; None, without work, if the browser has gone while it waited for one."""
        async with self._workers:
            if await request.is_disconnected():
                return None
            return await anyio.to_thread.run_sync(work)

    def _tile(self, pyramid: Pyramid, place: Place, asked: Asked) -> _Tile:
        began = time.perf_counter()
        cost = Cost()
        with adding_to(cost):
            values = np.concatenate(
                [self._reader.read(pyramid, place.level, one, place.rows, place.columns) for one in asked.choices]
            )
            windows = asked.windows or self._windows(pyramid, asked)
        decoded = time.perf_counter()
        if asked.composite:
            data = picture.composite(values, windows, [pyramid.channels[one.channel or 0].colour for one in asked.choices])
        else:
            data = picture.png(values, windows[0])
        return _Tile(data, cost, decoded - began, time.perf_counter() - decoded)

    def _windows(self, pyramid: Pyramid, asked: Asked) -> tuple[tuple[float, float], ...]:
        return tuple(pyramid.window(one) or picture.window_of(_sample(self._reader, pyramid, one)) for one in asked.choices)


class _Headers:
    """Adds headers to every answer that has none of these names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def application(viewer: Viewer, hosts: Sequence[str]) -> Starlette:
    """The application; requests must name one of the hosts, lest pages of others reach it by a name that they point to it."""
    return Starlette(
        routes=[
            Route("/images", viewer.images),
            Route("/images/{key}/window", viewer.window),
            Route("/tiles/{key}/{level}/{column}_{row}.png", viewer.tile),
            Mount("/", StaticFiles(packages=[(__package__, "page")], html=True)),
        ],
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={Missing: _missing, ParameterError: _refused, CaeCodecError: _failed},
    )


async def _missing(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"there is no {request.url.path}"}, 404)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


def _sample(reader: BlockReader, pyramid: Pyramid, choice: Choice) -> Any:
    """Values in the middle of the coarsest stored level, at most a tile."""
    level = max(i for i, one in enumerate(pyramid.levels) if one.halvings == 0)
    size = pyramid.levels[level][:2]
    rows, columns = (range(max(0, n // 2 // TILE * TILE), min(n // 2 // TILE * TILE + TILE, n)) for n in size)
    return reader.read(pyramid, level, choice, rows, columns)


def _description(key: str, pyramid: Pyramid) -> dict[str, Any]:
    choice = pyramid.choose(None, None)
    return {
        "key": key,
        "name": pyramid.name,
        "dtype": str(pyramid.dtype),
        "shape": pyramid.levels[0].source.array.shape,
        "codec": pyramid.codec,
        "layers": pyramid.layers,
        "rgb": pyramid.rgb,
        "channels": [channel.label for channel in pyramid.channels],
        "colours": [f"#{channel.colour}" for channel in pyramid.channels],
        "composed": pyramid.composed,
        "axes": [
            {"name": axis, "length": length, "at": at}
            for (axis, length), at in zip(pyramid.positions.items(), choice.positions, strict=True)
        ],
        "levels": [
            {"width": one.width, "height": one.height, "tile": one.tile, "made": one.halvings > 0} for one in pyramid.levels
        ],
        "limited": pyramid.limited,
    }
