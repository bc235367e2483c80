"""The process that listens: a location -> an HTTP server, until it is interrupted."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from ..errors import ParameterError
from ..storage import locations

LOOPBACK = "127.0.0.1"
_MOST_CONNECTIONS = 1000


def serve(
    location: locations.Location,
    host: str = LOOPBACK,
    port: int = 8000,
    names: Sequence[str] = (),
    cache_bytes: int = 2**28,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the images at a location to browsers until Ctrl-C.

    Parameters
    ----------
    location
        An array, a group, a folder that holds some, a zipped store, or a URL.
    host, port
        The address to listen at; port 0 is any free one. Others can reach the server only if the address is not of loopback,
        and then everyone who can reach it sees the images.
    names
        Host names, besides the address and localhost, by which browsers may ask for the server.
    cache_bytes
        The most bytes of decoded values to keep.
    say
        Called with the URL once the server answers, and with what is not shown.

    Raises
    ------
    ParameterError
        There is nothing to show, or the extra `serve` is not installed.
    OSError
        The address cannot be listened at.
    """
    try:
        import uvicorn

        from . import app
    except ImportError as error:
        raise ParameterError(f"serving needs {error.name}, which is not installed: pip install 'caecodec[serve]'") from error
    from .blocks import BlockCache
    from .collection import open_collection

    with ExitStack() as stack:
        listener = stack.enter_context(closing(_listener(host, port)))
        collection = open_collection(location, stack)
        viewer = app.Viewer(collection, BlockCache(cache_bytes))
        viewer.warm()
        for sentence in collection.left_out:
            say(f"left out: {sentence}")
        config = uvicorn.Config(
            app.application(viewer, ["localhost", host.lower(), *names]),
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
        )
        shown = f"[{host}]" if ":" in host else host
        count = len(collection.pyramids)
        say(f"http://{shown}:{listener.getsockname()[1]}/ shows {count} image{'s' if count > 1 else ''}; Ctrl-C ends it")
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; browsers that connect before the server runs have to wait for it."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise OSError(f"{host}:{port} cannot be listened at: {error}; choose another --port, or 0 for any free one") from error
