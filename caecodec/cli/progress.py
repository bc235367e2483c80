"""Progress bars and final messages of the conversion commands."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ..ngff.chunk_runner import ImageProgress
from ..ngff.jobs import Failure, FolderProgress


class Bars:
    """Bars on a terminal, if tqdm (extra ngff) is installed: one of the files, one of the chunks of the current image.

    state : the progress of the files, None before they are known
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._files: Any = None
        self._bar: Any = None
        self.state: FolderProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for bar in (self._bar, self._files):
            if bar is not None:
                bar.close()

    def files(self, state: FolderProgress) -> None:
        """Show the progress of the files: their number, megapixels a second, ratio, and the time left."""
        self.state = state
        if self._files is None:
            self._files = self._make(total=state.files, unit="file")
        if self._files is not None:
            self._files.set_postfix_str(_rates(state), refresh=False)
            self._files.update(state.done + state.failed - self._files.n)

    def chunks(self, state: ImageProgress) -> None:
        """Show the progress of the current image: its chunks and the time left, the array, megapixels a second, and the ratio.

        Those that an earlier run has written count as done, but not for the time left.
        """
        if self._bar is None:
            self._bar = self._make(unit="chunk", leave=False)
        if self._bar is None:
            return
        if state.done < self._bar.n:  # the next image has begun
            self._bar.reset()
        self._bar.total, self._bar.initial = state.chunks, state.found
        said = f"{state.bpp:.3f} bpp, {state.psnr:.2f} dB" if not math.isnan(state.psnr) else _rates(state)
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.set_description_str(state.array, refresh=False)
        if state.done > self._bar.n:
            self._bar.update(state.done - self._bar.n)
        else:
            self._bar.refresh()

    def _make(self, **options: Any) -> Any:
        return _bar(self._quiet, **options)


@contextmanager
def counting(quiet: bool, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar to call with how many of how many are done."""
    bar = _bar(quiet, unit=unit)

    def show(done: int, of: int) -> None:
        if bar is not None:
            bar.total = of
            bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def outcome(written: Sequence[Path], failed: Sequence[Failure], quiet: bool, state: FolderProgress | None) -> int:
    """Print what was written and what failed, and a summary if there were several files; return the exit status."""
    if not quiet:
        for path in written:
            print(path)
    for failure in failed:
        message = str(failure.error)
        name = "" if str(failure.path) in message else f"{failure.path}: "
        line = "".join(one if one.isprintable() or not one.isascii() else repr(one)[1:-1] for one in name + message)
        print(f"caecodec: {line}", file=sys.stderr)
    if failed:
        print(f"caecodec: {len(failed)} of {len(failed) + len(written)} failed", file=sys.stderr)
    if state and state.files > 1 and not quiet:
        print(f"caecodec: {summary(state)}", file=sys.stderr)
    return 1 if failed else 0


def summary(state: FolderProgress) -> str:
    """What a conversion of files came to, in one line."""
    sizes = f"{_size(state.nbytes)} uncompressed, {_size(state.bytes_in)} in, {_size(state.bytes_out)} out"
    return f"{state.done} files, {state.pixels / 1e6:.2f} MP, {sizes}, {_rates(state)}, {state.seconds:.1f} s"


def _bar(quiet: bool, **options: Any) -> Any:
    """A bar, shown on a terminal alone and not if `quiet`; None if tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(**options, disable=True if quiet else None)


def _rates(state: FolderProgress | ImageProgress) -> str:
    return f"ratio {state.ratio:.1f}, {state.megapixels_per_second:.2f} MP/s"


def _size(count: int) -> str:
    """A number of bytes in units of 1000."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{count} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"
