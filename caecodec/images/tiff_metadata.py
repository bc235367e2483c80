"""The metadata of TIFF files, OME-XML, ImageJ's or a scanner's: channels, sizes of pixels, magnification.

Nothing else that they say is taken over, such as names, dates and barcodes.
"""

import math
import re
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
_MICRO = "micrometer"
_RESOLUTION_UNITS = {2: 25400, 3: 10000}  # micrometres in an inch and a centimetre, TIFF's units of resolution
_NDPI_MAGNIFICATION = 65421  # a tag
# Of rows and of columns, in millimetres.
_PHILIPS_SPACING = re.compile(r'Name="DICOM_PIXEL_SPACING"[^>]*>\s*"([^"]*)"\s+"([^"]*)"')
_OME_SIZES = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}


class ImageSet(NamedTuple):
    """The files that an OME-TIFF belongs together with.

    uuid : what identifies the file itself, or ""
    files : those that its OME-XML names by another UUID, and that UUID
    master : the file that has the OME-XML instead of it, or ""
    """

    uuid: str
    files: Mapping[str, str]
    master: str


def ome_image_set(description: bytes) -> ImageSet:
    """The files that the OME-XML in an ImageDescription names besides its own.

    Raises xml.etree.ElementTree.ParseError for a document that is not XML.
    """
    root = ElementTree.fromstring(description.rstrip(b"\0 \r\n\t"))
    master = next(_elements(root, "BinaryOnly"), None)
    own = (root.get("UUID") or "").strip()
    said = [(one.get("FileName"), (one.text or "").strip()) for one in _elements(root, "UUID")]
    files = {name: uuid for name, uuid in reversed(said) if name and uuid != own}
    return ImageSet(own, files, "" if master is None else master.get("MetadataFile", "another file"))


def ome_uuid(description: bytes) -> str:
    """The UUID that the OME-XML in an ImageDescription gives its file, or ""."""
    found = re.search(rb"<(?:\w+:)?OME\b[^>]*?\sUUID\s*=\s*[\"']([^\"']*)", description)
    return found[1].decode("utf-8", "replace").strip() if found else ""


def unit(name: str) -> str | None:
    """The OME-NGFF name of a unit; "" for a reference frame or no unit, None for what is not a unit (pixels)."""
    name = name.replace("\\u00B5", "µ").replace("\N{GREEK SMALL LETTER MU}", "µ")
    return name if name in _SYMBOLS else _UNITS.get(_ALIASES.get(name, name))


def ome_metadata(image: Image, document: str) -> Image:
    """The image with the metadata of the first image of an OME-XML document.

    Raises xml.etree.ElementTree.ParseError for a document that is not XML.
    """
    root = ElementTree.fromstring(document)
    pixels = next(_elements(root, "Pixels"), None)
    if pixels is None:
        return image
    sizes = {}
    for axis, name in _OME_SIZES.items():
        said = unit(pixels.get(name + "Unit", "s" if axis == "t" else "µm"))
        value = _size(pixels.get(name))
        if axis in image.axes and said is not None and value:
            sizes[axis] = Size(value, said)
    channels = list(_elements(pixels, "Channel"))
    return replace(
        image,
        sizes=sizes,
        labels=_labels(image, [channel.get("Name") for channel in channels]),
        colours=_colours(image, [channel.get("Color") for channel in channels]),
        magnification=_ome_magnification(root),
    )


def scanner_metadata(image: Image, file: Any, series: Any) -> Image:
    """The image with the size of its pixels, the magnification and the channels, as far as a scanner's file says them.

    `file` and `series` are tifffile's.
    """
    first, page = file.pages.first, series.keyframe
    if first.is_qpi:
        return _qptiff_metadata(replace(image, sizes=resolution(page)), [one.description for one in series.pages])
    magnification = None
    if first.is_philips:
        spacing = _PHILIPS_SPACING.search(first.description)
        values = [_size(one) for one in spacing.groups()] if spacing else []
        sizes = {axis: Size(1000 * value, _MICRO) for axis, value in zip("yx", values, strict=False) if value}
    elif first.is_svs:
        said = dict(re.findall(r"(\w+)\s*=\s*([^|]*)", first.description))
        value, magnification = _size(said.get("MPP")), _size(said.get("AppMag"))
        sizes = {axis: Size(value, _MICRO) for axis in "yx"} if value else {}
    else:
        sizes = resolution(page)
        objective = _leica_objective(first.description) if first.is_scn else page.tags.valueof(_NDPI_MAGNIFICATION)
        magnification = _size(objective)
    return replace(image, sizes=sizes, magnification=magnification)


