"""Where data lie, a folder, a zipped store (.zip) or a URL of fsspec's -> what zarr opens, or bytes, for reading."""

import importlib.util
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CaeCodecError, ParameterError

if TYPE_CHECKING:
    import zarr

Location = Path | str  # a URL is text: a path would lose one of its slashes
ZIP = ".zip"
_UNREADABLE = (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile)
_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")


def parse_location(text: Location) -> Location:
    """A path, or a URL as it is."""
    return text if is_url(text) else Path(text)


def is_url(text: Location) -> bool:
    """Whether this is a URL of fsspec's, such as s3://bucket/a.ome.zarr."""
    return isinstance(text, str) and "://" in text


def is_node(path: Path) -> bool:
    """Whether a folder holds the documents of a Zarr group or array."""
    return any((path / name).exists() for name in _DOCUMENTS)


def name(text: Location) -> str:
    """The last part of a path or URL."""
    return str(text).rstrip("/").rsplit("/", 1)[-1] if is_url(text) else Path(text).name


def open_node(text: Location) -> "zarr.Group | zarr.Array[Any]":
    """The group or array at a path, in a zipped store, or at a URL, to be read.

    Raises
    ------
    ParameterError
        There is none, or the URL needs fsspec, or a package for its protocol, which is not installed.
    """
    import zarr

    node: zarr.Group | zarr.Array[Any] = _opened(text, zarr.open, "array or group")
    return node


def open_group(text: Location) -> "zarr.Group":
    """The group at such a place; ParameterError as `open_node`, and for an array."""
    import zarr

    group: zarr.Group = _opened(text, zarr.open_group, "group")
    return group


def read_bytes(text: Location, most: int) -> bytes:
    """The bytes of a file at a path or URL, no more than so many; ParameterError as `open_node`."""
    with _explained(text, "cannot be read"):
        if not is_url(text):
            with Path(text).open("rb") as file:
                return file.read(most)
        import fsspec

        with fsspec.open(text, "rb") as stream:
            data: bytes = stream.read(most)
            return data


def _opened(text: Location, function: Callable[..., Any], what: str) -> Any:
    """What a function of zarr's opens at a place."""
    from zarr.storage import ZipStore

    zipped = not is_url(text) and Path(text).suffix == ZIP and Path(text).is_file()
    hint = " with what is in its folder at the top of the zip" if zipped else ""
    with _explained(text, f"is no Zarr {what}{hint}"):
        return function(ZipStore(Path(text)) if zipped else str(text), mode="r")


@contextmanager
def _explained(text: Location, problem: str) -> Iterator[None]:
    """Errors of opening and reading as ParameterError; each protocol of a URL has kinds of its own."""
    if is_url(text) and importlib.util.find_spec("fsspec") is None:
        raise ParameterError(f"{text} is a URL, which needs fsspec, which is not installed: pip install fsspec")
    try:
        yield
    except CaeCodecError:
        raise
    except ImportError as error:
        raise ParameterError(f"{text} cannot be opened without another package: {error}") from error
    # Behind a URL is any package of fsspec's, with errors of its own; of a path, what is not known here is raised as it is.
    except Exception as error:
        if not (is_url(text) or isinstance(error, _UNREADABLE)):
            raise
        raise ParameterError(f"{text} {problem}: {error}") from error
