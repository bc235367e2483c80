"""Reads and writes the attributes of OME-NGFF images."""

import base64
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import BaseZarrError

from ..errors import ParameterError
from ..images.image import AXES, COLOURS, Image, Size
from ..images.tiff_metadata import unit
from ..storage import locations
from . import versions
from .pyramid import factor
from .versions import Attributes

_TYPES = {"t": "time", "c": "channel"}
_RGB = ("FF0000", "00FF00", "0000FF")
_RGB_LABELS = ("red", "green", "blue")
_UNNAMED = re.compile(r"(c|ch|channel)?[\s:_-]*[\d:.]*|r|g|b|red|green|blue", re.IGNORECASE)  # names of colours, and no names
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")  # for channels without a colour of their own
_WITHOUT_SIZES = ("0.1", "0.2", "0.3")  # versions
_ATTRIBUTE = "caecodec"
_NONE = "{} is not an OME-NGFF image ({}); give the group that holds its multiscales"


class Multiscales(NamedTuple):
    """An OME-NGFF image group at a path: its attributes, those of OME-NGFF in the form of 0.5, its axes, its levels' paths."""

    path: locations.Place
    group: zarr.Group
    attributes: Attributes
    ome: dict[str, Any]
    axes: str
    paths: list[str]

    def level(self, level: int) -> zarr.Array[Any]:
        """The array of a level, 0 being the full size; ParameterError if there is none with these axes."""
        if not 0 <= level < len(self.paths):
            raise ParameterError(f"level is {level} but {self.path} has levels 0 to {len(self.paths) - 1}")
        try:
            array = self.group[self.paths[level]]
        except (BaseZarrError, *locations.UNREADABLE) as error:
            raise ParameterError(f"{self.path} lacks level {self.paths[level]}, or it cannot be opened: {error}") from error
        if not isinstance(array, zarr.Array) or array.ndim != len(self.axes):
            raise ParameterError(f"{self.path} has no array of axes {', '.join(self.axes)} at {self.paths[level]}")
        return array

    @property
    def channels(self) -> list[dict[str, Any]]:
        """The omero metadata of each channel; none if there are none, or not of this form."""
        omero = self.ome.get("omero")
        channels = omero.get("channels") if isinstance(omero, dict) else None
        return channels if isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels) else []

    def rgb(self, array: zarr.Array[Any]) -> bool:
        """Whether there are three channels coloured red, green and blue, without other names, or of 8 bits without colours."""
        if "c" not in self.axes or array.shape[self.axes.index("c")] != COLOURS:
            return False
        colours = tuple(str(channel.get("color") or "").upper() for channel in self.channels)
        named = not all(_UNNAMED.fullmatch(str(channel.get("label") or "")) for channel in self.channels)
        return (colours == _RGB and not named) or (not any(colours) and array.dtype == np.uint8)

    def sizes(self, level: int) -> dict[str, Size]:
        """The sizes of a level's pixels, for the axes where they are known; what is no size is left out."""
        image = self.ome["multiscales"][0]
        count = len(self.axes)
        scale = np.ones(count)
        for holder in (image["datasets"][level], image):
            for factors in _scales(holder.get("coordinateTransformations"), count):
                scale = scale * factors
        units = [unit(axis["unit"]) or "" if isinstance(axis.get("unit"), str) else "" for axis in image["axes"]]
        shapes = zip(self.level(0).shape, self.level(level).shape, strict=True)
        full = [{factor(n, m), n / m if m else 1.0} for n, m in shapes]
        return {
            name: Size(float(size), its_unit)
            for name, size, its_unit, unknown in zip(self.axes, scale, units, full, strict=True)
            if name != "c" and (its_unit or size not in unknown) and 0 < size < math.inf
        }

    def labels(self, array: zarr.Array[Any]) -> tuple[str, ...]:
        """The names of the channels, numbers for those without one; none if no channel has a name, or if all are numbered."""
        count = array.shape[self.axes.index("c")] if "c" in self.axes else 1
        names = [channel.get("label") for channel in self.channels]
        named = [name if isinstance(name, str) and name else None for name in names]
        labels = tuple(name or number for name, number in zip(named, _numbered(len(named)), strict=True))
        return () if len(labels) != count or labels == _numbered(count) else labels

    def colours(self, array: zarr.Array[Any]) -> tuple[str, ...]:
        """The colours of the channels as RRGGBB; none if not all channels have one."""
        count = array.shape[self.axes.index("c")] if "c" in self.axes else 1
        said = [str(channel.get("color") or "").upper() for channel in self.channels]
        return tuple(said) if len(said) == count and all(re.fullmatch("[0-9A-F]{6}", one) for one in said) else ()

    def composed(self, array: zarr.Array[Any]) -> tuple[int, ...]:
        """The channels that are to be seen together: the active ones, if all have colours and the model is not grey."""
        rendering = self.ome["omero"].get("rdefs") if self.channels else None
        grey = isinstance(rendering, dict) and rendering.get("model") == "greyscale"
        active = [i for i, channel in enumerate(self.channels) if channel.get("active") is not False]
        return tuple(active) if len(self.colours(array)) > 1 and not grey else ()

    def magnification(self) -> float | None:
        """The magnification that `attributes_of` stored, if any."""
        ours = self.attributes.others.get(_ATTRIBUTE)
        said = ours.get("magnification") if isinstance(ours, dict) else None
        return float(said) if isinstance(said, int | float) and 0 < said < math.inf else None

    def icc_profile(self) -> bytes | None:
        """The ICC profile that `attributes_of` stored, if any; none for what is no base64."""
        ours = self.attributes.others.get(_ATTRIBUTE)
        profile = ours.get("icc_profile") if isinstance(ours, dict) else None
        try:
            return base64.b64decode(profile) if isinstance(profile, str) else None
        except ValueError:
            return None


