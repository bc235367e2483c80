"""Opens data for reading: a folder, a zipped store (.ozx, .zip), a URL that fsspec or obstore understands, or a zarr store."""

import importlib.util
import json
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import CaeCodecError, ParameterError

if TYPE_CHECKING:
    import zarr
    import zarr.storage
    from zarr.abc.store import Store

Location = Path | str  # a URL stays text: as a path it would lose one of its slashes
Place: TypeAlias = "Location | Store"
ZIP = ".zip"
OZX = ".ozx"  # a zipped OME-NGFF group (RFC-9)
# RuntimeError: an encrypted member of a zip file
UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")
MARK = "caecodec_partial"  # the attribute of a group that is not yet complete, and its value
MEANING = "caecodec encode has not completed this group; the same command with --resume does"


def parse_location(text: Location) -> Location:
    """The path that a text names, or the text itself if it is a URL."""
    return text if is_url(text) else Path(text)


def parse_paths(paths: "Sequence[Location]", name: str = "images") -> list[Path]:
    """Paths, given as such or as texts. Raises ParameterError for a single one, each letter of which would be a path."""
    refuse_single(paths, name)
    return [Path(path) for path in paths]


def refuse_single(paths: object, name: str) -> None:
    """Raise ParameterError for a path where a list of them is needed."""
    if isinstance(paths, str | Path):
        raise ParameterError(f"{name} are {str(paths)!r} but must be a list of paths; pass [{str(paths)!r}]")


def local(output: Location) -> Path:
    """The path that an output names. Raises ParameterError for a URL, of which a path would make a folder here."""
    if is_url(output):
        raise ParameterError(
            f"output is the URL {output} but must be a path; write to a path, and copy what is there to the URL"
        )
    return Path(output)


def as_path(place: Place) -> Path:
    """The path that a place is that is no URL."""
    assert isinstance(place, str | Path)
    return Path(place)


def is_url(text: Any) -> bool:
    """Whether a place is a URL, such as s3://bucket/a.ome.zarr, or a store of zarr, and not a path."""
    if isinstance(text, str | Path):
        return isinstance(text, str) and "://" in text
    from zarr.abc.store import Store

    return isinstance(text, Store)


def is_zipped(text: Place) -> bool:
    """Whether a place is the path of a zipped store."""
    return not is_url(text) and as_path(text).suffix.lower() in (ZIP, OZX) and as_path(text).is_file()


def is_node(path: Path) -> bool:
    """Whether a folder is a Zarr group or array, by the documents in it."""
    return any((path / name).exists() for name in _DOCUMENTS)


def name(text: Place) -> str:
    """The last part of a path or URL, or of what zarr calls a store."""
    return str(text).rstrip("/)\"'").rsplit("/", 1)[-1] if is_url(text) else as_path(text).name


def refuse_special(path: Path) -> None:
    """Raise ParameterError for a pipe, a device or a socket, which readers would wait for, or read without an end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ParameterError(f"{path} is a pipe, a device or a socket but must be a file; write what it gives to a file first")


def open_node(text: Place) -> "zarr.Group | zarr.Array[Any]":
    """The group or array at a path, in a zipped store, or at a URL, opened for reading.

    Of paths it is what the documents of its members say, not consolidated metadata, which may be stale.

    Raises
    ------
    ParameterError
        There is nothing to open, or it is in a group that says that it is partial, or the URL needs a package for its protocol
        that is not installed, fsspec's or obstore.
    """
    import zarr

    node: zarr.Group | zarr.Array[Any] = _opened(text, zarr.open, "array or group")
    refuse_partial(text, node)
    return node


def open_group(text: Place) -> "zarr.Group":
    """The group at a location. Raises ParameterError as `open_node` does, and for an array."""
    import zarr

    group: zarr.Group = _opened(text, zarr.open_group, "group")
    refuse_partial(text, group)
    return group


def refuse_partial(text: Place, node: "zarr.Group | zarr.Array[Any]") -> None:
    """Raise ParameterError if the array or group at a place says that it is partial, or a group does in whose folder it is."""
    partial = MARK in node.attrs
    if not partial and not is_url(text) and as_path(text).is_dir():
        for parent in as_path(text).resolve().parents:
            if partial or not is_node(parent):
                break
            partial = MARK in _attributes(parent)
    if partial:
        raise ParameterError(
            f"{text} is partial, because its conversion has not ended; run the same caecodec encode command with --resume to "
            "complete it, or remove it"
        )


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of the group or array in a folder, as its documents have them."""
    v3, v2 = folder / "zarr.json", folder / ".zattrs"
    try:
        found = json.loads((v3 if v3.exists() else v2).read_bytes())
        found = found.get("attributes") if v3.exists() else found
    except (OSError, ValueError, AttributeError):  # whoever opens it is told what is wrong with it
        return {}
    return found if isinstance(found, dict) else {}


