"""Files of slide scanners -> images, read with OpenSlide where tifffile does not know them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageCms

from ..errors import ParameterError
from .image import Image, Size
from .tiff_structure import Page

NDPI = ".ndpi"
TIFF_SUFFIXES = (".svs", NDPI, ".scn", ".qptiff")  # what tifffile reads
DICOM = ".dcm"  # what OpenSlide reads as well, by one of the several files of a slide
SUFFIXES = (".bif", ".mrxs", ".svslide", ".vms", ".vmu")  # what OpenSlide reads
# Files of microscopes that neither reads.
UNREAD = {
    ".czi": "Zeiss CZI", ".lif": "Leica LIF", ".nd2": "Nikon ND2", ".oir": "Olympus OIR", ".vsi": "Olympus VSI",
    ".zvi": "Zeiss ZVI",
}  # fmt: skip
_YCBCR_JPEG2000 = 33003  # Aperio's compression, whose colours tifffile does not convert
_TILE = 256  # pixels a side, of slides that do not say


def needs_openslide(pages: Sequence[Page]) -> bool:
    """Whether OpenSlide must read a TIFF file of these pages."""
    return any(page.compression == _YCBCR_JPEG2000 for page in pages)


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The slide in a file: RGB of 8 bits, with its levels and associated pictures, read by windows in the with block.

    Levels whose downsample is no whole number are left out. What was not scanned, which OpenSlide gives as transparent, has the
    background colour that the file states, or is white.

    Raises
    ------
    ParameterError
        OpenSlide is not installed. Whatever it raises is raised as it is.
    """
    try:
        import openslide
    except ImportError as error:
        raise ParameterError(f"{path.name} needs OpenSlide, which is not installed: pip install 'caecodec[slides]'") from error
    with openslide.OpenSlide(path) as slide:
        said = slide.properties
        background = "#" + said.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
        # OpenSlide takes places in pixels of full size, and interpolates where they are not on those of a level.
        whole = [number for number, downsample in enumerate(slide.level_downsamples) if downsample.is_integer()]
        pixels, *levels = (_Level(slide, number, background) for number in whole)
        sizes = {"y": said.get(openslide.PROPERTY_NAME_MPP_Y), "x": said.get(openslide.PROPERTY_NAME_MPP_X)}
        power = said.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        yield Image(
            pixels,
            "cyx",
            rgb=True,
            sizes={axis: Size(float(value), "micrometer") for axis, value in sizes.items() if value},
            icc_profile=_icc_profile(slide, path),
            magnification=float(power) if power else None,
            levels=tuple(levels),
            associated={
                name: Image(_composed(picture, background), "cyx", rgb=True)
                for name, picture in slide.associated_images.items()
            },
            slide=True,
        )


def _icc_profile(slide: Any, path: Path) -> bytes | None:
    """The ICC profile of a slide; none, with a warning, for one that cannot be read."""
    try:
        profile = slide.color_profile
    except ImageCms.PyCMSError as error:
        warnings.warn(f"{path} is read without its ICC profile, which cannot be understood: {error}", stacklevel=2)
        return None
    return None if profile is None else bytes(profile.tobytes())


class _Level:
    """A level of a slide (3, height, width), uint8."""

    dtype = np.dtype(np.uint8)

    def __init__(self, slide: Any, number: int, background: str) -> None:
        self._slide, self._number, self._background = slide, number, background
        width, height = slide.level_dimensions[number]
        self.shape = (3, height, width)
        tile = [slide.properties.get(f"openslide.level[{number}].tile-{side}", _TILE) for side in ("height", "width")]
        self.chunks = (3, int(tile[0]), int(tile[1]))

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[np.uint8]:
        (top, bottom, _), (left, right, _) = (part.indices(n) for part, n in zip(region[1:], self.shape[1:], strict=True))
        scale = int(self._slide.level_downsamples[self._number])
        picture = self._slide.read_region((left * scale, top * scale), self._number, (right - left, bottom - top))
        return _composed(picture, self._background)[region[0]]


def _composed(picture: PillowImage.Image, background: str) -> npt.NDArray[np.uint8]:
    """A picture with alpha, over a colour: (3, height, width)."""
    under = PillowImage.new("RGBA", picture.size, background)
    under.alpha_composite(picture)
    return np.moveaxis(np.asarray(under.convert("RGB")), -1, 0)
