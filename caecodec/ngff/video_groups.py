"""Videos <-> groups of three arrays y, u and v (frames, rows, columns), and an attribute that says what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from ..errors import ParameterError
from ..storage import locations
from .chunk_runner import ChunkRunner
from .groups import new_group
from .levels import Level, write_levels
from .options import DEPTHS, Options
from .video import NAMES, Video, half

ATTRIBUTE = "caecodec_video"


def write_video_group(path: Path, video: Video, options: Options, runner: ChunkRunner | None = None) -> None:
    """Write a video as a group; `path` as of `write_group`, and so are the errors."""
    if options.codec == "jpeg2k" and video.depth > 8:
        raise ParameterError(f"codec 'jpeg2k' measures its error by 16 bits but the video has {video.depth}; take another")
    group = new_group(path, options)
    width, height = video.size
    group.attrs[ATTRIBUTE] = {
        "colours": "YUV 4:2:0", "depth": video.depth, "width": width, "height": height, "y4m": video.header,
    }  # fmt: skip
    levels = {name: Level(plane, "tyx", rgb=False) for name, plane in zip(NAMES, video.planes, strict=True)}
    write_levels(group, levels, options, runner)


def is_video_group(path: locations.Location) -> bool:
    """Whether `write_video_group` wrote what is at a path."""
    try:
        return ATTRIBUTE in locations.open_group(path).attrs
    except ParameterError:
        return False


def read_video_group(path: locations.Location) -> Video:
    """The video in a group, whose planes are read as they are used; ParameterError where there is none, or it is damaged."""
    try:
        group = locations.open_group(path)
        said: Any = group.attrs[ATTRIBUTE]
        depth, header = said["depth"], said["y4m"]
        y, u, v = (group[name] for name in NAMES)
    except (BaseZarrError, OSError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            f"{path} is not a group of a video's planes ({error}); give one that caecodec encode made"
        ) from error
    if not (isinstance(y, zarr.Array) and isinstance(u, zarr.Array) and isinstance(v, zarr.Array)):
        raise ParameterError(f"{path} has groups where a video's planes should be: it is damaged")
    dtype = np.dtype("u1" if depth == 8 else "u2")
    expected = [y.shape, *[(*y.shape[:1], *half(*y.shape[1:]))] * 2] if y.ndim == 3 else []
    if depth not in DEPTHS or expected != [one.shape for one in (y, u, v)] or {one.dtype for one in (y, u, v)} != {dtype}:
        raise ParameterError(
            f"{path} has planes of shape {y.shape}, {u.shape}, {v.shape} and dtype {y.dtype}, which are none of a video of "
            f"{depth} bits in YUV 4:2:0: it is damaged"
        )
    return Video((y, u, v), depth, " ".join(str(header).split()))
