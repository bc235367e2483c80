"""Where Zarr data lie, a folder, a zipped store (.zip) or a URL of fsspec's -> what zarr opens, for reading."""

import importlib.util
import zipfile
from collections.abc import Callable
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

    node: zarr.Group | zarr.Array[Any] = _opened(text, zarr.open, "array or group")
    return node


def open_group(text: Place) -> "zarr.Group":
    """The group at such a place; ParameterError as `open_node`, and for an array."""
    import zarr

    group: zarr.Group = _opened(text, zarr.open_group, "group")
    return group


def _opened(text: Place, function: Callable[..., Any], what: str) -> Any:
    """What a function of zarr's opens at a place."""
    from zarr.storage import ZipStore

    zipped = not is_url(text) and Path(text).suffix == ZIP and Path(text).is_file()
    if is_url(text):
        require_fsspec(text)
    try:
        return function(ZipStore(Path(text)) if zipped else str(text), mode="r")
    except ImportError as error:
        raise ParameterError(f"{text} cannot be opened without another package: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        way_out = "; a zipped store has what is in the group's folder at its top, not the folder" if zipped else ""
        raise ParameterError(f"{text} is no Zarr {what}: {error}{way_out}") from error
