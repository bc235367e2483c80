"""Progress bars and outcomes of the conversion commands."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..ngff.convert import Failure, Progress


def progress(quiet: bool) -> Progress:
    """A wrapper of the list of jobs that shows a bar on a terminal, where tqdm (extra ngff) is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return lambda jobs: jobs

    def wrap(jobs: list[tuple[Path, Path]]) -> Iterable[tuple[Path, Path]]:
        bar: Iterable[tuple[Path, Path]] = tqdm(jobs, unit="image", disable=True if quiet else None)  # None: on a terminal
        return bar

    return wrap


def outcome(written: Sequence[Path], failed: Sequence[Failure], quiet: bool) -> int:
    """Print what was written and what failed; the exit status."""
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
