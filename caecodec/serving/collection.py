"""A location -> the images in it: pyramids of OME-NGFF groups, and arrays by themselves."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import zarr
from zarr.errors import BaseZarrError
from zarr.storage import LocalStore

from .. import weights
from ..arrays import layers, payloads
from ..errors import CaeCodecError, ParameterError
from ..ngff.metadata import Multiscales, multiscales_of, usual_colours
from ..storage import locations
from .pyramid import Channel, Pyramid, Stored, pyramid_of
from .served_store import ServedStore

MOST_IMAGES = 1000
_MOST_FOLDERS = 100_000
_MOST_COMPOSED = 8  # channels that are shown together unasked: each is decoded, and the colours of more cannot be told apart
_ZIPPED = (".ozx", ".zarr.zip")
_UNREADABLE = (BaseZarrError, CaeCodecError, OSError, KeyError, TypeError, ValueError)
_PLAIN_AXES = "tczyx"


class Collection(NamedTuple):
    """What is served.

    name : what the location is called
    pyramids : by their keys, which say nothing of paths and are the same whenever the location is served
    left_out : sentences on what is not shown, each with its reason
    """

    name: str
    pyramids: dict[str, Pyramid]
    left_out: list[str]


def open_collection(location: locations.Location, stack: ExitStack) -> Collection:
    """The images at a location: an array, a group, a folder that holds some, a zipped store, or a URL.

    Weights that groups carry are found until `stack` is closed. Links in a folder are not followed.

    Raises
    ------
    ParameterError
        There is nothing to show.
    """
    pyramids: dict[str, Pyramid] = {}
    left_out: list[str] = []
    root = location if locations.is_url(location) else Path(location).resolve()
    for place in islice(_places(root), MOST_IMAGES):
        below = "" if place == root else Path(place).relative_to(root).as_posix()
        try:
            node = _opened(place, Path(root) if isinstance(root, Path) else None)
            stack.enter_context(weights.using(place))
            for found in _images(node, below or locations.name(root), left_out, stack):
                key = hashlib.sha256(f"{below}\n{found.path}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
                pyramids[key] = found.pyramid
        except _UNREADABLE as error:
            left_out.append(f"{below or place}: {error}")
        if len(pyramids) >= MOST_IMAGES:
            left_out.append(f"there may be more than {MOST_IMAGES} images; serve a part of the folder to see others")
            break
    if not pyramids:
        raise ParameterError(
            f"{location} holds no image to show: {'; '.join(left_out) or 'there is no Zarr array or group in it'}"
        )
    return Collection(locations.name(root), pyramids, left_out)


class _Found(NamedTuple):
    path: str  # in its store
    pyramid: Pyramid


def _places(root: locations.Location) -> Iterator[locations.Location]:
    """The Zarr nodes at or below a location that are in no other; hidden ones and links are passed over."""
    if locations.is_url(root) or locations.is_zipped(root) or locations.is_node(Path(root)) or not Path(root).is_dir():
        yield root
        return
    for folder, names, files in islice(os.walk(root), _MOST_FOLDERS):
        paths = sorted(Path(folder, name) for name in (*names, *files) if not name.startswith("."))
        nodes = [one for one in paths if not one.is_symlink() and (_is_zip(one) or (one.is_dir() and locations.is_node(one)))]
        names[:] = [one.name for one in paths if one.name in names and one not in nodes]
        yield from nodes


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(_ZIPPED) and path.is_file()


def _opened(place: locations.Location, within: Path | None) -> "zarr.Group | zarr.Array[Any]":
    """The node at a place, in a store whose reads are counted and stay in a folder."""
    if isinstance(place, Path) and place.is_dir():
        store: Any = LocalStore(place, read_only=True)
        path = ""
    else:
        node = locations.open_node(place)
        store, path = node.store, node.path
    opened: zarr.Group | zarr.Array[Any] = zarr.open(ServedStore(store, within), path=path, mode="r")
    locations.refuse_partial(place, opened)
    return opened


def _images(node: Any, name: str, left_out: list[str], stack: ExitStack) -> Iterator[_Found]:
    """The images at or below a node: each group with multiscales, and each array that is in none of them."""
    members = [node] if isinstance(node, zarr.Array) else [node, *(one for _, one in sorted(node.members(max_depth=None)))]
    members = [one for one in members if weights.GROUP not in one.path.split("/")]
    shown: set[str] = set()
    for group in members:
        if isinstance(group, zarr.Group) and "multiscales" in {**group.attrs, **_ome(group)}:
            title = _title(name, node, group)
            try:
                image = multiscales_of(group, title)
                arrays = [image.level(i) for i in range(len(image.paths))]
                if group is not node:
                    stack.enter_context(weights.using(group))
                found = _Found(group.path, _of_image(title, image, arrays))
            except _UNREADABLE as error:
                left_out.append(f"{title}: {error}")
                continue
            shown |= {array.path for array in arrays}
            yield found
    for array in members:
        if isinstance(array, zarr.Array) and array.path not in shown:
            title = _title(name, node, array)
            try:
                yield _Found(array.path, _of_array(title, array))
            except _UNREADABLE as error:
                left_out.append(f"{title}: {error}")


def _ome(group: zarr.Group) -> dict[str, Any]:
    found: Any = group.attrs.get("ome")
    return found if isinstance(found, dict) else {}


def _title(name: str, root: Any, node: Any) -> str:
    inner = node.path[len(root.path) :].strip("/")
    return f"{name}/{inner}" if inner else name


def _of_image(title: str, image: Multiscales, arrays: Sequence["zarr.Array[Any]"]) -> Pyramid:
    rgb = image.rgb(arrays[0])
    count = arrays[0].shape[image.axes.index("c")] if "c" in image.axes else 1
    labels = image.labels(arrays[0])
    omero = image.channels if len(image.channels) == count else [{}] * count
    colours = image.colours(arrays[0]) or usual_colours(count)
    channels = [
        Channel(labels[i] if labels else f"channel {i}", colours[i], _window(channel.get("window")))
        for i, channel in enumerate(omero)
    ]
    composed = () if rgb or len(image.composed(arrays[0])) > _MOST_COMPOSED else image.composed(arrays[0])
    stored = [_stored(one, tuple(image.axes)) for one in arrays]
    return pyramid_of(title, stored, channels, composed, rgb, _codec(arrays[0]), min(map(_layer_count, arrays)))


def _of_array(title: str, array: "zarr.Array[Any]") -> Pyramid:
    axes = _axes(array)
    count = array.shape[axes.index("c")] if "c" in axes else 1
    rgb = count == 3 and array.dtype.name == "uint8"
    channels = [Channel(f"channel {i}", colour, None) for i, colour in enumerate(usual_colours(count))]
    return pyramid_of(title, [_stored(array, axes)], channels, (), rgb, _codec(array), _layer_count(array))


def _stored(array: "zarr.Array[Any]", axes: tuple[str, ...]) -> Stored:
    return Stored(array, axes, _chunk_shape(array))


def _chunk_shape(array: "zarr.Array[Any]") -> tuple[int, ...]:
    """What is decoded at once; the greatest length along each axis of an array of various chunks."""
    if layers.layers(array)[0].regular:
        return array.chunks
    return tuple(max(sizes, default=1) for sizes in array.read_chunk_sizes)


def _axes(array: "zarr.Array[Any]") -> tuple[str, ...]:
    """The axes of an array by itself: as its dimensions are named, as its codec has them, or as its shape looks."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")  # Zarr v3; xarray in v2
    if isinstance(named, list | tuple) and len(set(named)) == array.ndim and {"y", "x"} <= set(named) <= set(_PLAIN_AXES):
        return tuple(named)
    if array.ndim < 2:
        raise ParameterError(f"it has {array.ndim} axes, but an image has at least two")
    at = _channel_axis(array)
    others = iter(f"axis {i}" for i in range(array.ndim))
    rest = array.ndim - (2 if at is None else 3)
    names = [*islice(others, rest), "y", "x"]
    if at is not None:
        names.insert(at % array.ndim, "c")
    return tuple(names)


