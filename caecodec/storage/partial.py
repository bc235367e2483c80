"""Outputs that are either complete or absent: they are written under a temporary name, then renamed."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ParameterError
from .locations import Place, as_path, is_node, is_url

SCRATCH = ".scratch"  # the folder in a group of what is needed only until it is complete
_LONGEST = 255  # bytes of a name, on nearly all file systems


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """A path to write to. The file becomes `path` at the end of the with block, or is removed if an error is raised.

    Raises ParameterError for a folder at `path`, and, at the end, for what another process has written there meanwhile.
    """
    if path.is_dir() and not path.is_symlink():
        raise ParameterError(f"{path} is a folder but a file would take its place; choose another name, or remove it")
    partial = _beside(path, f"partial-{os.getpid()}")
    try:
        with _undisturbed(path):
            yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """`complete_file` for a folder. A folder that exists at `path` is replaced last, and kept if anything fails.

    Raises ParameterError for a file at `path`, and, at the end, for what another process has written there meanwhile.
    """
    _refuse_file(path)
    partial = _beside(path, f"partial-{os.getpid()}")
    try:
        with _undisturbed(path):
            yield partial
        _replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """`complete_folder`, but what an error or the end of the process leaves behind is kept for the next call to continue.

    Raises ParameterError as `complete_folder` does, and if another process is writing to the folder.
    """
    _refuse_file(path)
    partial = _beside(path, "partial")
    partial.mkdir(exist_ok=True)
    with _locked(partial):
        try:
            for unfinished in partial.rglob("*.partial"):  # files that zarr had not yet renamed
                if unfinished.is_file():
                    unfinished.unlink(missing_ok=True)
            with _undisturbed(path):
                yield partial
            _replace(partial, path)
        finally:
            if partial.exists() and not any(child.is_dir() for child in partial.iterdir()):
                shutil.rmtree(partial)  # it holds no chunks that would be lost


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ParameterError if `path` exists, if only as a link that leads nowhere, unless it may be overwritten."""
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise ParameterError(f"{path} exists already; pass overwrite (--overwrite) to replace it, or choose another name")


def refuse_nested(outputs: Iterable[Path], inputs: Iterable[Place]) -> None:
    """Raise ParameterError for an output inside a file, array or group that is an input, and for an input inside an output.

    The former would become a part of what is read, and the latter would be lost when the output is replaced. An output may lie
    in a folder of inputs.
    """
    sources = {as_path(one).resolve(): one for one in inputs if not is_url(one)}
    targets = {one.resolve(): one for one in outputs}
    for target, output in targets.items():
        for parent in target.parents:
            if parent in sources and (is_node(parent) or not parent.is_dir()):
                raise ParameterError(f"{output} lies inside {sources[parent]}, which is an input; choose a folder outside it")
    for source, given in sources.items():
        for parent in source.parents:
            if parent in targets:
                raise ParameterError(f"{given} lies inside {targets[parent]}, which is an output; choose another output")


@contextmanager
def _undisturbed(path: Path) -> Iterator[None]:
    """Raise ParameterError if something is at `path` at the end of the with block that was not there at the beginning."""
    existed = path.exists()
    yield
    if path.exists() and not existed:
        raise ParameterError(
            f"{path} has been written by another process meanwhile; pass overwrite (--overwrite), or choose another name"
        )


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ParameterError(f"{path} is a file but a folder would take its place; choose another name, or remove it")


def _replace(partial: Path, path: Path) -> None:
    old = _beside(path, "old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed
    if path.is_symlink():  # the link is replaced, and what it leads to is kept
        path.unlink()
    if path.is_dir():
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock that ends with the process. Windows cannot lock folders, but does not rename one that is in use."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())
        except BlockingIOError:
            ours = False
        if not ours:
            raise ParameterError(f"{folder} is being written by another process; wait until it is done, or choose another name")
        yield
    finally:
        os.close(descriptor)


def _beside(path: Path, mark: str) -> Path:
    """A path for another state of what is at `path`, in the same folder, with a short name if the usual one is too long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.stem}.{mark}{path.suffix}"
    if len(os.fsencode(name)) > _LONGEST:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{mark}{path.suffix}"
    return path.with_name(name)
