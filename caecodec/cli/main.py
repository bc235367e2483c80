"""caecodec COMMAND: the entry point and what its commands share."""

import argparse
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import __version__
from ..errors import CaeCodecError
from ..storage.locations import local
from . import (
    decode,
    encode,
    evaluate,
    export,
    extract,
    fit_entropy,
    fit_layers,
    inspect,
    latents,
    report,
    score,
    serve,
    train,
    weights,
)  # fmt: skip

_PIPE = 141  # the status of a process that ended because nobody reads its output
COMMANDS = (
    encode, decode, inspect, extract, latents, score, evaluate, report, serve, train, export, fit_entropy, fit_layers, weights,
)  # fmt: skip


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
    """Run a command; return 0 if all went well, 1 if something failed, 130 for an interrupt, 141 if nobody reads the output.

    Exit with 2 for a wrong command line.
    """
    options = parser().parse_args(arguments)
    try:
        if hasattr(options, "output"):
            options.output = local(options.output)
        with _printable():
            status: int = options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        return _PIPE
    except (CaeCodecError, OSError) as error:
        print(f"caecodec: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        one = "the unfinished one" if getattr(options, "workers", 1) == 1 else "each unfinished one"
        rest = "is kept; run the same command again to continue" if getattr(options, "resume", False) else "was removed"
        print(f"caecodec: interrupted; finished outputs are complete, {one} {rest}", file=sys.stderr, flush=True)
        if any(thread is not threading.current_thread() and not thread.daemon for thread in threading.enumerate()):
            sys.stdout.flush()
            os._exit(130)  # immediately, because running fits would keep the process alive for minutes
        return 130
    return status


@contextmanager
def _printable() -> Iterator[None]:
    """Let names be printed that the output's encoding lacks, with escapes in place of the characters that it lacks."""
    strict = isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict"
    if not strict:
        yield
        return
    output: Any = sys.stdout
    output.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        output.reconfigure(errors="strict")
