"""Converts many files, one after the other or several at once; keeps count, and lets no file stop the others."""

import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import prod
from pathlib import Path
from typing import NamedTuple

from ..errors import CaeCodecError, ParameterError
from ..images.image import Windows
from ..storage.locations import Place, as_path, is_url, refuse_special
from .chunk_runner import in_order_of_end, interruptible

Job = tuple[Place, Path]


class Failure(NamedTuple):
    """A file that was not converted, and why."""

    path: Place
    error: Exception


class Extent(NamedTuple):
    """How large an image is: pixels in all its planes of full size, and bytes of these with all channels, uncompressed."""

    pixels: int
    nbytes: int


def extent_of(arrays: Sequence[Windows], axes: str) -> Extent:
    """The extent of arrays that make up an image, the first of which has all its pixels and these axes."""
    pixels = prod(n for n, axis in zip(arrays[0].shape, axes, strict=True) if axis != "c")
    return Extent(pixels, sum(prod(array.shape) * array.dtype.itemsize for array in arrays))


class _Counts(NamedTuple):
    """What a file that was converted adds to the sums of `FolderProgress`."""

    pixels: int = 0
    nbytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class FolderProgress(NamedTuple):
    """The progress of a conversion of files.

    encoding : files are encoded, not decoded
    files, done, failed : how many there are, were converted or found finished, and failed
    pixels, nbytes : of the images that were converted, as `Extent`
    bytes_in, bytes_out : the sizes of what was read (without URLs) and written; groups with all that is in them
    seconds : since the first file was begun
    """

    encoding: bool
    files: int
    done: int = 0
    failed: int = 0
    pixels: int = 0
    nbytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0

    def after(self, outcome: Failure | _Counts) -> "FolderProgress":
        """The progress once this has become of one more file."""
        if isinstance(outcome, Failure):
            return self._replace(failed=self.failed + 1)
        return self._replace(
            done=self.done + 1,
            pixels=self.pixels + outcome.pixels,
            nbytes=self.nbytes + outcome.nbytes,
            bytes_in=self.bytes_in + outcome.bytes_in,
            bytes_out=self.bytes_out + outcome.bytes_out,
        )

    @property
    def megapixels_per_second(self) -> float:
        """Millions of pixels that were converted in a second."""
        return self.pixels / 1e6 / max(1e-9, self.seconds)

    @property
    def ratio(self) -> float:
        """Bytes of the uncompressed images to those that are coded; 0 if no coded byte was counted."""
        coded = self.bytes_out if self.encoding else self.bytes_in
        return self.nbytes / coded if coded else 0.0


FolderListener = Callable[[FolderProgress], None]


def run_jobs(
    jobs: Sequence[Job],
    convert: Callable[[Place, Path], Extent | None],
    progress: FolderListener,
    workers: int,
    encoding: bool,
) -> tuple[list[Path], list[Failure]]:
    """Convert files with `convert`, `workers` at once; what was written, and what failed, both in the order of the jobs.

    `convert` returns None for an output that it found finished. `progress` is called before the first file and after each,
    from this thread. Of two files with one output, the later is refused before any is converted. After an interrupt no further
    file is begun, those that are being converted end soon, and KeyboardInterrupt is raised again after that.
    """
    if workers < 1:
        raise ParameterError(f"workers is {workers} but must be 1 or more files at once")
    state, began = FolderProgress(encoding, len(jobs)), time.monotonic()
    failures: dict[int, Failure] = {}
    progress(state)
    with closing(_outcomes(jobs, convert, workers)) as outcomes:
        for number, outcome in outcomes:
            if isinstance(outcome, Failure):
                failures[number] = outcome
            state = state.after(outcome)._replace(seconds=time.monotonic() - began)
            progress(state)
    return [target for i, (_, target) in enumerate(jobs) if i not in failures], [failures[i] for i in sorted(failures)]


def stored_bytes(location: Place) -> int:
    """The size of a file, or of all files in a folder; 0 for a URL."""
    if is_url(location):
        return 0
    path = as_path(location)
    if not path.is_dir():
        return path.stat().st_size
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names)


def _outcomes(
    jobs: Sequence[Job], convert: Callable[[Place, Path], Extent | None], workers: int
) -> Generator[tuple[int, Failure | _Counts], None, None]:
    """The number of each job, and what became of it, in the order in which they end."""
    first: dict[str, Place] = {}
    wanted = []
    for number, (source, target) in enumerate(jobs):
        key = os.path.normcase(target)
        if key in first:
            message = f"{source} would overwrite {target}, made from another file of the same name, {first[key]}; rename it"
            yield number, Failure(source, ParameterError(message))
        else:
            first[key] = source
            wanted.append(number)
    if workers == 1:
        for number in wanted:
            yield number, _outcome(jobs[number], convert)
        return
    stop = threading.Event()

    def work(job: Job) -> Failure | _Counts:
        with interruptible(stop):
            return _outcome(job, convert)

    pool = ThreadPoolExecutor(workers, "caecodec-conversion")
    try:
        futures = {pool.submit(work, jobs[number]): number for number in wanted}
        for future in in_order_of_end(futures):
            yield futures[future], future.result()
    finally:  # at the end there is nothing left to stop
        stop.set()
        pool.shutdown(cancel_futures=True)


def _outcome(job: Job, convert: Callable[[Place, Path], Extent | None]) -> Failure | _Counts:
    """What becomes of a file; whatever a library below raises, the other files are converted."""
    source, target = job
    try:
        if not is_url(source):
            refuse_special(as_path(source))
        bytes_in = stored_bytes(source)  # before the output may replace it
        extent = convert(source, target)
        return _Counts() if extent is None else _Counts(*extent, bytes_in, stored_bytes(target))
    except (CaeCodecError, OSError, MemoryError) as error:
        return Failure(source, error)
    # Of zarr, tifffile, Pillow and their plugins any may raise any error; it ends this file, and the others go on.
    except Exception as error:
        unforeseen = ParameterError(f"{source} cannot be converted: {type(error).__name__}: {error}")
        unforeseen.__cause__ = error
        return Failure(source, unforeseen)
