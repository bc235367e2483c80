"""The attributes of OME-NGFF groups, of versions 0.1 to 0.6 -> one form, that of 0.5 -> versions 0.4 to 0.6.

Versions differ in where the attributes are (below "ome" from 0.5 on), in how axes are given (not at all before 0.3, as names in
0.3, in coordinate systems from 0.6 on), and in the transformations of the levels (none before 0.4, a single one from 0.6 on).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import zarr
from zarr.errors import BaseZarrError

from ..errors import CaeCodecError, FormatVersionError, ParameterError
from .pyramid import factor

READ = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
_OME = ("multiscales", "omero", "labels", "image-label", "plate", "well", "bioformats2raw.layout")  # top-level up to 0.4
_VERSIONED = ("multiscales", "image-label", "plate", "well", "omero")  # those that have a version of their own up to 0.4
_TYPES = {"t": "time", "c": "channel"}
_INTRINSIC = "intrinsic"  # the coordinate system that we write


class Attributes(NamedTuple):
    """The attributes of a group: its version, those of OME-NGFF without their versions, and all others."""

    version: str
    ome: dict[str, Any]
    others: dict[str, Any]


def parse(group: zarr.Group, where: object) -> Attributes:
    """The attributes of a group as they are; FormatVersionError for a version that is not among READ."""
    attributes: dict[str, Any] = group.attrs.asdict()
    below = attributes.get("ome")
    if isinstance(below, dict):
        items = {key: value for key, value in below.items() if key != "version"}
        others = {key: value for key, value in attributes.items() if key != "ome"}
        said = below.get("version") or ("0.6" if any("coordinateSystems" in one for one in _images(items)) else "0.5")
    else:
        items = {key: attributes[key] for key in _OME if key in attributes}
        others = {key: value for key, value in attributes.items() if key not in _OME}
        said = _version_before_0_5(items)
    match = re.match(r"(0\.[1-6])(?!\d)", str(said))  # also releases before the final one, such as 0.6.dev4
    if not match:
        raise FormatVersionError(
            f"{where} is OME-NGFF {said} but this caecodec reads {READ[0]} to {READ[-1]}; upgrade caecodec, or convert it to "
            "one of these with the program that wrote it"
        )
    return Attributes(match[1], {key: _bare(key, value) for key, value in items.items()}, others)


def with_axes(found: Attributes, group: zarr.Group, where: object) -> dict[str, Any]:
    """The attributes of OME-NGFF in the form of 0.5: each image has axes, and its levels have lists of transformations.

    Raises ParameterError for an image of 0.6 whose levels have no coordinate system of their own.
    """
    if found.version == "0.6":
        return _mapped(found.ome, lambda image: _from_coordinate_systems(image, where))
    if found.version in ("0.1", "0.2", "0.3"):
        return _mapped(found.ome, lambda image: _with_scales(_with_axis_types(image), group))
    return found.ome


def translated(group: zarr.Group, version: str, where: object) -> dict[str, Any]:
    """The attributes of a group of any version, rewritten for version 0.4, 0.5 or 0.6; if that is its own, as they are.

    Raises ParameterError for coordinate systems of 0.6 that other versions cannot hold, and for images that are not as their
    version says, where that matters.
    """
    found = parse(group, where)
    if not found.ome:
        return found.others
    if found.version == version:
        own: dict[str, Any] = group.attrs.asdict()
        return own if version == "0.4" else {**own, "ome": {**own["ome"], "version": own["ome"].get("version") or version}}
    try:
        ome = _to_0_6(found, group) if version == "0.6" else _to_0_5(found, group, where, version)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CaeCodecError):
            raise
        raise ParameterError(
            f"{where} cannot be rewritten from OME-NGFF {found.version} to {version}, because its metadata is not as that "
            f"version says ({type(error).__name__}: {error}); correct it"
        ) from error
    if version == "0.4":
        return {**found.others, **{key: _versioned(key, value) for key, value in ome.items()}}
    return {**found.others, "ome": {"version": version, **ome}}


def with_levels(attributes: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The attributes of a group of version 0.4 to 0.6, whose image has these levels, by path, in place of its own.

    Each level has the transformations of the first, but for its scale.
    """
    ome = attributes.get("ome", attributes)
    image = ome["multiscales"][0]
    first, full = image["datasets"][0], next(iter(shapes.values()))
    levels = [_scaled(first, path, [factor(n, m) for n, m in zip(full, shape, strict=True)]) for path, shape in shapes.items()]
    ome = {**ome, "multiscales": [{**image, "datasets": levels}, *ome["multiscales"][1:]]}
    return {**attributes, "ome": ome} if "ome" in attributes else ome


