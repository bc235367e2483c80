"""A folder that holds an OME-NGFF group -> a zipped group (RFC-9, .ozx)."""

import json
import shutil
import zipfile
from pathlib import Path

_DOCUMENT = "zarr.json"
_TIME = (1980, 1, 1, 0, 0, 0)  # the same group always gives the same file


def zip_group(folder: Path, path: Path, version: str) -> None:
    """Write the files of a group of OME-NGFF `version` to a zip file, without compression.

    Its documents come first, the group's own before those of its members, so that the start of the file tells what is in it.
    The comment of the file states the version and this order.
    """
    names = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    names.sort(key=lambda name: (name.name != _DOCUMENT, len(name.parts) if name.name == _DOCUMENT else 0, name.as_posix()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in names:
            entry = zipfile.ZipInfo(name.as_posix(), _TIME)
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as file, target.open(entry, "w", force_zip64=True) as copy:
                shutil.copyfileobj(file, copy, 2**20)
        about = {"ome": {"version": version, "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        target.comment = json.dumps(about).encode()
