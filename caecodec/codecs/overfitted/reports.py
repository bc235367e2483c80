"""Reports of how far fits are, and the listener that they go to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class FitProgress:
    """How far the fit of a batch is. `bpp` (of latents) and `psnr` (in dB) are averages over its chunks.

    batch : the number of the batch, which all of its reports have in common
    """

    batch: int
    chunks: int
    iteration: int
    iterations: int
    bpp: float
    psnr: float


Listener = Callable[[FitProgress], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Report to `listener` on the fits that are asked for in this context, which zarr passes on to its threads.

    The threads that fit call it every few iterations of each batch, and at its end.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listening() -> Listener | None:
    """The listener of this context."""
    return _listener.get()
