"""Opens the array that a caller names."""

from pathlib import Path
from typing import Any

import zarr

from ..errors import ParameterError
from ..storage import locations


def opened_array(array: "zarr.Array[Any] | str | Path") -> "zarr.Array[Any]":
    """A Zarr array, or the one at a path or URL; ParameterError if a group is there, or nothing."""
    node = array if isinstance(array, zarr.Array) else locations.open_node(locations.parse_location(array))
    if isinstance(node, zarr.Array):
        return node
    names = ", ".join(sorted(name for name, _ in node.arrays())) or "none"
    raise ParameterError(f"{array} is a group but an array is needed; name one of its arrays: {names}")
