"""RGB arrays <-> OME-NGFF image groups: a multiscale pyramid of c, y, x arrays, read and written with ome-zarr."""

import asyncio
import base64
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync
from zarr.errors import BaseZarrError

from ..errors import ParameterError
from .compressors import array_options
from .files import Photograph
from .options import Options

FILL = 255  # chunks without any ink are not stored, and padding is white
_ZARR_FORMATS: dict[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3}
_COLOURS = ("FF0000", "00FF00", "0000FF")
_ATTRIBUTE = "caecodec"


def pyramid(pixels: npt.NDArray[np.uint8], smallest: int) -> list[npt.NDArray[np.uint8]]:
    """Levels (height, width, 3), each the mean of 2x2 pixels of the one before, until one fits smallest x smallest.

    An odd last row or column is averaged with itself.
    """
    levels = [pixels]
    while max(levels[-1].shape[:2]) > smallest:
        last = levels[-1]
        even = np.pad(last, ((0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)), mode="edge").astype(np.uint16)
        total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
        levels.append(((total + 2) // 4).astype(np.uint8))
    return levels


def write_group(path: Path, photograph: Photograph, name: str, options: Options) -> None:
    """Write an image as an OME-NGFF group at `path`, which must not exist.

    Raises
    ------
    ParameterError, WeightsError
        Options that do not fit each other or this machine.
    """
    try:
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_multiscales_metadata
    except ImportError as error:
        raise ParameterError("writing OME-NGFF needs ome-zarr, which is not installed: pip install 'caecodec[ngff]'") from error
    group = zarr.open_group(str(path), mode="w-", zarr_format=_ZARR_FORMATS[options.ngff])
    levels = pyramid(photograph.pixels, options.chunk_size)
    for i, level in enumerate(levels):
        data = np.moveaxis(level, -1, 0)
        array = group.create_array(
            f"s{i}", shape=data.shape, dtype=data.dtype, fill_value=FILL, **array_options(options, data.shape)
        )
        _write(array, data)
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    height, width = photograph.pixels.shape[:2]
    datasets = [
        {"path": f"s{i}", "coordinateTransformations": [{"type": "scale", "scale": [1.0, height / y, width / x]}]}
        for i, (y, x, _) in enumerate(level.shape for level in levels)
    ]
    version = format_from_version(options.ngff)
    write_multiscales_metadata(group, datasets, fmt=version, axes=axes, name=name, metadata={"omero": _omero(name)})
    profile = photograph.icc_profile
    if profile:
        group.attrs[_ATTRIBUTE] = {"icc_profile": base64.b64encode(profile).decode()}


def read_group(path: Path, level: int = 0) -> Photograph:
    """One level of the image in an OME-NGFF group, 0 being the full size.

    Raises
    ------
    ParameterError
        There is no OME-NGFF image of three channels at `path`, or no such level.
    CaeCodecError
        What decoding its chunks raises.
    """
    try:
        group = zarr.open_group(str(path), mode="r")
        attributes: dict[str, Any] = group.attrs.asdict()
        image = attributes.get("ome", attributes)["multiscales"][0]
        names = [axis["name"] for axis in image["axes"]]
        paths = [dataset["path"] for dataset in image["datasets"]]
    except (BaseZarrError, OSError, KeyError, IndexError, TypeError) as error:
        raise ParameterError(f"{path} is not an OME-NGFF image ({error}); give the group that holds its multiscales") from error
    if not 0 <= level < len(paths):
        raise ParameterError(f"level is {level} but {path} has levels 0 to {len(paths) - 1}")
    array = group[paths[level]]
    if names != ["c", "y", "x"] or not isinstance(array, zarr.Array) or array.shape[0] != 3 or array.dtype != np.uint8:
        shape = getattr(array, "shape", None)
        raise ParameterError(f"{path} has axes {names} and shape {shape} but an RGB image has c, y, x and 3 uint8 channels")
    pixels = np.ascontiguousarray(np.moveaxis(np.asarray(array[...]), 0, -1))
    profile = attributes.get(_ATTRIBUTE, {}).get("icc_profile")
    return Photograph(pixels, base64.b64decode(profile) if profile else None)


def _write(array: zarr.Array[Any], data: npt.NDArray[np.uint8]) -> None:
    """Write all of an array, chunk by chunk; when it fails, nothing more is written afterwards."""
    try:
        array[...] = data
    except Exception:  # of any kind, and raised again: zarr's other chunks go on, and would make a folder anew that is removed
        sync(_settle())
        raise


async def _settle() -> None:
    """Wait for what else runs in zarr's event loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


def _omero(name: str) -> dict[str, Any]:
    """Rendering metadata: red, green and blue, 0 to 255."""
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {
            "label": label,
            "color": colour,
            "active": True,
            "window": dict(window),
            "coefficient": 1,
            "family": "linear",
            "inverted": False,
        }
        for label, colour in zip(("red", "green", "blue"), _COLOURS, strict=True)
    ]
    return {"name": name, "channels": channels, "rdefs": {"model": "color", "defaultT": 0, "defaultZ": 0}}