def _scaled(level: Any, path: str, factors: Sequence[float]) -> Any:
    """The metadata of a level with another path and larger steps."""
    if isinstance(level, list):
        return [_scaled(one, path, factors) for one in level]
    if not isinstance(level, dict):
        return level
    found = {key: value if key == "scale" else _scaled(value, path, factors) for key, value in level.items()}
    if isinstance(found.get("scale"), list):
        found["scale"] = [size * by for size, by in zip(found["scale"], factors, strict=True)]
    return {**found, "path": path} if "path" in found else found


def _to_0_5(found: Attributes, group: zarr.Group, where: object, version: str) -> dict[str, Any]:
    """The attributes in the form of 0.5 and 0.4; ParameterError for what `version`, one of these, has no place for."""
    for image in _images(found.ome) if found.version == "0.6" else ():
        if len(image["coordinateSystems"]) > 1 or image.get("coordinateTransformations"):
            raise ParameterError(
                f"{where} has several coordinate systems, which OME-NGFF {version} cannot hold; choose ngff 0.6 (--ngff 0.6)"
            )
    return with_axes(found, group, where)


def _to_0_6(found: Attributes, group: zarr.Group) -> dict[str, Any]:
    """The attributes of an earlier version in the form of 0.6."""
    return _mapped(with_axes(found, group, group), lambda image: _to_coordinate_systems(_with_scales(image, group)))


def _version_before_0_5(items: dict[str, Any]) -> Any:
    """The version that the attributes state or, if they do not, that they look like."""
    for key in _VERSIONED:
        for one in items[key] if isinstance(items.get(key), list) else [items.get(key)]:
            if isinstance(one, dict) and "version" in one:
                return one["version"]
    images = _images(items)
    if images and "axes" not in images[0]:
        return "0.2"
    axes = images[0]["axes"] if images else ()
    return "0.3" if axes and isinstance(axes, list) and isinstance(axes[0], str) else "0.4"