def _channel_axis(array: "zarr.Array[Any]") -> int | None:
    """The axis of the channels, from the end: that of our codec unless filters move it, or else where 3 or 4 are usual."""
    try:
        _, parameters = layers.coded_by(array)
    except ParameterError:
        parameters = None
    if parameters is not None and layers.as_coded(array, array.shape) == array.shape:
        axis = parameters.channel_axis
        return None if axis is None else axis % array.ndim - array.ndim
    if array.ndim > 2 and array.shape[-1] in (3, 4):
        return -1
    return -3 if array.ndim > 2 and array.shape[-3] == 3 else None


def _codec(array: "zarr.Array[Any]") -> str:
    """The codecs of an array, in words."""
    try:
        codec, parameters = layers.coded_by(array)
    except ParameterError:
        return ", ".join(layers.names(array)) or "no codec"
    return f"{codec.name}, {codec.summary(parameters)['asked']}"


def _layer_count(array: "zarr.Array[Any]") -> int:
    """How many layers of an array can be read one by one, at most those of the settings; 0 if it has none."""
    try:
        codec, parameters = layers.coded_by(array)
        payloads.fetch(array, ())  # other codecs around ours rule it out
    except ParameterError:
        return 0
    count = codec.layer_count(parameters)
    return min(count, codec.first_layers(None) or count)


def _window(window: Any) -> tuple[float, float] | None:
    """The contrast window that omero metadata state, if it is one."""
    low, high = (window.get("start"), window.get("end")) if isinstance(window, dict) else (None, None)
    if not (isinstance(low, int | float) and isinstance(high, int | float) and -math.inf < low < high < math.inf):
        return None
    return float(low), float(high)
