"""A result in progress: the part that a device is working on, and the part left to the thread that asks for the result."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T", covariant=True)
U = TypeVar("U")


class Pending(Generic[T]):
    """A result in progress.

    begun : the device's part of the work; None: nothing has begun, and the first thread that asks for the result does it all.
        If its result is None, the device gave up, and the thread does the work.
    """

    def __init__(self, finish: Callable[[], T], begun: "Future[Any] | None" = None) -> None:
        self._finish: Callable[[], T] | None = finish
        self._value: T
        self.begun = begun

    def result(self) -> T:
        """Wait for the result, or compute it; raises its errors."""
        finish = self._finish  # another thread may set it to None at any time
        if finish is not None:
            self._value = finish()
            self._finish = None
        return self._value

    async def wait(self) -> None:
        """Wait until `result` has no work left, without blocking the event loop; raises the result's errors."""
        if self.begun is None or await asyncio.wrap_future(self.begun) is None:
            await asyncio.to_thread(self.result)

    def then(self, function: Callable[[T], U]) -> "Pending[U]":
        """Apply a function to the result."""
        return Pending(lambda: function(self.result()), self.begun)
