"""Progress bars and final messages of the conversion commands."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from ..ngff.chunk_runner import ImageProgress
from ..ngff.convert import Conversion, Failure


class Bars:
    """Bars on a terminal, if tqdm (extra ngff) is installed: one of the images, one of the chunks of the current image."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def images(self, conversions: list[Conversion]) -> Iterable[Conversion]:
        """Iterate over the conversions, moving the bar."""
        bar: Iterable[Conversion] | None = self._make(conversions, unit="image")
        return conversions if bar is None else bar

    def chunks(self, state: ImageProgress) -> None:
        """Show the progress of the current image."""
        if self._bar is None:
            self._bar = self._make(unit="chunk", leave=False)
        if self._bar is None:
            return
        if state.done < self._bar.n:  # the next image has begun
            self._bar.reset()
        self._bar.total = state.chunks
        if not math.isnan(state.psnr):
            self._bar.set_postfix_str(f"{state.bpp:.3f} bpp, {state.psnr:.2f} dB", refresh=False)
        if state.done > self._bar.n:
            self._bar.update(state.done - self._bar.n)
        else:
            self._bar.refresh()

    def _make(self, *arguments: Any, **options: Any) -> Any:
        try:
            from tqdm import tqdm
        except ImportError:
            return None
        return tqdm(*arguments, **options, disable=True if self._quiet else None)  # None: shown only on a terminal


def outcome(written: Sequence[Path], failed: Sequence[Failure], quiet: bool) -> int:
    """Print what was written and what failed; return the exit status."""
    if not quiet:
        for path in written:
            print(path)
    for failure in failed:
        message = str(failure.error)
        name = "" if str(failure.path) in message else f"{failure.path}: "
        print(f"caecodec: {name}{message}", file=sys.stderr)
    if failed:
        print(f"caecodec: {len(failed)} of {len(failed) + len(written)} failed", file=sys.stderr)
    return 1 if failed else 0
