"""Runs slow tasks on the chunks of one image side by side, reports their progress, and stops them soon after an interrupt."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import zarr

from ..codecs.overfitted.reports import FitProgress, reporting
from ..storage.locations import Place

if TYPE_CHECKING:
    from .cluster import Cluster

GRACE = 3  # seconds to wait for running tasks after an interrupt
_POLL = 0.5  # seconds


_T = TypeVar("_T")


class Written(NamedTuple):
    """What became of some chunks.

    chunks, found : how many are complete now, and how many of them were before
    nbytes, stored : of all of them, uncompressed and as they are stored
    pixels : of those that were written now, in all their planes
    """

    chunks: int = 0
    found: int = 0
    nbytes: int = 0
    stored: int = 0
    pixels: int = 0

    def plus(self, other: "Written") -> "Written":
        """What became of these chunks and others."""
        return Written(*(mine + its for mine, its in zip(self, other, strict=True)))


class ImageProgress(NamedTuple):
    """The progress of an image.

    done, chunks : chunks done, and in all
    bpp, psnr : bits per pixel, and PSNR in dB, of those fitted so far; NaN for codecs that fit nothing
    array : the path of the array that is being written
    found : chunks that an earlier run had completed
    ratio : bytes of the chunks done, uncompressed, to what they are stored in; 0 if nothing is stored yet
    megapixels_per_second : millions of pixels of all levels that were written in a second
    """

    done: int
    chunks: int
    bpp: float
    psnr: float
    array: str = ""
    found: int = 0
    ratio: float = 0.0
    megapixels_per_second: float = 0.0


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


def in_order_of_end(futures: "Iterable[Future[_T]]") -> "Iterator[Future[_T]]":
    """`concurrent.futures.as_completed`, which an interrupt ends in time also if the system hands its signal to another thread.

    Python raises KeyboardInterrupt in the main thread, as soon as that runs.
    """
    left = set(futures)
    while left:
        done, left = wait(left, _POLL, FIRST_COMPLETED)
        yield from done


class ChunkRunner:
    """Counts the chunks of one image, and runs the tasks that encode them.

    Parameters
    ----------
    tell
        Called at every change, by one thread at a time.
    slow
        A chunk takes seconds or more, so that tasks are of one chunk, or shard, each.
    cluster
        What writes the blocks of arrays; None: this process.
    carriers
        The groups whose weights the processes of `cluster` need, or their places.
    """

    def __init__(
        self,
        tell: ProgressListener = lambda state: None,
        slow: bool = False,
        cluster: "Cluster | None" = None,
        carriers: "tuple[Place | zarr.Group, ...]" = (),
    ) -> None:
        self.slow, self.cluster, self.carriers = slow, cluster, carriers
        self._tell = tell
        self._lock = threading.RLock()
        self._stopped, self._stop = False, _stop.get()
        self._chunks = self._fitted = 0
        self._bits = self._error = 0.0  # sums over the chunks fitted
        self._last = (math.nan, math.nan)
        self._array, self._began = "", time.monotonic()
        self.written = Written()
        self.channels = 1  # of the array, all of which make up a pixel

    def beside(self) -> "ChunkRunner":
        """One for arrays that are needed only on the way, whose chunks are counted by themselves."""
        return ChunkRunner(self._tell, False, self.cluster, self.carriers)

    def expect(self, chunks: int) -> None:
        """Add this many chunks to those that are to be done."""
        with self._lock:
            self._chunks += chunks
            self._say()

    def begin(self, array: str, channels: int = 1) -> None:
        """Note that the chunks of another array follow, which is at this path and has so many channels."""
        with self._lock:
            self._array, self.channels = array, channels
            self._say()

    def count(self, written: Written) -> None:
        """Count chunks as done."""
        with self._lock:
            self.written = self.written.plus(written)
            self._say()

    def run(self, tasks: Sequence[Callable[[], object]]) -> None:
        """Run all tasks, as many at once as zarr does; raise what a task raises, after those that have begun have ended.

        After an interrupt it waits for GRACE seconds at most; tasks that still run end as soon as their fit reports progress.
        """
        pool = ThreadPoolExecutor(zarr.config.get("async.concurrency"))
        with reporting(self._report):
            futures = [pool.submit(copy_context().run, task) for task in tasks]
        try:
            for future in in_order_of_end(futures):
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
        chunks, found, nbytes, stored, pixels = self.written
        speed = pixels / 1e6 / max(1e-9, time.monotonic() - self._began)
        ratio = nbytes / stored if stored else 0.0
        self._tell(ImageProgress(chunks, self._chunks, bpp, psnr, self._array, found, ratio, speed))
