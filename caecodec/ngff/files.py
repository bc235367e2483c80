"""Image files <-> RGB arrays, without loss: what eight bits of RGB cannot hold is refused, not converted."""

from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ParameterError
from .partial import complete_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_WAY_OUT = "convert it to 8-bit RGB first, or store it with a lossless codec"


class Photograph(NamedTuple):
    """An upright image: pixels (height, width, 3) uint8, and the ICC profile that gives their colours, if any."""

    pixels: npt.NDArray[np.uint8]
    icc_profile: bytes | None = None


def read_image(path: Path, stream: IO[bytes] | None = None) -> Photograph:
    """The image in a file, turned upright as its EXIF orientation says; `stream`: its bytes, where it is not at `path`.

    Grey, palette and opaque-alpha images become RGB, which loses nothing.

    Raises
    ------
    ParameterError
        The file holds no image that Pillow reads, or one that 8-bit RGB cannot hold (transparency, CMYK, 16 bits, several
        pages, one bit); the message names it.
    """
    try:
        with Image.open(stream or path) as image:
            _refuse(image, path)
            profile = image.info.get("icc_profile")
            upright = ImageOps.exif_transpose(image)
            return Photograph(np.asarray(_rgb(upright, path)), profile)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ParameterError(f"{path} cannot be read as an image: {error}") from error


def writable(path: Path) -> bool:
    """Whether Pillow writes files of this suffix."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def write_image(path: Path, photograph: Photograph) -> None:
    """Write an image file of the kind its suffix says; lossy kinds at their best quality. Nothing is left where it fails.

    Raises ParameterError for a suffix that Pillow cannot write.
    """
    if not writable(path):
        raise ParameterError(f"{path} has a suffix that Pillow cannot write; use one of {', '.join(SUFFIXES)}")
    kind = Image.registered_extensions()[path.suffix.lower()]
    options: dict[str, Any] = {"quality": 95} if path.suffix.lower() in _LOSSY_SUFFIXES else {}
    if photograph.icc_profile:
        options["icc_profile"] = photograph.icc_profile
    with complete_file(path) as partial:
        try:
            Image.fromarray(photograph.pixels).save(partial, format=kind, **options)
        except OSError as error:
            raise ParameterError(f"{path} cannot be written: {error}") from error


def _refuse(image: Image.Image, path: Path) -> None:
    """ParameterError for what reading would silently lose."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise ParameterError(f"{path} has {pages} pages or frames but one is taken; split it into files first")
    raw = [
        str(part)
        for tile in getattr(image, "tile", ())
        for part in np.atleast_1d(np.array(tile[3], dtype=object))
        if part is not None
    ]
    if image.mode == "RGB" and any(";16" in part for part in raw):  # Pillow would drop the lower eight bits
        raise ParameterError(f"{path} has 16 bits a channel but the codec takes 8; {_WAY_OUT}")
    if image.mode == "1":
        raise ParameterError(f"{path} is a one-bit mask, which a lossy codec would alter; store it with a lossless codec")


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    """An RGB image of the same pixels; ParameterError where there is none."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif (image.mode in ("L", "RGB") and "transparency" in image.info) or image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise ParameterError(f"{path} has transparency, which RGB cannot hold; {_WAY_OUT}")
        image = image.convert("RGB")
    if image.mode == "L":
        image = image.convert("RGB")
    if image.mode != "RGB":
        raise ParameterError(f"{path} has mode {image.mode}, which 8-bit RGB cannot hold without loss; {_WAY_OUT}")
    return image
