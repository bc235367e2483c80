"""Training images: RGB pixels from folders and tar files of photographs, and from Zarr arrays and OME-NGFF groups."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image, UnidentifiedImageError

from ..errors import ParameterError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
TILE = 1024  # pixels a side of what is read of a Zarr array at once
_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")


class _File(NamedTuple):
    """An image file, or the bytes of one; `name` is its path, TAR/MEMBER for a member of a tar file."""

    name: Path
    file: Path | io.BytesIO

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; only the header is read."""
        try:
            with Image.open(self.file) as image:
                return image.height, image.width
        except UnidentifiedImageError as error:
            raise ParameterError(
                f"{self.file} cannot be read as an image ({error}); remove it from the training images"
            ) from error

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3)."""
        with Image.open(self.file) as image:
            return np.asarray(image.convert("RGB"))


class _Tile(NamedTuple):
    """A part of a plane of a Zarr array."""

    array: Any
    region: tuple[int | slice, ...]
    axes: tuple[int, int, int]  # where height, width and channels are once the region has removed the leading axes
    size: tuple[int, int]

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3)."""
        return np.ascontiguousarray(np.asarray(self.array[self.region]).transpose(self.axes))


def images(paths: Sequence[Path], without: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB images (height, width, 3) of the files, folders, tar files, Zarr arrays and OME-NGFF groups at these paths.

    They come in order of name; an array in tiles of up to 1024x1024 pixels, a group as the array of its full size. Every
    `without`-th is left out, 0 being none: those that `held_out` gives.

    Raises ParameterError for a path that is not there, a file that is no image, or an array that is not uint8 with three
    channels.
    """
    return (found.pixels() for number, found in enumerate(_found(paths), 1) if not without or number % without)


def files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path | io.BytesIO]]:
    """The image files (by suffix) at these paths: the name of each, for a member of a tar file TAR/MEMBER, and what to open."""
    return ((found.name, found.file) for found in _found(paths) if isinstance(found, _File))


def held_out(paths: Sequence[Path], every: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The images that `images(paths, every)` leaves out."""
    return (found.pixels() for number, found in enumerate(_found(paths), 1) if not number % every)


def sizes(paths: Sequence[Path], without: int = 0) -> list[tuple[int, int]]:
    """Height and width of each of the images; no pixels are read."""
    return [found.size for number, found in enumerate(_found(paths), 1) if not without or number % without]


def count(paths: Sequence[Path], size: int = 1, without: int = 0) -> int:
    """How many of the images have at least size x size pixels."""
    return sum(min(one) >= size for one in sizes(paths, without))


def spread(
    paths: Sequence[Path], size: int, total: int, seed: int = 0, without: int = 0
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """`total` random crops (size, size, 3), as many of each image, each with the number of its image.

    Images smaller than a crop are passed over, and not numbered. The same paths and seed give the same crops.
    """
    rng = np.random.default_rng(seed)
    large = count(paths, size, without)
    for number, image in enumerate(image for image in images(paths, without) if min(image.shape[:2]) >= size):
        height, width = image.shape[:2]
        for _ in range((number + 1) * total // large - number * total // large):
            y, x = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
            yield number, image[y : y + size, x : x + size]


def _found(paths: Sequence[Path]) -> Iterator[_File | _Tile]:
    for path in paths:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; name image files, folders, tar files or Zarr arrays")
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in sorted(tar.getmembers(), key=lambda m: m.name):
                    stream = tar.extractfile(member) if member.name.lower().endswith(SUFFIXES) else None
                    if stream is not None:
                        yield _File(path / member.name, io.BytesIO(stream.read()))
        elif path.is_dir() and any((path / name).exists() for name in _DOCUMENTS):
            yield from _tiles(path)
        elif path.is_dir():
            yield from _found(sorted(path.iterdir()))
        elif path.suffix.lower() in SUFFIXES:
            yield _File(path, path)


def _tiles(path: Path) -> Iterator[_Tile]:
    """The tiles of an array (y, x, c or c, y, x, after any leading axes) or of an OME-NGFF group."""
    node = zarr.open(str(path), mode="r")
    channel = None
    if isinstance(node, zarr.Group):
        attributes: dict[str, Any] = node.attrs.asdict()
        try:
            image = attributes.get("ome", attributes)["multiscales"][0]
            channel = [axis["name"] for axis in image["axes"]].index("c")
            node = node[image["datasets"][0]["path"]]
        except (KeyError, IndexError, ValueError) as error:
            raise ParameterError(f"{path} is a group but no OME-NGFF image with channels; name its arrays") from error
    shape = getattr(node, "shape", ())
    if channel is None:
        channel = next((len(shape) + axis for axis in (-1, -3) if len(shape) >= 3 and shape[axis] == 3), None)
    if not isinstance(node, zarr.Array) or channel is None or shape[channel] != 3 or node.dtype != np.uint8:
        raise ParameterError(
            f"{path} has shape {shape} and dtype {getattr(node, 'dtype', None)} but training takes uint8 arrays with an axis "
            "of 3 channels, last or third from last"
        )
    *leading, y, x = (axis for axis in range(len(shape)) if axis != channel)
    last = tuple(axis - len(leading) for axis in (y, x, channel))
    for place in np.ndindex(*(shape[axis] for axis in leading)):
        for top in range(0, shape[y], TILE):
            for left in range(0, shape[x], TILE):
                index: list[int | slice] = [slice(None)] * len(shape)
                for axis, position in zip(leading, place, strict=True):
                    index[axis] = position
                index[y], index[x] = slice(top, top + TILE), slice(left, left + TILE)
                size = (min(TILE, shape[y] - top), min(TILE, shape[x] - left))
                yield _Tile(node, tuple(index), (last[0], last[1], last[2]), size)