def read_bytes(text: Location, most: int) -> bytes:
    """The first `most` bytes of the file at a path or URL. Raises ParameterError as `open_node` does."""
    with _explained(text, "cannot be read"):
        if not is_url(text):
            with Path(text).open("rb") as file:
                return file.read(most)
        import fsspec

        with fsspec.open(text, "rb") as stream:
            data: bytes = stream.read(most)
            return data


def _opened(text: Place, function: Callable[..., Any], what: str) -> Any:
    """The array or group that one of zarr's functions opens at a location."""
    from zarr.storage import ZipStore

    remote = is_url(text) and name(text).lower().endswith((ZIP, OZX)) and "::" not in str(text)
    zipped = remote or is_zipped(text)
    hint = " (its documents must be at the top level of the zip)" if zipped else ""
    if not is_url(text) and as_path(text).is_dir() and not is_node(as_path(text)):
        raise ParameterError(f"{text} is a folder but no Zarr {what}; name one, such as may be in it")
    with _explained(text, f"is not a Zarr {what}{hint}"):
        if not isinstance(text, str | Path):
            return function(text, mode="r")
        if is_url(text) and not remote:
            return function(_served(str(text)), mode="r")
        if remote:
            return function(_remote_zip(str(text)), mode="r")
        return function(ZipStore(Path(text)) if zipped else Path(text), mode="r", use_consolidated=False)


def _served(url: str) -> "str | zarr.storage.ObjectStore[Any]":
    """The URL, if fsspec serves its protocol; obstore's store, if fsspec lacks a package for it and obstore is there."""
    from fsspec import get_filesystem_class

    if "::" in url:
        return url
    try:
        get_filesystem_class(url.partition("://")[0])
    except (ImportError, ValueError):
        if importlib.util.find_spec("obstore") is None:
            raise
        from obstore.store import from_url
        from zarr.storage import ObjectStore

        return ObjectStore(from_url(url), read_only=True)
    return url


def _remote_zip(url: str) -> "zarr.storage.FsspecStore":
    """The store in a zip file at a URL, of which only the parts that are read are fetched."""
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from fsspec.implementations.zip import ZipFileSystem
    from zarr.storage import FsspecStore

    class Rooted(ZipFileSystem):  # type: ignore[misc]  # fsspec has no types
        """Takes and lists paths from the root, as FsspecStore has them; otherwise zarr finds no members of inner groups.

        One thread reads at a time: zipfile opens members at the position that its file has just then.
        """

        reading = threading.Lock()

        def cat_file(self, *arguments: Any, **options: Any) -> Any:
            with self.reading:
                return super().cat_file(*arguments, **options)

        def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
            found = super().ls(path.strip("/"), detail, **options)
            return found if detail else [f"/{name}" for name in found]

    return FsspecStore(AsyncFileSystemWrapper(Rooted(url), asynchronous=True), read_only=True, path="")


@contextmanager
def _explained(text: Place, problem: str) -> Iterator[None]:
    """Turn errors of opening and reading into ParameterError; each URL protocol has its own kinds of errors."""
    if is_url(text) and importlib.util.find_spec("fsspec") is None:
        raise ParameterError(f"{text} is a URL and needs fsspec, which is not installed: pip install fsspec")
    try:
        yield
    except CaeCodecError:
        raise
    except ImportError as error:
        raise ParameterError(f"{text} cannot be opened without another package: {error}") from error
    # Any of fsspec's packages may serve a URL, with errors of its own. Unknown errors of paths pass through.
    except Exception as error:
        if not (is_url(text) or isinstance(error, UNREADABLE)):
            raise
        raise ParameterError(f"{text} {problem}: {error}") from error
