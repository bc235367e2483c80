"""Paths -> the images to evaluate on, each read once to see that it can be used."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ParameterError
from ..images.files import SUFFIXES
from ..images.listing import ImageFile, find_images
from .curves import ImageInfo


class EvaluationImage(NamedTuple):
    """An image to evaluate on: its name and size, and the file that holds its pixels."""

    info: ImageInfo
    file: ImageFile


def select_images(paths: Sequence[Path], every: int = 1) -> tuple[EvaluationImage, ...]:
    """The images in these files, folders and tar files, or every so many of them.

    Raises ParameterError for a path that does not exist or holds no image, for an image that cannot be read as 8-bit RGB or
    grey, and for one that is named twice.
    """
    files: list[ImageFile] = []
    for path in paths:
        found = [file for file in find_images([path]) if isinstance(file, ImageFile)]
        if not found:
            raise ParameterError(f"{path} holds no image; name image files ({', '.join(SUFFIXES)}), or folders or tar files")
        files += found
    files = files[::every]
    short = len({file.path.name for file in files}) == len(files)
    images = []
    for file in files:
        height, width, _ = file.pixels().shape
        images.append(EvaluationImage(ImageInfo(file.path.name if short else str(file.path), height, width), file))
    names = [image.info.name for image in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ParameterError(f"{twice} is named twice; name each image once")
    return tuple(images)
