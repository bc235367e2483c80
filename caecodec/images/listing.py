"""Paths -> image files: those in folders, in tar files, and named by themselves."""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError
from ..storage.locations import OZX, is_node, refuse_special
from .files import SUFFIXES, read_rgb, read_size

TAR = ".tar"
_MACOSX = "__MACOSX"


class ImageFile(NamedTuple):
    """An image file on disk or in a tar file.

    path : its path; TAR/MEMBER for a member of a tar file
    stream : the bytes of a member of a tar file; None for a file on disk
    named : the caller gave this path itself, not that of a folder or tar file around it
    """

    path: Path
    stream: io.BytesIO | None = None
    named: bool = False

    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as `read_size`."""
        return read_size(self.path, self.stream)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pixels (height, width, 3), as `read_rgb`."""
        return read_rgb(self.path, self.stream)


def find_images(paths: Sequence[Path]) -> Iterator[ImageFile | Path]:
    """The image files at these paths, in order of name within each folder and tar file; their suffixes are SUFFIXES.

    Folders are searched with their subfolders and the tar files in them, except for what is hidden and links that lead back to
    where they are. Where a Zarr array or group (zipped, .ozx, or not) is found, its path is given, for the caller to open or
    leave out.

    Raises ParameterError for a path that does not exist and a tar file that cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; name image files, or folders or tar files of image files")
        yield from _find(path, named=True)


def walk(folder: Path, wanted: Callable[[Path], bool], without: Path | None = None) -> Iterator[Path]:
    """What is wanted in a folder and its subfolders, in order of name, except for what is hidden.

    What is wanted, and Zarr arrays and groups, are not searched themselves, nor is the folder `without`. What cannot be looked
    into is given too, for the caller to find out why.
    """
    return _walk(folder, wanted, {folder.resolve(), *([without.resolve()] if without else [])})


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or holds what macOS puts beside files in archives (._NAME, __MACOSX)."""
    return (name.startswith(".") and name not in (".", "..")) or name == _MACOSX


def _walk(folder: Path, wanted: Callable[[Path], bool], passed: set[Path]) -> Iterator[Path]:
    """`walk` without the folders that are passed over or were entered on the way here, to which a link may lead back."""
    for child in sorted(folder.iterdir()):
        if is_hidden(child.name):
            continue
        try:
            if wanted(child):
                yield child
            elif child.is_dir() and not is_node(child) and child.resolve() not in passed:
                yield from _walk(child, wanted, passed | {child.resolve()})
        except OSError:
            yield child


def _find(path: Path, named: bool, passed: frozenset[Path] = frozenset()) -> Iterator[ImageFile | Path]:
    """`find_images` of one path; `passed`: the folders that were entered on the way here, to which a link may lead back."""
    if path.is_dir():
        if is_node(path):
            yield path
        elif path.resolve() not in passed:
            for child in sorted(path.iterdir()):
                if not is_hidden(child.name):
                    yield from _find(child, False, passed | {path.resolve()})
    elif path.suffix.lower() == OZX:
        yield path
    elif path.suffix == TAR:
        yield from _members(path)
    elif path.suffix.lower() in SUFFIXES:
        yield ImageFile(path, named=named)


def _members(path: Path) -> Iterator[ImageFile]:
    refuse_special(path)
    try:
        with tarfile.open(path) as tar:
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                wanted = member.name.lower().endswith(SUFFIXES) and not any(map(is_hidden, Path(member.name).parts))
                stream = tar.extractfile(member) if wanted else None
                if stream is not None:
                    yield ImageFile(path / member.name, io.BytesIO(stream.read()))
    except tarfile.TarError as error:
        raise ParameterError(f"{path} cannot be read as a tar file ({error}); check that it is complete") from error
