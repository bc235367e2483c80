"""A result that is under way: what a device does already, and what is left for the thread that asks for the result."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T", covariant=True)
U = TypeVar("U")


class Pending(Generic[T]):
    """A result that is under way.

    begun : a device's part of the work; None: nothing has begun, and the first thread that asks does all of it. A result of
        None says that the device gave up, and that the thread has the work to do.
    """

    def __init__(self, finish: Callable[[], T], begun: "Future[Any] | None" = None) -> None:
        self._finish: Callable[[], T] | None = finish
        self._value: T
        self.begun = begun

    def result(self) -> T:
        """The result; waits for it or works on it, and raises its errors."""
        if self._finish is not None:
            self._value = self._finish()
            self._finish = None
        return self._value

    async def wait(self) -> None:
        """Until `result` has no work left; an event loop is kept neither from work nor waiting. Raises the result's errors."""
        if self.begun is None or await asyncio.wrap_future(self.begun) is None:
            await asyncio.to_thread(self.result)

    def then(self, function: Callable[[T], U]) -> "Pending[U]":
        """What a function makes of the result."""
        return Pending(lambda: function(self.result()), self.begun)
