"""Training images: crops from folders and tar files of photographs."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


def images(paths: Sequence[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB images (height, width, 3) of the files, folders and tar files at these paths, in order of name."""
    return (_read(file) for _, file in files(paths))


def files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path | io.BytesIO]]:
    """The image files (by suffix) at these paths: the name of each, for a member of a tar file TAR/MEMBER, and what to open."""
    for path in paths:
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in sorted(tar.getmembers(), key=lambda m: m.name):
                    stream = tar.extractfile(member) if member.name.lower().endswith(SUFFIXES) else None
                    if stream is not None:
                        yield path / member.name, io.BytesIO(stream.read())
        else:
            found = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in found:
                if file.suffix.lower() in SUFFIXES:
                    yield file, file


def count(paths: Sequence[Path], size: int = 1) -> int:
    """How many images of at least size x size pixels there are; only their headers are read."""
    found = 0
    for _, file in files(paths):
        with Image.open(file) as image:
            found += min(image.size) >= size
    return found


def spread(paths: Sequence[Path], size: int, total: int, seed: int = 0) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """`total` random crops (size, size, 3), as many of each image, each with the number of its image.

    Images smaller than a crop are passed over, and not numbered. The same paths and seed give the same crops.
    """
    rng = np.random.default_rng(seed)
    large = count(paths, size)
    for number, image in enumerate(image for image in images(paths) if min(image.shape[:2]) >= size):
        height, width = image.shape[:2]
        for _ in range((number + 1) * total // large - number * total // large):
            y, x = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
            yield number, image[y : y + size, x : x + size]


def _read(file: Path | io.BytesIO) -> npt.NDArray[np.uint8]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
