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
    """A path to write to. The file becomes `path` at the end of the with block, or is removed if an error is raised."""
    partial = _beside(path, f"partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """`complete_file` for a folder. A folder that exists at `path` is replaced last, and kept if anything fails."""
    partial = _beside(path, f"partial-{os.getpid()}")
    try:
        yield partial
        _replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """`complete_folder`, but what an error or the end of the process leaves behind is kept for the next call to continue.

    Raises ParameterError if another process is writing to the folder.
    """
    partial = _beside(path, "partial")
    partial.mkdir(exist_ok=True)
    with _locked(partial):
        try:
            for unfinished in partial.rglob("*.partial"):  # files that zarr had not yet renamed
                if unfinished.is_file():
                    unfinished.unlink(missing_ok=True)
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


def _replace(partial: Path, path: Path) -> None:
    old = _beside(path, "old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed
    if path.is_dir() and not path.is_symlink():
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)  # a file or a link, even one that leads nowhere, which no folder can replace
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
