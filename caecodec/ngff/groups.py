"""Images <-> OME-NGFF image groups: multiscale pyramids of arrays with axes among t, c, z, y, x."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from .. import weights
from ..errors import ParameterError
from ..images.image import Image
from ..storage import locations
from . import blocks
from .chunk_runner import ChunkRunner
from .compressors import ZARR_FORMATS
from .levels import Level, write_levels
from .metadata import attributes_of, axes_of, dataset_of, omero_of, open_multiscales
from .options import Options
from .versions import translated


def pyramid(pixels: npt.NDArray[Any], smallest: int) -> Iterator[npt.NDArray[Any]]:
    """Levels (..., height, width), each the mean of 2x2 pixels of the one before, until one fits smallest x smallest.

    An odd last row or column is averaged with itself. Integers are rounded, halves up.
    """
    yield pixels
    while max(pixels.shape[-2:]) > smallest:
        pixels = halved(pixels)
        yield pixels


def halved(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The next level of a pyramid: (..., height, width) of integers of at most 16 bits, or floats -> half of it, rounded up."""
    height, width = pixels.shape[-2:]
    odd = [(0, 0)] * (pixels.ndim - 2) + [(0, height % 2), (0, width % 2)]
    even = np.pad(pixels, odd, mode="edge")
    quarters = [even[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if pixels.dtype.kind == "f":
        scaled = [quarter * pixels.dtype.type(0.25) for quarter in quarters]  # scaled first, because the sum might overflow
        mean: npt.NDArray[Any] = scaled[0] + scaled[1] + scaled[2] + scaled[3]
        return mean
    total: npt.NDArray[np.int32] = quarters[0].astype(np.int32) + quarters[1] + quarters[2] + quarters[3]
    return ((total + 2) // 4).astype(pixels.dtype)


def write_group(path: Path, image: Image, name: str, options: Options, runner: ChunkRunner | None = None) -> None:
    """Write an image as an OME-NGFF group at `path`, which must not exist unless `options` resume a group that was begun.

    Raises
    ------
    ParameterError, WeightsError
        The options do not fit each other, the image or this machine.
    """
    try:
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_multiscales_metadata
    except ImportError as error:
        raise ParameterError("writing OME-NGFF needs ome-zarr, which is not installed: pip install 'caecodec[ngff]'") from error
    group = new_group(path, options)
    fill = 255 if image.rgb and image.pixels.dtype == np.uint8 else 0  # empty parts of slides are white
    levels = {
        f"s{i}": Level(level, image.axes, image.rgb, {"fill_value": fill})
        for i, level in enumerate(pyramid(image.pixels, options.chunk_size))
    }
    write_levels(group, levels, options, runner)
    name = name.encode("utf-8", "backslashreplace").decode()  # the bytes of a file's name may be no text
    datasets = [dataset_of(image, key, level.source.shape) for key, level in levels.items()]
    version = format_from_version("0.4" if options.ngff == "0.4" else "0.5")
    metadata = {"omero": omero_of(image, name)}
    write_multiscales_metadata(group, datasets, fmt=version, axes=axes_of(image), name=name, metadata=metadata)
    group.attrs.update(attributes_of(image))
    if options.ngff == "0.6":  # ome-zarr writes it only with classes that need Python 3.12
        group.attrs.update(translated(group, options.ngff, path))


def new_group(path: Path, options: Options) -> zarr.Group:
    """A group at `path` to write to; the path must not exist unless `options` resume."""
    mode: Literal["a", "w-"] = "a" if options.resume else "w-"
    return zarr.open_group(str(path), mode=mode, zarr_format=ZARR_FORMATS[options.ngff])


def read_group(path: locations.Location, level: int = 0) -> Image:
    """One level of the image in an OME-NGFF group, 0 being the full size.

    `path` may also name a zipped store (.ozx, .zip), or be a URL for fsspec. Weights that the group carries need not be
    installed.

    Raises
    ------
    ParameterError
        There is no OME-NGFF image with axes among t, c, z, y, x at `path`, or it has no such level.
    CaeCodecError
        Decoding its chunks failed.
    """
    with weights.using(path):
        image = open_multiscales(path)
        array = image.level(level)
        pixels = blocks.read(array, (slice(None),) * array.ndim)
        rgb = image.rgb(array)
        labels = () if rgb else image.labels(array)
        return Image(pixels, image.axes, rgb, labels, image.sizes(level), image.icc_profile())