def open_multiscales(path: locations.Place) -> Multiscales:
    """The OME-NGFF image at a path, in a zipped store, or at a URL. Warns of versions before 0.4, which say little.

    Raises ParameterError if there is none, or if it has axes other than t, c, z, y, x, and FormatVersionError for a version
    that is not known.
    """
    try:
        group = locations.open_group(path)
    except ParameterError as error:
        raise ParameterError(_NONE.format(path, error)) from error
    return multiscales_of(group, path)


def multiscales_of(group: zarr.Group, path: locations.Place) -> Multiscales:
    """The OME-NGFF image that a group is; `path` is what messages call it. Warns and raises as `open_multiscales`."""
    try:
        attributes = versions.parse(group, path)
        ome = versions.with_axes(attributes, group, path)
        if "multiscales" not in ome and {"plate", "well", "bioformats2raw.layout", "labels", "scene"} & set(ome):
            raise ParameterError(f"{path} is a collection of images, not an image; name the groups in it that hold multiscales")
        image = ome["multiscales"][0]
        axes = [axis["name"] for axis in image["axes"]]
        paths = [dataset["path"] for dataset in image["datasets"]]
        paths = [path.strip("/") if isinstance(path, str) else path for path in paths]
    except (OSError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ParameterError(_NONE.format(path, error)) from error
    if not paths:
        raise ParameterError(_NONE.format(path, "it has no levels"))
    if not ("y" in axes and "x" in axes) or axes != [name for name in AXES if name in axes]:
        raise ParameterError(
            f"{path} has axes {', '.join(map(str, axes))} but must have y, x, and before them any of t, c, z in this order; "
            f"convert its levels one by one, as arrays, with their axes ({path}/{paths[0]} --axes yxc)"
        )
    if attributes.version in _WITHOUT_SIZES:
        warnings.warn(f"{path} is OME-NGFF {attributes.version}, which does not say what pixels measure", stacklevel=2)
    return Multiscales(path, group, attributes, ome, "".join(axes), paths)


def axes_of(image: Image) -> list[dict[str, str]]:
    """The axes of an image with their units, as OME-NGFF writes them."""
    axes = []
    for name in image.axes:
        axes.append({"name": name, "type": _TYPES.get(name, "space")})
        if name in image.sizes and image.sizes[name].unit:
            axes[-1]["unit"] = image.sizes[name].unit
    return axes


def dataset_of(image: Image, path: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The entry of a level of this shape, with the sizes of its pixels; an unknown size counts as 1 at full size."""
    full = [image.sizes[name].value if name in image.sizes else 1.0 for name in image.axes]
    scale = [size * factor(n, m) for size, n, m in zip(full, image.pixels.shape, shape, strict=True)]
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}


def attributes_of(image: Image) -> dict[str, Any]:
    """The attributes of an image that OME-NGFF has no place for: its ICC profile, and the magnification of the objective."""
    ours: dict[str, Any] = {}
    if image.icc_profile:
        ours["icc_profile"] = base64.b64encode(image.icc_profile).decode()
    if image.magnification is not None:
        ours["magnification"] = image.magnification
    return {_ATTRIBUTE: ours} if ours else {}


def omero_of(image: Image, name: str, shown: npt.NDArray[Any]) -> dict[str, Any]:
    """How viewers should show an image: names, colours and windows of its channels, given its pixels, or fewer of them.

    The window of 8 bits is their whole range, that of other dtypes reaches from the least to the greatest finite value.
    """
    count = image.channels
    colours: tuple[str, ...] = _RGB
    labels: tuple[str, ...] = _RGB_LABELS
    if not image.rgb:
        colours = image.colours or usual_colours(count)
        labels = image.labels or _numbered(count)
    planes = np.moveaxis(shown, image.axes.index("c"), 0) if "c" in image.axes else shown[None]
    channels = [
        {
            "label": label,
            "color": colour,
            "active": True,
            "window": _window(plane),
            "coefficient": 1,
            "family": "linear",
            "inverted": False,
        }
        for label, colour, plane in zip(labels, colours, planes, strict=True)
    ]
    depth = image.pixels.shape[image.axes.index("z")] if "z" in image.axes else 1
    model = "color" if len(channels) > 1 else "greyscale"
    return {"name": name, "channels": channels, "rdefs": {"model": model, "defaultT": 0, "defaultZ": depth // 2}}


def usual_colours(count: int) -> tuple[str, ...]:
    """Colours, as RRGGBB, for so many channels that have none of their own."""
    return ("FFFFFF",) if count == 1 else tuple(_COLOURS[i % len(_COLOURS)] for i in range(count))


def _window(plane: npt.NDArray[Any]) -> dict[str, float]:
    if plane.dtype == np.uint8:
        return {"min": 0, "max": 255, "start": 0, "end": 255}
    if plane.dtype.kind == "f":
        plane = plane[np.isfinite(plane)]
    if plane.dtype.kind == "b":
        return {"min": 0, "max": 1, "start": 0, "end": 1}
    start, end = (plane.min().item(), plane.max().item()) if plane.size else (0.0, 0.0)
    limits = np.iinfo(plane.dtype) if plane.dtype.kind != "f" else None
    end = end if end > start else start + 1
    return {"min": int(limits.min) if limits else start, "max": int(limits.max) if limits else end, "start": start, "end": end}


def _scales(transformations: Any, axes: int) -> Iterator[npt.NDArray[np.float64]]:
    """The scales among the transformations of an image or level, without those that are not of so many numbers."""
    for one in transformations if isinstance(transformations, list) else []:
        scale = one.get("scale") if isinstance(one, dict) and one.get("type") == "scale" else None
        if isinstance(scale, list) and len(scale) == axes and all(isinstance(n, int | float) for n in scale):
            with suppress(OverflowError):  # of integers that are too large for a float
                yield np.array(scale, np.float64)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"channel {i}" for i in range(count))
