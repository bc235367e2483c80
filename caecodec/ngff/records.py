"""Records in an output what a conversion that can be resumed was asked for, to compare when it is resumed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import BaseZarrError

from ..arrays.arrival import CONVERSION
from ..errors import ParameterError
from ..storage.locations import MARK, MEANING, Place, as_path, is_url, name
from .compressors import ZARR_FORMATS
from .options import Options


def record(location: Place, options: Options) -> dict[str, Any]:
    """The options that matter, and the size and time of last change of the source, which is a file or a folder; or its URL."""
    if is_url(location):
        return {"source": name(location), **options.stored()}
    source = as_path(location)
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    found = [path.stat() for path in files]
    changed = max((one.st_mtime_ns for one in found), default=0)
    seconds, rest = divmod(changed, 10**9)
    return {
        "source_bytes": sum(one.st_size for one in found),
        "source_changed": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09} UTC",
        **options.stored(),
    }


def begin(path: Path, wanted: dict[str, Any], options: Options) -> None:
    """Record at the root of a new output what it will be, or check that a begun one was to be the same.

    Raises ParameterError if it was begun with other options or another source.
    """
    if not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        zarr.open_group(path, mode="a", zarr_format=ZARR_FORMATS[options.ngff], attributes={CONVERSION: wanted, MARK: MEANING})
    changed = differences(path, wanted)
    if changed:
        raise ParameterError(f"{path} was begun with {changed}; pass what it was begun with, or remove it to start again")


def is_complete(path: Path) -> bool:
    """Whether an output that was begun is complete: it only lacks its final name."""
    return MARK not in zarr.open_group(path, mode="r").attrs


def differences(path: Path, wanted: dict[str, Any]) -> str:
    """How the record of an output, finished or not, differs from the wanted one; "" if it does not."""
    try:
        noted = zarr.open_group(path, mode="r").attrs.get(CONVERSION)
    except (BaseZarrError, OSError, ValueError):
        noted = None
    if not isinstance(noted, dict):
        return "unknown options, without resume"
    changed = [key for key in {**noted, **wanted} if noted.get(key) != wanted.get(key)]
    return ", ".join(f"{key} {noted.get(key)!r}, which is now {wanted.get(key)!r}" for key in changed)
