"""Waits until zarr has ended what it goes on with after one of several chunks has failed."""

import asyncio
from typing import Any
from weakref import WeakSet

_settling: WeakSet[asyncio.Task[Any]] = WeakSet()  # else two that begin at one time would wait for each other


async def settle() -> None:
    """Wait for all other tasks in zarr's event loop, but for those that wait like this, for another conversion.

    Tasks that were left would recreate a folder after its removal, and complain when the process ends.
    """
    this = asyncio.current_task()
    assert this is not None
    _settling.add(this)
    others = asyncio.all_tasks() - set(_settling)
    if others:
        await asyncio.wait(others)
