"""Images <-> OME-NGFF image groups: multiscale pyramids of arrays with axes among t, c, z, y, x."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import zarr

from .. import weights
from ..errors import ParameterError
from ..images.image import Image
from ..storage import locations
from ..storage.locations import MARK, MEANING
from ..storage.partial import SCRATCH
from . import blocks
from .background import background_of
from .chunk_runner import ChunkRunner
from .compressors import ZARR_FORMATS
from .levels import Level, write_levels
from .metadata import attributes_of, axes_of, dataset_of, omero_of, open_multiscales
from .options import Options
from .pyramid import pyramid
from .versions import translated


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
    with group_to_write(path, options) as (group, scratch):
        sources = (image.pixels, *(image.levels if options.pyramid == "keep" else ()))
        found = list(pyramid(sources, options.chunk_size, scratch, runner, options.resume))
        background = background_of(image, found[-1], options)
        usual = 255 if image.rgb and image.pixels.dtype == np.uint8 else 0  # empty parts of slides are white
        others = {"fill_value": background.fill if background else usual}
        levels = {f"s{i}": Level(level, image.axes, image.rgb, others, background) for i, level in enumerate(found)}
        write_levels(group, levels, options, scratch, runner)
        shown = image.values if isinstance(image.pixels, np.ndarray) else replace(image, pixels=found[-1]).values
        name = name.encode("utf-8", "backslashreplace").decode()  # the bytes of a file's name may be no text
        datasets = [dataset_of(image, key, level.source.shape) for key, level in levels.items()]
        version = format_from_version("0.4" if options.ngff == "0.4" else "0.5")
        metadata = {"omero": omero_of(image, name, shown)}
        write_multiscales_metadata(group, datasets, fmt=version, axes=axes_of(image), name=name, metadata=metadata)
        group.attrs.update(attributes_of(image))
        for title, one in image.associated.items() if options.associated else ():
            group.require_group("associated")
            write_group(path / "associated" / title, one.loaded(), title, options, runner)
        if options.ngff == "0.6":  # ome-zarr writes it only with classes that need Python 3.12
            group.attrs.update(translated(group, options.ngff, path))


@contextmanager
def group_to_write(path: Path, options: Options) -> Iterator[tuple[zarr.Group, Path]]:
    """A group at `path`, which says that it is partial until the end of the with block, and a folder that lasts as long.

    The path must not exist unless `options` resume; then an error leaves what is needed to continue.
    """
    mode: Literal["a", "w-"] = "a" if options.resume else "w-"
    group = zarr.open_group(path, mode=mode, zarr_format=ZARR_FORMATS[options.ngff], attributes={MARK: MEANING})
    if MARK not in group.attrs:
        group.attrs[MARK] = MEANING
    scratch = path / SCRATCH
    complete = False
    try:
        yield group, scratch
        del group.attrs[MARK]
        complete = True
    finally:
        if complete or not options.resume:
            shutil.rmtree(scratch, ignore_errors=True)


def read_group(path: locations.Place, level: int = 0) -> Image:
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
        colours = () if rgb else image.colours(array)
        return Image(pixels, image.axes, rgb, labels, image.sizes(level), image.icc_profile(), colours, image.magnification())
