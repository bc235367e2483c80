"""The metadata of TIFF files, OME-XML or ImageJ's: names of channels and sizes of pixels."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from xml.etree import ElementTree

from .image import Image, Size

_PREFIXES = {
    "": "", "k": "kilo", "h": "hecto", "d": "deci", "c": "centi", "m": "milli", "µ": "micro", "n": "nano", "p": "pico",
    "f": "femto", "M": "mega",
}  # fmt: skip
# OME-XML's symbols of units to OME-NGFF's names.
_UNITS = {
    **{prefix + "m": name + "meter" for prefix, name in _PREFIXES.items()},
    **{prefix + "s": name + "second" for prefix, name in _PREFIXES.items()},
    "Å": "angstrom", "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "pc": "parsec", "min": "minute", "h": "hour",
    "d": "day", "reference frame": "",
}  # fmt: skip
_SYMBOLS = {name: symbol for symbol, name in _UNITS.items()}
# Other spellings, used by ImageJ and careless writers.
_ALIASES = {
    "um": "µm", "micron": "µm", "microns": "µm", "inches": "in", "sec": "s", "seconds": "s", "msec": "ms", "usec": "µs",
    "hours": "h", "metre": "m", "micrometre": "µm", "millimetre": "mm", "nanometre": "nm",
}  # fmt: skip
_OME_SIZES = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}


class ImageSet(NamedTuple):
    """The files that an OME-TIFF belongs together with.

    files : those that its OME-XML names
    master : the file that has the OME-XML instead of it, or ""
    """

    files: tuple[str, ...]
    master: str


def ome_image_set(description: bytes) -> ImageSet:
    """The files that the OME-XML in an ImageDescription names besides its own.

    Raises xml.etree.ElementTree.ParseError for a document that is not XML.
    """
    root = ElementTree.fromstring(description.rstrip(b"\0 \r\n\t"))
    master = next(_elements(root, "BinaryOnly"), None)
    files = (one.get("FileName") for one in _elements(root, "UUID") if one.text != root.get("UUID"))
    named = tuple(dict.fromkeys(name for name in files if name))
    return ImageSet(named, "" if master is None else master.get("MetadataFile", "another file"))


def unit(name: str) -> str | None:
    """The OME-NGFF name of a unit; "" for a reference frame or no unit, None for what is not a unit (pixels)."""
    name = name.replace("\\u00B5", "µ").replace("\N{GREEK SMALL LETTER MU}", "µ")
    return name if name in _SYMBOLS else _UNITS.get(_ALIASES.get(name, name))


def ome_metadata(image: Image, document: str) -> Image:
    """The image with the metadata of the first image of an OME-XML document.

    Raises xml.etree.ElementTree.ParseError for a document that is not XML.
    """
    pixels = next(_elements(ElementTree.fromstring(document), "Pixels"), None)
    if pixels is None:
        return image
    sizes = {}
    for axis, name in _OME_SIZES.items():
        said = unit(pixels.get(name + "Unit", "s" if axis == "t" else "µm"))
        value = _size(pixels.get(name))
        if axis in image.axes and said is not None and value:
            sizes[axis] = Size(value, said)
    return replace(image, sizes=sizes, labels=_labels(image, [channel.get("Name") for channel in _elements(pixels, "Channel")]))


def imagej_metadata(image: Image, said: Mapping[str, Any], resolutions: Mapping[str, tuple[int, int] | None]) -> Image:
    """The image with ImageJ's metadata; `resolutions` of x and y: a number of pixels, and how many units they measure."""
    sizes = {}
    length = unit(str(said.get("unit", "pixel")))
    for axis, resolution in resolutions.items():
        pixels, units = resolution if isinstance(resolution, tuple) and len(resolution) == 2 else (0, 0)
        value = _size(units / pixels) if pixels else None
        if length is not None and value:
            sizes[axis] = Size(value, length)
    duration = unit(str(said.get("tunit", "s")))
    for axis, name, its_unit in (("z", "spacing", length), ("t", "finterval", duration)):
        value = _size(said.get(name), signed=True)
        if axis in image.axes and its_unit is not None and value:
            sizes[axis] = Size(value, its_unit)
    labels = said.get("Labels")
    names = labels if isinstance(labels, list | tuple) else [labels] if isinstance(labels, str) else []
    return replace(image, sizes=sizes, labels=_labels(image, [one if isinstance(one, str) else None for one in names]))


def ome_attributes(image: Image) -> dict[str, Any]:
    """The OME-XML metadata of an image, as tifffile takes them."""
    attributes: dict[str, Any] = {}
    for axis, name in _OME_SIZES.items():
        if axis in image.sizes:
            size = image.sizes[axis]
            attributes[name] = size.value
            attributes[name + "Unit"] = _SYMBOLS[size.unit]
    if image.labels and not image.rgb:
        attributes["Channel"] = {"Name": list(image.labels)}
    return attributes


def _size(said: Any, signed: bool = False) -> float | None:
    """A size of pixels; None for what is not a finite number above 0, or with `signed` not 0."""
    try:
        value = float(said)
    except (TypeError, ValueError):
        return None
    value = abs(value) if signed else value
    return value if 0 < value < math.inf else None


def _labels(image: Image, names: Sequence[str | None]) -> tuple[str, ...]:
    """The names of the channels, if there is one for each."""
    if image.rgb or len(names) != image.channels or not any(names):
        return ()
    return tuple(name or f"channel {i}" for i, name in enumerate(names))


def _elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The elements of this name, in any version of OME-XML."""
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == name)