def _images(items: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a group, without what is no image."""
    found = items.get("multiscales")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _mapped(items: dict[str, Any], function: Any) -> dict[str, Any]:
    return {**items, "multiscales": [function(image) for image in _images(items)]} if "multiscales" in items else items


def _bare(key: str, value: Any) -> Any:
    """Attributes without the version of their own."""
    if key in _VERSIONED and isinstance(value, list):
        return [_bare(key, one) for one in value]
    if key not in _VERSIONED or not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name != "version"}


def _versioned(key: str, value: Any) -> Any:
    """Attributes with a version of their own, as 0.4 has it."""
    if key in _VERSIONED and isinstance(value, list):
        return [_versioned(key, one) for one in value]
    return {"version": "0.4", **value} if key in _VERSIONED and isinstance(value, dict) else value


def _with_axis_types(image: dict[str, Any]) -> dict[str, Any]:
    """An image of 0.1 to 0.3 with axes as later versions have them."""
    names = image.get("axes") or "tczyx"
    return {**image, "axes": [{"name": name, "type": _TYPES.get(name, "space")} for name in names]}


def _with_scales(image: dict[str, Any], group: zarr.Group) -> dict[str, Any]:
    """An image whose levels all have transformations; those that have none are scaled as their shapes say."""
    shapes = [_shape(group, level.get("path")) for level in image["datasets"]]
    levels = []
    for level, shape in zip(image["datasets"], shapes, strict=True):
        if not level.get("coordinateTransformations"):
            factors = [factor(n, m) for n, m in zip(shapes[0], shape, strict=False)]
            scale = factors if len(factors) == len(image["axes"]) else [1.0] * len(image["axes"])
            level = {**level, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        levels.append(level)
    return {**image, "datasets": levels}


def _shape(group: zarr.Group, path: Any) -> tuple[int, ...]:
    try:
        return tuple(getattr(group[path], "shape", ()))
    except (BaseZarrError, KeyError, TypeError, ValueError):
        return ()


def _from_coordinate_systems(image: dict[str, Any], where: object) -> dict[str, Any]:
    """An image of 0.6 in the form of 0.5."""
    systems = {system["name"]: system["axes"] for system in image["coordinateSystems"]}
    levels, outputs = [], set()
    for level in image["datasets"]:
        steps = level.get("coordinateTransformations") or [{}]
        output = steps[0].get("output")
        output = output.get("name") if isinstance(output, dict) else output
        if len(steps) != 1 or output not in systems:
            raise ParameterError(
                f"{where} is OME-NGFF 0.6 but its level {level['path']} has no transformation to one of its coordinate systems "
                f"({', '.join(systems)}); correct its metadata"
            )
        outputs.add(output)
        levels.append({**level, "coordinateTransformations": _steps(steps[0], len(systems[output]), where)})
    if len(outputs) != 1:
        raise ParameterError(f"{where} is OME-NGFF 0.6 but its levels have {len(outputs)} coordinate systems and must have one")
    kept = {key: value for key, value in image.items() if key not in ("coordinateSystems", "coordinateTransformations")}
    return {**kept, "axes": systems[outputs.pop()], "datasets": levels}


def _steps(transformation: dict[str, Any], axes: int, where: object) -> list[dict[str, Any]]:
    """The transformation of a level as the list of its steps, a scale and perhaps a translation."""
    kind = transformation.get("type")
    if kind == "identity":
        return [{"type": "scale", "scale": [1.0] * axes}]
    steps = transformation["transformations"] if kind == "sequence" else [transformation]
    if [step.get("type") for step in steps] not in (["scale"], ["scale", "translation"]):
        raise ParameterError(
            f"{where} is OME-NGFF 0.6 but a level has a transformation of type {kind}, which no level can have; use a scale, "
            "or a sequence of a scale and a translation"
        )
    return [{"type": step["type"], step["type"]: step[step["type"]]} for step in steps]


def _to_coordinate_systems(image: dict[str, Any]) -> dict[str, Any]:
    """An image in the form of 0.5 -> in that of 0.6. What it applies to all levels becomes part of their transformations."""
    whole, levels = image.get("coordinateTransformations", ()), []
    for level in image["datasets"]:
        scale, translation = _combined([*level["coordinateTransformations"], *whole], len(image["axes"]))
        step: dict[str, Any] = {"type": "scale", "scale": scale}
        if translation is not None:
            step = {"type": "sequence", "transformations": [step, {"type": "translation", "translation": translation}]}
        path = {"input": {"path": level["path"]}, "output": {"name": _INTRINSIC}}
        levels.append({**level, "coordinateTransformations": [{**step, **path}]})
    kept = {key: value for key, value in image.items() if key not in ("axes", "coordinateTransformations")}
    return {**kept, "coordinateSystems": [{"name": _INTRINSIC, "axes": image["axes"]}], "datasets": levels}


def _combined(steps: Sequence[dict[str, Any]], axes: int) -> tuple[list[float], list[float] | None]:
    """One scale and one translation that do what these scales and translations do in order; None for no translation."""
    scale, translation = [1.0] * axes, None
    for step in steps:
        if step.get("type") == "scale":
            scale = [a * b for a, b in zip(scale, step["scale"], strict=True)]
            translation = translation and [a * b for a, b in zip(translation, step["scale"], strict=True)]
        elif step.get("type") == "translation":
            translation = [a + b for a, b in zip(translation or [0.0] * axes, step["translation"], strict=True)]
    return scale, translation
