"""Chunks as zarr pads them at the edge of an array: a content, and one value behind it."""

import numpy as np

from caecodec.chunks.axes import Axes

FILLS = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int16": (0, -32768, -9999),
    "float32": (0.0, -0.0, -9999, 1e20, np.nan, -np.inf),
    "float64": (0.0, -9999, 1e300, np.nan),
}


def picture(*shape, dtype="uint8", seed=0):
    """Smooth planes with noise (..., height, width), each another, none of which ends in a row or column of one value."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    planes = [100 + 60 * np.sin(x / rng.uniform(5, 9)) + 40 * np.cos(y / rng.uniform(5, 9)) for _ in np.ndindex(shape[:-2])]
    values = np.reshape(planes, shape) + rng.normal(size=shape) * 4
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values).astype(dtype)


def padded(content, shape, fill):
    """A chunk of this shape with the content at its start, and the fill value behind it."""
    chunk = np.full(shape, fill, content.dtype)
    chunk[tuple(slice(n) for n in content.shape)] = content
    return chunk


def cases():
    """Name, content, shape of the chunk, fill value and channel axis: of each dtype, with padding on every kind of axis."""
    rgb = np.moveaxis(picture(3, 40, 37), 0, -1)
    yield "rgb", rgb, (48, 48, 3), 255, -1
    yield "rgb-series", np.stack([rgb[:20, :31], rgb[20:, 6:]]), (4, 20, 32, 3), 0, -1
    yield "uint8-plane", picture(33, 40), (48, 40), 255, None
    yield "uint16-plane", picture(17, 40, dtype="uint16"), (32, 48), 65535, None
    yield "int16-channels", picture(2, 31, 30, dtype="int16"), (4, 32, 32), -9999, 0
    yield "float32-series", picture(1, 20, 24, dtype="float32"), (3, 24, 24), 1e20, None
    yield "float32-not-a-number", picture(9, 24, dtype="float32"), (24, 24), np.nan, None
    yield "float64-plane", picture(23, 24, dtype="float64"), (24, 24), 0, None
    yield "one-value", np.full((5, 7), 3, np.uint16), (16, 16), 9, None
    yield "fortran", np.asfortranarray(rgb[:20, :30]), (32, 32, 3), 0, -1


def chunk_of(case):
    """The whole chunk of a case, in the memory order of its content."""
    _, content, shape, fill, _ = case
    chunk = padded(content, shape, fill)
    return np.asfortranarray(chunk) if content.flags.f_contiguous and not content.flags.c_contiguous else chunk


def inside(array, content):
    """The part of a decoded chunk where the content is."""
    return array[tuple(slice(n) for n in content.shape)]


def bits(array):
    """The bits of the values, as integers."""
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def behind(chunk, content):
    """The bits of the values behind the content."""
    mask = np.ones(chunk.shape, bool)
    mask[tuple(slice(n) for n in content.shape)] = False
    return bits(chunk)[mask]


def axes_of(case):
    """The axes of the chunk of a case."""
    _, _, shape, _, channel_axis = case
    return Axes.of(len(shape), channel_axis)
