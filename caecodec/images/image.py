"""Images with named axes, into which files and OME-NGFF groups are read, and from which they are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..bitstream.prefix import DTYPES
from ..errors import ParameterError

AXES = "tczyx"  # in the order of OME-NGFF
COLOURS = 3
_LOSSLESS = "store it with a lossless codec such as zarr.codecs.BloscCodec"


class Windows(Protocol):
    """Values of which a part is read at a time: an array of numpy or zarr, or the pixels in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values there are along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their dtype."""

    def __getitem__(self, region: tuple[slice, ...], /) -> Any:
        """The values of a region, as many as there are of it inside the shape."""


class Size(NamedTuple):
    """The step from one position to the next along an axis; the unit has its OME-NGFF name, or is "" if unknown."""

    value: float
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels and what is known about them.

    pixels : an array of any dtype, with one axis for each letter of `axes`; numpy's, except for what is read by windows
    axes : some of t, c, z, y, x in this order, always with y and x
    rgb : the channels are red, green and blue
    labels : the names of the channels, if known; a single one if there is no axis c
    sizes : what a step along an axis measures, for the axes where that is known
    icc_profile : the ICC colour profile, if there is one
    colours : the colours of the channels as RRGGBB, one for each label or channel, if known
    magnification : that of the objective, if known
    levels : smaller versions of the pixels that the source has, the largest first
    associated : pictures of another scene that come with it, by name: the label of a slide, its overview
    slide : it comes from a file of a slide scanner
    """

    pixels: Windows
    axes: str
    rgb: bool = False
    labels: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=dict)
    icc_profile: bytes | None = None
    colours: tuple[str, ...] = ()
    magnification: float | None = None
    levels: tuple[Windows, ...] = ()
    associated: Mapping[str, "Image"] = field(default_factory=dict)
    slide: bool = False

    @property
    def values(self) -> npt.NDArray[Any]:
        """All pixels, in this machine's byte order."""
        values = np.asarray(self.pixels[(slice(None),) * len(self.axes)])
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def loaded(self) -> "Image":
        """The image in memory, without what else its source has."""
        return replace(self, pixels=self.values, levels=(), associated={})

    @property
    def channels(self) -> int:
        """The number of channels; 1 if there is no axis c."""
        return self.pixels.shape[self.axes.index("c")] if "c" in self.axes else 1

    def picture(self) -> npt.NDArray[Any] | None:
        """The pixels as Pillow takes them, (height, width) or RGB (height, width, 3); None for images with other axes."""
        single = tuple(i for i, name in enumerate(self.axes) if name not in "yx" and self.pixels.shape[i] == 1)
        left = "".join(name for i, name in enumerate(self.axes) if i not in single)
        pixels = self.values.squeeze(single)
        if left == "yx":
            return np.ascontiguousarray(pixels)
        return np.ascontiguousarray(np.moveaxis(pixels, 0, -1)) if self.rgb and left == "cyx" else None

    def __str__(self) -> str:
        return f"an image of axes {', '.join(self.axes)}, shape {self.pixels.shape} and dtype {self.pixels.dtype}"


def from_picture(picture: npt.NDArray[Any], icc_profile: bytes | None = None) -> Image:
    """The image with these pixels: a plane (height, width), or RGB (height, width, 3)."""
    if picture.ndim == 2:
        return Image(picture, "yx", icc_profile=icc_profile)
    return Image(np.moveaxis(picture, -1, 0), "cyx", rgb=True, icc_profile=icc_profile)


def check_dtype(dtype: np.dtype[Any], name: object, way_out: str = _LOSSLESS) -> None:
    """Raise ParameterError unless the codec takes values of this dtype; `name` says what has this dtype."""
    if dtype.name not in DTYPES.values():
        what = "bool (a mask)" if dtype.kind == "b" else dtype.name
        raise ParameterError(
            f"{name} has dtype {what}, but the codec takes {', '.join(DTYPES.values())}; convert it if that loses nothing "
            f"you need, or {way_out}"
        )
