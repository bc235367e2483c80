"""The files of a conversion: finds its inputs, names its outputs, and reads and writes image files.

`read_image` and `write_image` are those of `images.files`, so that all that a conversion does with files is found here.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ParameterError
from ..images.files import SLIDE_SUFFIXES, SUFFIXES, TIFF_SUFFIXES, open_image, read_image, writable, write_image
from ..images.listing import walk
from ..storage.locations import OZX, ZIP, Place, as_path, is_node, is_url, is_zipped, name
from . import video

__all__ = [
    "PAYLOAD_SUFFIX", "Input", "coded_inputs", "coded_suffix", "image_inputs", "is_group", "is_payload", "is_video",
    "open_image", "read_image", "stem", "suffix_of", "writable", "write_image",
]  # fmt: skip
PAYLOAD_SUFFIX = ".cae"
_SUFFIXES = tuple(dict.fromkeys((*SUFFIXES, *TIFF_SUFFIXES, *SLIDE_SUFFIXES, *video.SUFFIXES)))


class Input(NamedTuple):
    """A file, group or URL to convert, and the subfolder that it was found in, relative to the folder that was named."""

    location: Place
    folder: Path = Path()


def image_inputs(inputs: Sequence[Place], output: Path) -> list[Input]:
    """The image files, videos, Zarr arrays and groups among the inputs, each folder replaced by those in it and its subfolders.

    Hidden files and folders, and the folder that the outputs go to, are passed over.

    Raises ParameterError for an input that does not exist, and for a folder that holds none.
    """
    what = "image files (" + ", ".join(_SUFFIXES) + f") or Zarr groups (.zarr, {OZX})"
    return list(_expand(inputs, _is_image, what, output))


def coded_inputs(inputs: Sequence[Place], output: Path) -> list[Input]:
    """The OME-NGFF groups and .cae files among the inputs, as `image_inputs`; URLs stay as they are."""
    return list(_expand(inputs, _is_coded, f"OME-NGFF groups (.zarr, {OZX}) or .cae files", output))


def is_group(location: Place) -> bool:
    """Whether a location is that of a Zarr array or group, which may be zipped; URLs are."""
    if is_url(location):
        return True
    path = as_path(location)
    if is_zipped(path):
        return path.suffix.lower() == OZX or path.name.lower().endswith(f".zarr{ZIP}")
    return path.is_dir() and (path.suffix == ".zarr" or is_node(path))


def is_payload(source: Place) -> bool:
    """Whether a path is that of a .cae file, by its suffix."""
    return not is_url(source) and as_path(source).suffix == PAYLOAD_SUFFIX


def is_video(source: Place) -> bool:
    """Whether a path is that of a video file, by its suffix."""
    return suffix_of(source) in video.SUFFIXES


def suffix_of(source: Place) -> str:
    """The suffix of a file in lower case; none of a URL, which is never that of a file."""
    return "" if is_url(source) else as_path(source).suffix.lower()


def stem(source: Place) -> str:
    """The name of a file, group or zipped store without its suffixes (.png, .zarr, .ome.zarr, .ozx, .ome.zarr.zip ...)."""
    whole = name(source)
    whole = whole[: -len(ZIP)] if whole.lower().endswith(f".zarr{ZIP}") else whole
    return Path(whole).stem.removesuffix(".ome")


def coded_suffix(path: Place, to: str, zipped: bool) -> str:
    """The suffix of what a file or group becomes; a group of a video's planes is not an OME-NGFF image."""
    if to == "cae":
        return PAYLOAD_SUFFIX
    return OZX if zipped else ".zarr" if is_video(path) else ".ome.zarr"


def _expand(inputs: Sequence[Place], wanted: Callable[[Path], bool], what: str, output: Path) -> Iterator[Input]:
    for one in inputs:
        if is_url(one):
            yield Input(one)
            continue
        path = as_path(one)
        if not path.exists():
            raise ParameterError(f"{path} does not exist; check its name")
        if path.is_dir() and not _is_coded(path):
            found = [Input(child, child.parent.relative_to(path)) for child in walk(path, wanted, output)]
            if not found:
                raise ParameterError(f"folder {path} holds no {what}; name another")
            yield from found
        else:
            yield Input(path)


def _is_image(path: Path) -> bool:
    plain = (path / ".zarray").exists()  # parts of other data; those that are named are converted
    return (is_group(path) and not plain) or (path.suffix.lower() in _SUFFIXES and not path.is_dir())


def _is_coded(path: Path) -> bool:
    return is_group(path) or (path.suffix == PAYLOAD_SUFFIX and not path.is_dir())
