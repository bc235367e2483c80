"""Who wants to know how far fits are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far the fit of a batch is: of its chunks so far, on average, bits per pixel of latents, and PSNR in dB.

    batch : a number of the batch, which all of its reports have in common
    """

    batch: int
    chunks: int
    iteration: int
    iterations: int
    bpp: float
    psnr: float


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Have `listener` called, from the threads that fit, every few iterations of each batch and at its end."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def wanted() -> bool:
    """Whether anybody listens."""
    return bool(_listeners)


def report(progress: Progress) -> None:
    """Tell all who listen."""
    for listener in tuple(_listeners):
        listener(progress)
