"""Opens the array that a caller names."""

from pathlib import Path
from typing import Any

import zarr

from ..errors import ParameterError
from ..storage import locations
from . import layers


def opened_array(array: "zarr.Array[Any] | str | Path") -> "zarr.Array[Any]":
    """A Zarr array, or the one at a path or URL.

    Raises ParameterError if a group is there, or nothing, or an array with chunks of several shapes.
    """
    node = array if isinstance(array, zarr.Array) else locations.open_node(locations.parse_location(array))
    if isinstance(node, zarr.Array):
        if not layers.layers(node)[0].regular:
            raise ParameterError(f"{array} has chunks of several shapes, but must have chunks of one; read it with zarr")
        return node
    names = ", ".join(sorted(name for name, _ in node.arrays())) or "none"
    raise ParameterError(f"{array} is a group but an array is needed; name one of its arrays: {names}")
