"""Runs slow tasks on the chunks of one image side by side, reports their progress, and stops them soon after an interrupt."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import NamedTuple

import zarr

from ..codecs.overfitted.reports import FitProgress, reporting

GRACE = 3  # seconds to wait for running tasks after an interrupt


class ImageProgress(NamedTuple):
    """The progress of an image: chunks done, chunks in all, and bits per pixel and PSNR in dB of those fitted so far."""

    done: int
    chunks: int
    bpp: float
    psnr: float


ProgressListener = Callable[[ImageProgress], None]


class Interrupted(Exception):  # noqa: N818  # like KeyboardInterrupt: a request to stop, not an error
    """Raised in threads that still fit when the conversion was interrupted, to end them."""


_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """Let what runs in the with block end soon after `stop` is set, because an interrupt reaches the main thread alone."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def raise_if_stopped() -> None:
    """Raise Interrupted if the conversion of this context is to end."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise Interrupted


class ChunkRunner:
    """Counts the chunks of one image, and runs the tasks that encode them.

    Parameters
    ----------
    tell
        Called at every change, by one thread at a time.
    """

    def __init__(self, tell: ProgressListener = lambda state: None) -> None:
        self._tell = tell
        self._lock = threading.RLock()
        self._stopped, self._stop = False, _stop.get()
        self._done = self._chunks = self._fitted = 0
        self._bits = self._error = 0.0  # sums over the chunks fitted
        self._last = (math.nan, math.nan)

    def expect(self, chunks: int) -> None:
        """Add this many chunks to those that are to be done."""
        with self._lock:
            self._chunks += chunks
            self._say()

    def count_done(self, chunks: int) -> None:
        """Count this many chunks as done: written now, or found complete."""
        with self._lock:
            self._done += chunks
            self._say()

    def run(self, tasks: Sequence[Callable[[], object]]) -> None:
        """Run all tasks, as many at once as zarr does; raise what a task raises, after those that have begun have ended.

        After an interrupt it waits for GRACE seconds at most; tasks that still run end as soon as their fit reports progress.
        """
        pool = ThreadPoolExecutor(zarr.config.get("async.concurrency"))
        with reporting(self._report):
            futures = [pool.submit(copy_context().run, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException as error:
            self._stopped = not isinstance(error, Exception)
            pool.shutdown(wait=False, cancel_futures=True)
            wait(futures, GRACE if self._stopped else None)
            raise
        finally:
            pool.shutdown(wait=False)

    def _report(self, progress: FitProgress) -> None:
        """Called by a thread that fits."""
        if self._stopped or (self._stop is not None and self._stop.is_set()):
            raise Interrupted
        with self._lock:
            self._last = progress.bpp, progress.psnr
            if progress.iteration == progress.iterations:
                self._fitted += progress.chunks
                self._bits += progress.chunks * progress.bpp
                self._error += progress.chunks * 10 ** (-progress.psnr / 10)
            self._say()

    def _say(self) -> None:
        bpp, psnr = self._last
        if self._fitted:
            bpp, psnr = self._bits / self._fitted, -10 * math.log10(max(self._error / self._fitted, 1e-12))
        self._tell(ImageProgress(self._done, self._chunks, bpp, psnr))
