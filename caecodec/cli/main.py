"""caecodec COMMAND: the entry point and what its commands share."""

import argparse
import os
import sys
import threading
from collections.abc import Sequence

from .. import __version__
from ..errors import CaeCodecError
from . import decode, encode, evaluate, export, fit_entropy, inspect, train, weights

COMMANDS = (encode, decode, inspect, evaluate, train, export, fit_entropy, weights)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(prog="caecodec", description="Learned image compression for Zarr.")
    top.add_argument("--version", action="version", version=f"caecodec {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rsplit(".", 1)[-1].replace("_", "-")
        sub = commands.add_parser(name, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if all went well, 1 if something failed. Exit with 2 for a wrong command line."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (CaeCodecError, OSError) as error:
        print(f"caecodec: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        rest = "is kept; run the same command again to continue" if getattr(options, "resume", False) else "was removed"
        print(f"caecodec: interrupted; finished outputs are complete, the unfinished one {rest}", file=sys.stderr, flush=True)
        if any(thread is not threading.current_thread() and not thread.daemon for thread in threading.enumerate()):
            sys.stdout.flush()
            os._exit(130)  # immediately, because running fits would keep the process alive for minutes
        return 130
    return status
