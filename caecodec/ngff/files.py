"""The files of a conversion: finds its inputs, names its outputs, and reads and writes image files.

`read_image` and `write_image` are those of `images.files`, so that all that a conversion does with files is found here.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import ParameterError
from ..images.files import SUFFIXES, read_image, writable, write_image
from ..images.listing import is_hidden
from ..storage.locations import OZX, ZIP, Location, is_url, is_zipped, name
from . import video

__all__ = [
    "PAYLOAD_SUFFIX", "coded_inputs", "group_suffix", "image_inputs", "is_group", "is_payload", "is_video", "read_image",
    "stem", "writable", "write_image",
]  # fmt: skip
PAYLOAD_SUFFIX = ".cae"
_AnyLocation = TypeVar("_AnyLocation", Path, Location)


def image_inputs(inputs: Sequence[Path]) -> list[Path]:
    """The image files, videos and OME-NGFF groups among the inputs, each folder replaced by those directly in it.

    Raises ParameterError for an input that does not exist, and for a folder that holds none.
    """
    suffixes = (*SUFFIXES, *video.SUFFIXES)
    what = "image files (" + ", ".join(suffixes) + f") or OME-NGFF groups (.zarr, {OZX})"
    return list(_expand(inputs, lambda path: path.suffix.lower() in suffixes or is_group(path), what))


def coded_inputs(inputs: Sequence[Location]) -> list[Location]:
    """The OME-NGFF groups and .cae files among the inputs, as `image_inputs`; URLs stay as they are."""
    return list(_expand(inputs, _is_coded, f"OME-NGFF groups (.zarr, {OZX}) or .cae files"))


def is_group(path: Path) -> bool:
    """Whether a path is that of a Zarr group, which may be zipped."""
    if is_zipped(path):
        return path.suffix == OZX or path.name.endswith(f".zarr{ZIP}")
    return path.is_dir() and (path.suffix == ".zarr" or any((path / name).exists() for name in ("zarr.json", ".zgroup")))


def is_payload(source: Location) -> bool:
    """Whether a path is that of a .cae file, by its suffix."""
    return not is_url(source) and Path(source).suffix == PAYLOAD_SUFFIX


def is_video(path: Path) -> bool:
    """Whether a path is that of a video file, by its suffix."""
    return path.suffix.lower() in video.SUFFIXES


def stem(source: Location) -> str:
    """The name of a file, group or zipped store without its suffixes (.png, .zarr, .ome.zarr, .ozx, .ome.zarr.zip ...)."""
    whole = name(source)
    whole = whole.removesuffix(ZIP) if whole.endswith(f".zarr{ZIP}") else whole
    return Path(whole).stem.removesuffix(".ome")


def group_suffix(path: Path, zipped: bool) -> str:
    """The suffix of the group that a file or group becomes; a group of a video's planes is not an OME-NGFF image."""
    return OZX if zipped else ".zarr" if is_video(path) else ".ome.zarr"


def _expand(inputs: Sequence[_AnyLocation], wanted: Callable[[Path], bool], what: str) -> Iterator[_AnyLocation]:
    for one in inputs:
        if is_url(one):
            yield one
            continue
        path = Path(one)
        if not path.exists():
            raise ParameterError(f"{path} does not exist; check its name")
        if path.is_dir() and not _is_coded(path):
            found = sorted(child for child in path.iterdir() if wanted(child) and not is_hidden(child.name))
            if not found:
                raise ParameterError(f"folder {path} holds no {what}; name another")
            yield from found
        else:
            yield path


def _is_coded(path: Path) -> bool:
    return is_group(path) or path.suffix == PAYLOAD_SUFFIX
