"""Videos <-> groups of three arrays y, u and v (frames, rows, columns), and an attribute that describes them."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from ..errors import ParameterError
from ..storage import locations
from .chunk_runner import ChunkRunner
from .groups import group_to_write
from .levels import Level, write_levels
from .options import DEPTHS, Options
from .video import NAMES, Video, half

ATTRIBUTE = "caecodec_video"


def write_video_group(path: Path, video: Video, options: Options, runner: ChunkRunner | None = None) -> None:
    """Write a video as a group; `path` and errors are as in `write_group`."""
    if options.codec == "jpeg2k" and video.depth > 8:
        raise ParameterError(f"codec 'jpeg2k' scales its error to 16 bits but the video has {video.depth}; choose another")
    width, height = video.size
    with group_to_write(path, options) as (group, scratch):
        group.attrs[ATTRIBUTE] = {
            "colours": "YUV 4:2:0", "depth": video.depth, "width": width, "height": height, "y4m": video.header,
        }  # fmt: skip
        levels = {name: Level(plane, "tyx", rgb=False) for name, plane in zip(NAMES, video.planes, strict=True)}
        write_levels(group, levels, options, scratch, runner)


def is_video_group(path: locations.Place) -> bool:
    """Whether there is a group at this location that `write_video_group` wrote."""
    try:
        return ATTRIBUTE in locations.open_group(path).attrs
    except ParameterError:
        return False


def read_video_group(path: locations.Place) -> Video:
    """The video in a group, whose planes are read as they are used; ParameterError if there is none, or if it is damaged."""
    try:
        group = locations.open_group(path)
        said: Any = group.attrs[ATTRIBUTE]
        depth, header = said["depth"], said["y4m"]
        y, u, v = (group[name] for name in NAMES)
    except (BaseZarrError, OSError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            f"{path} is not a group of a video's planes ({error}); name one that caecodec encode made"
        ) from error
    if not (isinstance(y, zarr.Array) and isinstance(u, zarr.Array) and isinstance(v, zarr.Array)):
        raise ParameterError(f"{path} has groups in place of a video's planes: it is damaged")
    dtype = np.dtype("u1" if depth == 8 else "u2")
    expected = [y.shape, *[(*y.shape[:1], *half(*y.shape[1:]))] * 2] if y.ndim == 3 else []
    if depth not in DEPTHS or expected != [one.shape for one in (y, u, v)] or {one.dtype for one in (y, u, v)} != {dtype}:
        raise ParameterError(
            f"{path} has planes of shape {y.shape}, {u.shape}, {v.shape} and dtype {y.dtype}, which are not those of a video "
            f"of {depth} bits in YUV 4:2:0: it is damaged"
        )
    return Video((y, u, v), depth, " ".join(str(header).split()))
