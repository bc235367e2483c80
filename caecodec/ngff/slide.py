"""An OME-NGFF image -> regions of its levels, with the interface of OpenSlide and tiffslide, so that code for them takes it."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image as PillowImage
from PIL import ImageCms

from .. import weights
from ..arrays import layers as array_layers
from ..errors import ParameterError
from ..images.image import COLOURS
from ..storage import locations
from . import blocks
from .metadata import Multiscales, multiscales_of, open_multiscales

_MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_ASSOCIATED = "associated"  # the group that `write_group` puts them into


def open_slide(path: locations.Place, layers: int | None = None) -> "Slide":
    """The image in an OME-NGFF group, with the interface of OpenSlide and tiffslide.

    Parameters
    ----------
    path
        A group whose arrays have any codec: a folder, a zipped store (.ozx, .zip), a URL, or a store of zarr.
    layers
        Fetch and decode only so many layers of arrays of `ScalableAutoencoder`; None: as many as `caecodec.settings` say.

    Raises
    ------
    ParameterError
        There is no OME-NGFF image at `path`, it has several positions on t or z or a level without pixels, or its arrays have
        no layers although `layers` is given.
    FormatVersionError
        A newer OME-NGFF version than is known.
    """
    with ExitStack() as opened:
        image = open_multiscales(path)
        if isinstance(path, str | os.PathLike):
            opened.callback(image.group.store.close)
        opened.enter_context(weights.using(path))
        slide = Slide(image, path, layers)
        slide._opened = opened.pop_all()
    return slide


class Slide:
    """A pyramid of levels, 0 being the full size, of which regions are read; only their chunks are fetched and decoded.

    Several threads may read at once, and so may other processes, such as the workers of a DataLoader: where a slide is pickled
    or forked, it opens its image again.

    level_dimensions : the (width, height) of each level in pixels
    level_downsamples : how much smaller each level is than level 0
    """

    def __init__(self, image: Multiscales, path: locations.Place, layers: int | None) -> None:
        self._image, self._path, self._layers = image, path, layers
        self._opened = ExitStack()  # of what `close` closes
        self._closed = False
        self._process = os.getpid()
        self._levels = [image.level(i) for i in range(len(image.paths))]
        lengths = dict(zip(image.axes, self._levels[0].shape, strict=True))
        self._channels = lengths.get("c", 1)
        for axis, length in lengths.items():
            if axis in "tz" and length != 1:
                raise ParameterError(
                    f"{image.path} has {length} positions on axis {axis} but a slide has one plane; read its arrays with "
                    "caecodec.read"
                )
        for array in self._levels:
            if 0 in array.shape or array.shape[:-2] != self._levels[0].shape[:-2]:
                raise ParameterError(
                    f"{image.path} has a level of shape {array.shape} but a level must have pixels, and the channels of level 0"
                )
        if layers is not None:
            for i in range(self.level_count):
                self._read(i, slice(0, 0), slice(0, 0))  # for its errors
        self.level_dimensions = tuple((array.shape[-1], array.shape[-2]) for array in self._levels)
        width, height = self.level_dimensions[0]
        self.level_downsamples = tuple((width / w + height / h) / 2 for w, h in self.level_dimensions)
        self._profile = image.icc_profile()

    def __repr__(self) -> str:
        return f"Slide({str(self._path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return open_slide, (self._path, self._layers)

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files, and of weights that the group carries. A store that was given stays open."""
        self._closed = True
        self._opened.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """The (width, height) of level 0 in pixels."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """The number of levels."""
        return len(self._levels)

    @cached_property
    def properties(self) -> dict[str, Any]:
        """What is known: as text under the names of OpenSlide, ``openslide.mpp-x``, and as values under ``tiffslide.mpp-x``.

        These are level-count; for each level width, height, downsample, and the tile-width and tile-height that its chunks
        have; and mpp-x and mpp-y, the micrometres of a pixel, and objective-power where the group states them.
        """
        known: dict[str, float] = {"level-count": self.level_count}
        for i, array in enumerate(self._levels):
            chunk = array_layers.layers(array)[-1].chunk_shape
            values = (*self.level_dimensions[i], self.level_downsamples[i], chunk[-1], chunk[-2])
            names = ("width", "height", "downsample", "tile-width", "tile-height")
            known |= {f"level[{i}].{name}": value for name, value in zip(names, values, strict=True)}
        for axis, size in self._image.sizes(0).items():
            if axis in "xy" and size.unit in _MICROMETRES:
                known[f"mpp-{axis}"] = size.value * _MICROMETRES[size.unit]
        if (power := self._image.magnification()) is not None:
            known["objective-power"] = power
        texts = {f"openslide.{name}": str(value).removesuffix(".0") for name, value in known.items()}
        return {**texts, **{f"tiffslide.{name}": value for name, value in known.items()}}

    @property
    def associated_images(self) -> Mapping[str, PillowImage.Image]:
        """Pictures of another scene by name, such as label, macro and thumbnail, each read when it is asked for."""
        self._check_open()
        return _Associated(self._image, self._layers)

    @property
    def color_profile(self) -> ImageCms.ImageCmsProfile | None:
        """The ICC profile, if the group has one."""
        return None if self._profile is None else ImageCms.getOpenProfile(io.BytesIO(self._profile))

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """The coarsest level that is no smaller than level 0 divided by `downsample`."""
        return max(0, sum(one <= downsample for one in self.level_downsamples) - 1)

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int], *, as_array: bool = False, padding: bool = True
    ) -> Any:
        """A region of a level.

        Parameters
        ----------
        location
            x, y of its upper left corner in pixels of level 0; those of the level follow from it divided by the level's
            downsample, rounded towards 0.
        level
            The number of the level.
        size
            Width and height in pixels of the level.
        as_array
            Return an array (height, width, channels) of the image's dtype, as tiffslide does. False: a picture of Pillow,
            RGBA as OpenSlide's, of images of 8 bits that are RGB or have one channel.
        padding
            Where the region reaches beyond the image it is 0, and transparent. False: what is beyond is left out.

        Raises
        ------
        ParameterError
            There is no such level, a side is negative, a picture cannot hold the values, or the slide is closed.
        CaeCodecError
            Decoding failed.
        """
        self._check_open()
        if not 0 <= level < self.level_count:
            raise ParameterError(f"level is {level} but {self._image.path} has levels 0 to {self.level_count - 1}")
        if len(location) != 2 or len(size) != 2 or min(size) < 0:
            raise ParameterError(
                f"location is {location} and size {size} but must be x, y, and a width and height of 0 or more pixels"
            )
        if not as_array:
            self._check_picture()
        width, height = map(int, size)
        x, y = (int(int(at) / self.level_downsamples[level]) for at in location)
        whole_width, whole_height = self.level_dimensions[level]
        columns, rows = _inside(x, width, whole_width), _inside(y, height, whole_height)
        values = self._read(level, rows, columns)
        if not as_array:
            opaque = np.full((*values.shape[:2], COLOURS + 1), 255, np.uint8)
            opaque[..., :COLOURS] = values
            values = opaque
        if padding and values.shape[:2] != (height, width):
            padded = np.zeros((height, width, values.shape[-1]), values.dtype)
            padded[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = values
            values = padded
        if as_array:
            return values
        picture = PillowImage.fromarray(values)
        if self._profile is not None:
            picture.info["icc_profile"] = self._profile
        return picture

    def get_thumbnail(self, size: tuple[int, int]) -> PillowImage.Image:
        """An RGB picture of the whole, of at most this width and height, its proportions kept. Raises as `read_region`."""
        if len(size) != 2 or min(size) < 1:
            raise ParameterError(f"size is {size} but must be a width and height of 1 or more pixels")
        downsample = max(whole / most for whole, most in zip(self.dimensions, size, strict=True))
        level = self.get_best_level_for_downsample(downsample)
        picture: PillowImage.Image = self.read_region((0, 0), level, self.level_dimensions[level]).convert("RGB")
        picture.thumbnail(size, PillowImage.Resampling.LANCZOS)
        return picture

    def _read(self, level: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """The values of a part of a level: (rows, columns, channels)."""
        array = self._levels[level]
        selection = (*(slice(None) for _ in self._image.axes[:-2]), rows, columns)
        if self._layers is None:
            values = blocks.read(array, selection)
        else:
            from ..reading import read  # it loads PyTorch, which not every codec needs

            values = read(array, selection, self._layers)
        return np.moveaxis(values.reshape(self._channels, *values.shape[-2:]), 0, -1)

    def _check_open(self) -> None:
        """Raise ParameterError if the slide is closed, and open its image again in a forked process.

        That process would share the position in an open zip file with its parent.
        """
        if self._closed:
            raise ParameterError(f"{self!r} is closed; open it again with caecodec.open_slide")
        if self._process != os.getpid() and isinstance(self._path, str | os.PathLike):
            vars(self).update(vars(open_slide(self._path, self._layers)))

    def _check_picture(self) -> None:
        """Raise ParameterError unless the image is RGB or grey, of 8 bits."""
        array = self._levels[0]
        if array.dtype != np.uint8 or not (self._channels == 1 or self._image.rgb(array)):
            raise ParameterError(
                f"{self._image.path} has dtype {array.dtype} and {self._channels} channels but a picture holds 8 bits, grey or "
                "RGB; pass as_array=True"
            )


class _Associated(Mapping[str, PillowImage.Image]):
    """The pictures in the group `associated`."""

    def __init__(self, image: Multiscales, layers: int | None) -> None:
        group = image.group.get(_ASSOCIATED)
        self._groups = dict(group.groups()) if isinstance(group, zarr.Group) else {}
        self._path, self._layers = image.path, layers

    def __getitem__(self, name: str) -> PillowImage.Image:
        image = multiscales_of(self._groups[name], f"{self._path}/{_ASSOCIATED}/{name}")
        slide = Slide(image, image.path, self._layers)
        picture: PillowImage.Image = slide.read_region((0, 0), 0, slide.dimensions)
        return picture

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _inside(start: int, length: int, whole: int) -> slice:
    """The part of [start, start + length) that is in [0, whole)."""
    first = min(max(start, 0), whole)
    return slice(first, max(first, min(start + length, whole)))
