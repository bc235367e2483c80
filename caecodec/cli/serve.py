"""caecodec serve: shows Zarr arrays in a browser."""

import argparse
from contextlib import suppress

from ..storage.locations import parse_location

SUMMARY = "Show Zarr arrays and OME-Zarr images in a browser: zoom, channels, and two of them side by side, until Ctrl-C."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec serve."""
    parser.add_argument(
        "path", type=parse_location, metavar="PATH", help="an array, a group, a folder of them, a zipped store, or a URL"
    )
    parser.add_argument("--port", type=_port, default=8000, help="default %(default)s; 0: any that is free")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="the address to listen at; by default only this machine can reach it. Everyone who can reach it sees the images",
    )  # fmt: skip
    parser.add_argument(
        "--name", action="append", default=[], dest="names", metavar="NAME",
        help="a host name or address, besides ADDRESS and localhost, by which browsers may ask for the server",
    )  # fmt: skip
    parser.add_argument(
        "--cache-mib", type=_mib, default=256, metavar="N", help="MiB of decoded values to keep; default %(default)s"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from ..serving.server import serve

    with suppress(KeyboardInterrupt):  # the usual end
        serve(
            arguments.path,
            arguments.host,
            arguments.port,
            arguments.names,
            arguments.cache_mib * 2**20,
            say=lambda line: print(line, flush=True),
        )
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to 65535")
    return int(text)


def _mib(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB")
    return int(text)
