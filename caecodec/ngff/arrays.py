"""Zarr arrays that are no OME-NGFF images -> images, read by windows."""

from typing import Any

import numpy as np
import zarr
from zarr.core.metadata.v3 import ArrayV3Metadata

from ..errors import ParameterError
from ..images.image import AXES, COLOURS, Image
from ..images.windows import Rearranged
from ..storage.locations import Place, open_node

_XARRAY = "_ARRAY_DIMENSIONS"  # the attribute in which xarray names the axes of arrays of the Zarr v2 format
_NAMES = {"time": "t", "channel": "c", "channels": "c", "band": "c"}


def open_array(location: Place, axes: str | None) -> Image | None:
    """The image in an array, or in a group of a single one with several axes; None for other groups.

    Its axes are `axes`, or those that the array names, or else by their number: y, x; z, y, x (y, x, c or c, y, x for three
    channels of 8 bits); c, z, y, x; t, c, z, y, x. Three channels of 8 bits are RGB.

    Raises ParameterError if there is nothing to open, or a group of several arrays, and for other axes.
    """
    node = open_node(location)
    if isinstance(node, zarr.Group):
        if "ome" in node.attrs or "multiscales" in node.attrs or any(True for _ in node.groups()):
            return None
        arrays = {name: array for name, array in sorted(node.arrays(), key=lambda one: one[0]) if array.ndim > 1}
        if not arrays:
            return None
        if len(arrays) != 1:
            raise ParameterError(
                f"{location} is no OME-NGFF image and holds {len(arrays)} arrays ({', '.join(arrays)}); name one of them, such "
                f"as {location}/{next(iter(arrays))}"
            )
        node = next(iter(arrays.values()))
    if 0 in node.shape:
        raise ParameterError(f"{location} has shape {node.shape}, which is no pixels; fill it first, or leave it out")
    named = axes or _named(node) or _usual(node)
    if len(named) != node.ndim or len(set(named)) < node.ndim or not {*"yx"} <= {*named} <= {*AXES}:
        raise ParameterError(
            f"{location} has shape {node.shape} and axes {', '.join(named) or 'without names'}, but must have y, x and any of "
            "t, c, z; pass axes, such as yxc (--axes yxc)"
        )
    order = [named.index(name) for name in AXES if name in named]
    pixels = Rearranged(node, order)
    ordered = "".join(named[i] for i in order)
    rgb = "c" in ordered and pixels.shape[ordered.index("c")] == COLOURS and node.dtype == np.uint8
    return Image(pixels, ordered, rgb)


def _named(array: zarr.Array[Any]) -> str:
    """The axes as the array names them, a letter each, "?" for other names; "" if it does not."""
    names: Any = array.metadata.dimension_names if isinstance(array.metadata, ArrayV3Metadata) else None
    names = names or array.attrs.get(_XARRAY)
    if not isinstance(names, list | tuple) or None in names:
        return ""
    lower = [str(name).lower() for name in names]
    return "".join(name if name in AXES else _NAMES.get(name, "?") for name in lower)


def _usual(array: zarr.Array[Any]) -> str:
    """The axes of an array that does not name them."""
    if array.ndim == 3 and array.dtype == np.uint8 and COLOURS in (array.shape[0], array.shape[-1]):
        return "yxc" if array.shape[-1] == COLOURS else "cyx"
    return {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}.get(array.ndim, "")
