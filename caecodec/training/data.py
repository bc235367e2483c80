"""Training images: RGB pixels from folders and tar files of photographs, and from Zarr arrays and OME-NGFF groups.

Image files must hold 8-bit RGB or grey, as for conversion (`images.files.read_rgb`), and are turned upright.
A file that cannot be used (damage, 16 bits, transparency, several frames ...) is an error if its own path was given. If it was
found in a folder or tar file it is passed over with a warning, because one such file among thousands should not stop a run.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from ..errors import ParameterError
from ..images.listing import ImageFile, find_images
from ..ngff.metadata import open_multiscales
from ..storage import locations

BLOCK = 1024  # pixels a side of the part of a Zarr array that is read at once
_T = TypeVar("_T")


class _Block(NamedTuple):
    """A part of a plane of a Zarr array."""

    array: Any
    region: tuple[int | slice, ...]
    axes: tuple[int, int, int]  # of height, width and channels, once the region has removed the leading axes
    shape: tuple[int, int]

    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pixels (height, width, 3)."""
        return np.ascontiguousarray(np.asarray(self.array[self.region]).transpose(self.axes))


def images(paths: Sequence[Path], without: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB images (height, width, 3) of the files, folders, tar files, Zarr arrays and OME-NGFF groups at these paths.

    They come in order of name. An array comes in blocks of up to 1024x1024 pixels, a group as the array of its full size. Every
    `without`-th is left out (0: none); `held_out` gives those.

    Raises ParameterError for a path that does not exist, a file given by its own path that cannot be used, and an array that is
    not uint8 with three channels. Warns of each file in a folder or tar file that it passes over.
    """
    return _taken(paths, lambda number: not without or number % without != 0, lambda found: found.pixels())


def files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path | io.BytesIO]]:
    """The image files (by suffix) at these paths: the name of each, for a member of a tar file TAR/MEMBER, and what to open."""
    return ((found.path, found.stream or found.path) for found in find_images(paths) if isinstance(found, ImageFile))


def held_out(paths: Sequence[Path], every: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The images that `images(paths, every)` leaves out."""
    return _taken(paths, lambda number: number % every == 0, lambda found: found.pixels())


def sizes(paths: Sequence[Path], without: int = 0) -> list[tuple[int, int]]:
    """Height and width of each of the images.

    Pixels are read only of the few files whose headers do not tell whether they can be used, so damaged pixels go unnoticed.
    Raises and warns as `images` does.
    """
    return list(_taken(paths, lambda number: not without or number % without != 0, lambda found: found.size()))


def count(paths: Sequence[Path], size: int = 1, without: int = 0) -> int:
    """How many of the images have at least size x size pixels."""
    return sum(min(one) >= size for one in sizes(paths, without))


def spread(
    paths: Sequence[Path], size: int, total: int, seed: int = 0, without: int = 0
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """`total` random crops (size, size, 3), as many of each image, each with the number of its image.

    Images smaller than a crop are passed over, and not numbered. The same paths and seed give the same crops. There are fewer
    crops if a file turns out to be damaged only when its pixels are read.
    """
    rng = np.random.default_rng(seed)
    large = count(paths, size, without)
    for number, image in enumerate(image for image in images(paths, without) if min(image.shape[:2]) >= size):
        height, width = image.shape[:2]
        for _ in range((number + 1) * total // large - number * total // large):
            y, x = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
            yield number, image[y : y + size, x : x + size]


def grid(paths: Sequence[Path], size: int, without: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
    """Crops (size, size, 3) that cover each image evenly, with as few pixels twice, or left out, as rows and columns allow.

    Images smaller than a crop are passed over.
    """
    for image in images(paths, without):
        height, width = image.shape[:2]
        if min(height, width) >= size:
            for y in _places(height, size):
                for x in _places(width, size):
                    yield image[y : y + size, x : x + size]


def grid_count(shape: tuple[int, int], size: int) -> int:
    """How many crops `grid` makes of an image of this height and width, both at least `size`."""
    return len(_places(shape[0], size)) * len(_places(shape[1], size))


def _places(length: int, size: int) -> list[int]:
    """Where crops begin along a side, at equal distances from one end to the other."""
    places: list[int] = np.linspace(0, length - size, max(1, round(length / size))).round().astype(int).tolist()
    return places


def _taken(paths: Sequence[Path], wanted: Callable[[int], bool], take: Callable[[ImageFile | _Block], _T]) -> Iterator[_T]:
    """What `take` makes of the images whose numbers, from 1, are wanted; files that cannot be used keep their numbers."""
    for number, found in enumerate(_found(paths), 1):
        if not wanted(number):
            continue
        try:
            taken = take(found)
        except ParameterError as error:
            if not isinstance(found, ImageFile) or found.named:
                raise
            warnings.warn(f"{error}; training passes over this file", stacklevel=1)  # from here, so that it is shown once
        else:
            yield taken


def _found(paths: Sequence[Path]) -> Iterator[ImageFile | _Block]:
    for found in find_images(paths):
        if isinstance(found, ImageFile):
            yield found
        else:
            yield from _blocks(found)


def _blocks(path: Path) -> Iterator[_Block]:
    """The blocks of an array (y, x, c or c, y, x, after any leading axes) or of an OME-NGFF group, also zipped."""
    node: Any = locations.open_node(path)
    channel = None
    if isinstance(node, zarr.Group):
        image = open_multiscales(path)
        if "c" not in image.axes:
            raise ParameterError(f"{path} is an OME-NGFF image without channels but training takes three; name others")
        channel, node = image.axes.index("c"), image.level(0)
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
    for leader in np.ndindex(*(shape[axis] for axis in leading)):
        for top in range(0, shape[y], BLOCK):
            for left in range(0, shape[x], BLOCK):
                index: list[int | slice] = [slice(None)] * len(shape)
                for axis, position in zip(leading, leader, strict=True):
                    index[axis] = position
                index[y], index[x] = slice(top, top + BLOCK), slice(left, left + BLOCK)
                extent = (min(BLOCK, shape[y] - top), min(BLOCK, shape[x] - left))
                yield _Block(node, tuple(index), (last[0], last[1], last[2]), extent)
