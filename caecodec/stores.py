"""Where Zarr data lie, a folder, a zipped store (.zip) or a URL of fsspec's -> what zarr opens, for reading."""

import importlib.util
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ParameterError

if TYPE_CHECKING:
    import zarr

Place = Path | str  # a URL is text: a path would lose one of its slashes
ZIP = ".zip"
_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")


def place(text: Place) -> Place:
    """A path, or a URL as it is."""
    return text if is_url(text) else Path(text)


def is_url(text: Place) -> bool:
    """Whether this is a URL of fsspec's, such as s3://bucket/a.ome.zarr."""
    return isinstance(text, str) and "://" in text


def is_node(path: Path) -> bool:
    """Whether a folder holds the documents of a Zarr group or array."""
    return any((path / name).exists() for name in _DOCUMENTS)


def name(text: Place) -> str:
    """The last part of a path or URL."""
    return str(text).rstrip("/").rsplit("/", 1)[-1] if is_url(text) else Path(text).name


def require_fsspec(url: Place) -> None:
    """ParameterError where fsspec is not installed."""
    if importlib.util.find_spec("fsspec") is None:
        raise ParameterError(f"{url} is a URL, which needs fsspec, which is not installed: pip install fsspec")


def open_node(text: Place) -> "zarr.Group | zarr.Array[Any]":
    """The group or array at a path, in a zipped store, or at a URL, to be read.

    Raises
    ------
    ParameterError
        There is none, or the URL needs fsspec, or a package for its protocol, which is not installed.
    """
    import zarr
    from zarr.errors import BaseZarrError
    from zarr.storage import ZipStore

    if is_url(text):
        require_fsspec(text)
    try:
        zipped = not is_url(text) and Path(text).suffix == ZIP and Path(text).is_file()
        return zarr.open(ZipStore(Path(text)) if zipped else str(text), mode="r")
    except ImportError as error:
        raise ParameterError(f"{text} cannot be opened without another package: {error}") from error
    except (BaseZarrError, OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ParameterError(f"{text} is no Zarr array or group: {error}") from error


def open_group(text: Place) -> "zarr.Group":
    """The group at such a place; ParameterError as `open_node`, and for an array."""
    node = open_node(text)
    import zarr

    if isinstance(node, zarr.Array):
        raise ParameterError(f"{text} is an array but must be a group; name the group that holds it")
    return node