def _qptiff_metadata(image: Image, documents: Sequence[str]) -> Image:
    """The image with the magnification, and the names and colours of channels, that PerkinElmer's XML of each page says."""
    pages = [ElementTree.fromstring(re.sub(r"^\s*<\?.*?\?>", "", one)) for one in documents]  # which says it were UTF-16
    objective = re.match(r"\s*([\d.]+)\s*x", pages[0].findtext(".//Objective") or "", re.IGNORECASE)
    colours = [re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", page.findtext("Color") or "") for page in pages]
    said = [bytes(min(int(one), 255) for one in colour.groups()).hex().upper() for colour in colours if colour]
    return replace(
        image,
        labels=_labels(image, [page.findtext("Name") for page in pages]),
        colours=tuple(said) if not image.rgb and len(said) == image.channels else (),
        magnification=_size(objective[1]) if objective else None,
    )


def resolution(page: Any) -> dict[str, Size]:
    """The sizes of the pixels of one of tifffile's pages, by its resolution; none without a unit."""
    length = _RESOLUTION_UNITS.get(page.tags.valueof("ResolutionUnit"))
    sizes = {}
    for axis in "yx":
        pixels, units = page.tags.valueof(f"{axis.upper()}Resolution") or (0, 0)
        value = _size(length * units / pixels) if length and pixels else None
        if value:
            sizes[axis] = Size(value, _MICRO)
    return sizes


def overview_name(document: str) -> str | None:
    """The name of that image of an SCN file that shows its whole slide; None if there is none."""
    root = ElementTree.fromstring(document)
    whole = next(_elements(root, "collection"))
    for image in _elements(root, "image"):
        view = next(_elements(image, "view"), None)
        if view is not None and all(view.get(side) == whole.get(side) is not None for side in ("sizeX", "sizeY")):
            return image.get("name")
    return None


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
    channel: dict[str, list[Any]] = {}
    if image.labels and not image.rgb:
        channel["Name"] = list(image.labels)
    if image.colours and not image.rgb:
        rgba = [(int(colour, 16) << 8) + 0xFF for colour in image.colours]
        channel["Color"] = [value - 2**32 if value >= 2**31 else value for value in rgba]
    return {**attributes, "Channel": channel} if channel else attributes


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


def _colours(image: Image, said: Sequence[str | None]) -> tuple[str, ...]:
    """The colours of the channels as RRGGBB, from OME-XML's signed RGBA, if there is one for each.

    Several that are all white are what writers put that know none.
    """
    values = [int(value) for value in said if value is not None and re.fullmatch(r"-?\d{1,10}", value)]
    if image.rgb or len(said) != image.channels or len(values) != len(said) or (len(said) > 1 and set(values) == {-1}):
        return ()
    return tuple(f"{(value >> 8) & 0xFFFFFF:06X}" for value in values)


def _ome_magnification(root: ElementTree.Element) -> float | None:
    """The magnification of the objective that the image names, or else of the only one."""
    objectives = {one.get("ID"): one.get("NominalMagnification") for one in _elements(root, "Objective")}
    chosen = next((one for image in _elements(root, "Image") for one in _elements(image, "ObjectiveSettings")), None)
    if chosen is not None:
        return _size(objectives.get(chosen.get("ID")))
    return _size(next(iter(objectives.values()))) if len(objectives) == 1 else None


def _leica_objective(document: str) -> str | None:
    """The magnification that an SCN file states for the image that is not its overview."""
    root, overview = ElementTree.fromstring(document), overview_name(document)
    for image in _elements(root, "image"):
        objective = next(_elements(image, "objective"), None)
        if image.get("name") != overview and objective is not None:
            return objective.text
    return None


def _elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The elements of this name, in any version of OME-XML."""
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == name)
