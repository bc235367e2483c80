"""Processes that tests end: the command caecodec, for which a few shards are a large image, and a scheduler and its workers."""

import asyncio
import logging
import os
import sys

import distributed

import caecodec.torch  # noqa: F401  # loads PyTorch, once for all processes that are forked from the one that imports this
from caecodec.cli.main import main
from caecodec.ngff import blocks, convert

BLOCK = 64 * 64 * 3


def encode(arguments, output=None):
    """The command, whose messages go to a file."""
    _say_in(output)
    blocks.BLOCK_BYTES = convert.BLOCK_BYTES = BLOCK
    sys.exit(main(["encode", *arguments]))


def schedule(port, failures, output):
    """A scheduler that gives a task up after so many workers died of it, and one more."""
    _say_in(output)
    asyncio.run(_serve(distributed.Scheduler, host="127.0.0.1", port=port, allowed_failures=failures))


def work(address, folder, output):
    _say_in(output)
    asyncio.run(_serve(distributed.Worker, address, nthreads=1, local_directory=folder))


async def _serve(kind, *where, **options):
    async with kind(*where, dashboard=False, **options) as server:
        await server.finished()


def _say_in(output):
    if output is not None:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    encode(sys.argv[1:])
