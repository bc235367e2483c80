"""Outputs that are whole or not there: written beside their name, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ParameterError


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the with block, or vanishes with an error."""
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; one that is already at `path` is replaced last, and kept when anything fails."""
    partial = _beside(path)
    try:
        yield partial
        if path.is_dir() and not path.is_symlink():
            old = _beside(path, "old")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """ParameterError if there is something at `path` already, unless it may be overwritten."""
    if path.exists() and not overwrite:
        raise ParameterError(f"{path} exists already; pass overwrite (--overwrite) to replace it, or choose another name")


def _beside(path: Path, mark: str = "partial") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.stem}.{mark}-{os.getpid()}{path.suffix}")
