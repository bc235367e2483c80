"""Makes forks safe: they wait until no thread of ours is inside PyTorch, and the child recreates per-process objects.

Otherwise PyTorch's locks could stay locked in the child for ever.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
_change = threading.Condition()
_inside = 0  # number of threads in a block that forks wait for
_forks = 0  # number of threads that are about to fork
_here = threading.local()


@contextmanager
def no_fork() -> Iterator[None]:
    """Prevent forks until the block ends; a fork that already waits goes first. Blocks can be nested."""
    depth = _depth()
    if not depth:
        _enter()
    _here.depth = depth + 1
    try:
        yield
    finally:
        _here.depth = depth
        if not depth:
            _leave()


def _depth() -> int:
    """The number of blocks that the calling thread is in."""
    depth: int = getattr(_here, "depth", 0)
    return depth


def _enter() -> None:
    global _inside
    with _change:
        _change.wait_for(lambda: not _forks)
        _inside += 1


def _leave() -> None:
    global _inside
    with _change:
        _inside -= 1
        _change.notify_all()


def _before() -> None:
    global _forks
    with _change:
        _forks += 1
        _change.wait_for(lambda: _inside == bool(_depth()))


def _after_in_parent() -> None:
    global _forks
    with _change:
        _forks -= 1
        _change.notify_all()


def _after_in_child() -> None:
    global _change, _inside, _forks
    _change, _inside, _forks = threading.Condition(), int(bool(_depth())), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


class OnePerProcess(Generic[T]):
    """Returns this process's one object when called; `make` creates it, again in each forked child."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def __call__(self) -> T:
        """The object of this process."""
        return self._made

    def renew(self) -> None:
        """Create a new object, as in a new process."""
        self._made = self._make()
