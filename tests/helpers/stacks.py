"""Stacks of planes, and the groups they are converted to."""

import numpy as np
import zarr

from caecodec.ngff.options import Options

EXACT = Options(codec="none", chunk_size=32)


def stack(*shape, dtype="uint16", seed=0):
    """Smooth planes (..., height, width), each another, over half of the dtype's range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    planes = [np.sin(x / rng.uniform(5, 9) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(5, 9)) for _ in np.ndindex(shape[:-2])]
    values = np.reshape(planes, shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return (values * (limits.max / 4) + limits.max / 4 + limits.min / 2).astype(dtype)


def attributes(path):
    found = zarr.open_group(str(path), mode="r").attrs.asdict()
    return found.get("ome", found)
