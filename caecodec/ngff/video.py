"""Planar YUV 4:2:0 files of 8 or 10 bits, raw (.yuv) and YUV4MPEG2 (.y4m) <-> planes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError
from ..images.image import Windows
from ..storage.partial import complete_file
from .blocks import read

SUFFIXES = (".yuv", ".y4m")
NAMES = ("y", "u", "v")
_MAGIC, _FRAME = b"YUV4MPEG2 ", b"FRAME\n"
_LONGEST = 1024  # bytes of the header line of a .y4m file
_COLOURS = {"420": 8, "420jpeg": 8, "420mpeg2": 8, "420paldv": 8, "420p10": 10}
# In file names, in lower case.
_SIZE = re.compile(r"(?<![0-9a-z])(\d{1,5})x(\d{1,5})(?![0-9a-z])")
_DEPTH = re.compile(r"(?<![0-9a-z])(\d{1,2})(?:b|[-_ ]?bits?|[-_ ]?bpp)(?![0-9a-z])|420p(\d\d)(?:le)?(?![0-9a-z])")
_OTHERS = re.compile(r"(?<![0-9a-z])(?:yuv)?4(?:22|44|00)p?(?![0-9a-z])|p010|nv12|nv21|yv12|uyvy|yuyv|p\d\dbe")

_Planes = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Video:
    """The planes of frames, each in its own resolution.

    planes : y, u, v of shape (frames, rows, columns), uint8, or uint16 for 10 bits (0 to 1023); u and v have half the rows and
        columns of y, rounded up
    depth : 8 or 10 bits
    header : what a .y4m file says besides the size, such as "F25:1 Ip A1:1 C420jpeg"; "" for other sources
    """

    planes: tuple[Windows, Windows, Windows]
    depth: int
    header: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.planes[0].shape[2], self.planes[0].shape[1]


class _Format(NamedTuple):
    """The layout of frames in a file."""

    width: int
    height: int
    depth: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of y, u and v."""
        return [(self.height, self.width), *[half(self.height, self.width)] * 2]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("u1" if self.depth == 8 else "<u2")

    @property
    def frame_bytes(self) -> int:
        return sum(rows * columns for rows, columns in self.shapes) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.width}x{self.height} of {self.depth} bits"


def read_video(path: Path, size: tuple[int, int] | None = None, depth: int | None = None) -> Video:
    """The planes in a .yuv or .y4m file, which is memory-mapped and read as the planes are used.

    Parameters
    ----------
    path
        The file.
    size, depth
        Width and height, and bits, of raw .yuv files; None: taken from a name such as name_1920x1080_25_10bit.yuv (8 bits if
        it does not say). 10 bits are stored as little-endian 16-bit words with values up to 1023.

    Raises
    ------
    ParameterError
        The name does not give size and depth, or contradicts them; the file does not hold whole frames, or not 4:2:0.
    """
    if path.suffix.lower() == ".y4m":
        return _read_y4m(path)
    form = _said(path, size, depth)
    length = path.stat().st_size
    if not length or length % form.frame_bytes:
        raise ParameterError(
            f"{path} has {length} bytes, which are no whole number of frames of {form} ({form.frame_bytes} bytes each); pass "
            "the right size and depth (--size WIDTHxHEIGHT --depth 8|10)"
        )
    planes = _planes(np.memmap(path, np.uint8, "r").reshape(-1, form.frame_bytes), form)
    if depth is None and form.depth == 8 and planes[0][0].reshape(-1)[1::2].max(initial=0) <= 3:
        raise ParameterError(f"{path} seems to have 10 bits, but its name does not say so; pass the depth (--depth 8|10)")
    _check_values(path, planes, form)
    return Video(planes, form.depth)


def write_video(path: Path, video: Video) -> None:
    """Write a .yuv or .y4m file, frame by frame; a failure leaves nothing behind. Raises what reading the planes raises."""
    width, height = video.size
    form = _Format(width, height, video.depth)
    said = video.header or ("F0:0 C420p10" if video.depth == 10 else "F0:0 C420")  # 0:0 means that the frame rate is unknown
    y4m = path.suffix.lower() == ".y4m"
    with complete_file(path) as partial, partial.open("wb") as file:
        if y4m:
            file.write(_MAGIC + f"W{width} H{height} {said}\n".encode())
        for i in range(video.planes[0].shape[0]):
            if y4m:
                file.write(_FRAME)
            for plane in video.planes:
                values = read(plane, (slice(i, i + 1), slice(None), slice(None)))
                if values.max() >= 2**video.depth:
                    raise ParameterError(
                        f"frame {i} has a value of {values.max()}, which is more than {video.depth} bits; the group is "
                        "damaged or was written with such values: clip its arrays, or decode another copy"
                    )
                file.write(values.astype(form.dtype).tobytes())


def half(rows: int, columns: int) -> tuple[int, int]:
    """The rows and columns of u and v, given those of y."""
    return (rows + 1) // 2, (columns + 1) // 2


def _read_y4m(path: Path) -> Video:
    with path.open("rb") as file:
        line = file.readline(_LONGEST)
    words = line.decode("ascii", "replace").split()
    said = {word[0]: word[1:] for word in reversed(words[1:])}  # the first of each kind
    if (
        not line.startswith(_MAGIC)
        or not line.endswith(b"\n")
        or not said.get("W", "").isdigit()
        or not said.get("H", "").isdigit()
    ):
        raise ParameterError(f"{path} begins with {line[:40]!r}, which is not the header of a .y4m file with its size")
    colours = said.get("C", "420")
    if colours not in _COLOURS:
        raise ParameterError(f"{path} has colours {colours!r} but must have one of {', '.join(_COLOURS)}; convert it")
    form = _Format(int(said["W"]), int(said["H"]), _COLOURS[colours])
    length, whole = path.stat().st_size - len(line), len(_FRAME) + form.frame_bytes
    if min(form.width, form.height, length) < 1 or length % whole:
        raise ParameterError(f"{path} has {length} bytes of frames, no whole number of frames of {form} ({whole} bytes each)")
    frames = np.memmap(path, np.uint8, "r", len(line)).reshape(-1, whole)
    if (frames[:, : len(_FRAME)] != np.frombuffer(_FRAME, np.uint8)).any():
        raise ParameterError(f"{path} has frames with parameters of their own, or is damaged; rewrite it with ffmpeg")
    header = " ".join(word for word in words[1:] if word[0] not in "WH")
    planes = _planes(frames[:, len(_FRAME) :], form)
    _check_values(path, planes, form)
    return Video(planes, form.depth, header)


def _said(path: Path, size: tuple[int, int] | None, depth: int | None) -> _Format:
    """The layout of frames in a raw file, by what is given or else by its name."""
    name, way_out = path.stem.lower(), "pass size and depth (--size WIDTHxHEIGHT --depth 8|10)"
    other = _OTHERS.search(name)
    if other and (size is None or depth is None):
        raise ParameterError(
            f"{path} seems to hold {other[0]} but must hold planar 4:2:0; convert it, or if it already is 4:2:0, {way_out}"
        )
    if size is None:
        sizes = {(int(width), int(height)) for width, height in _SIZE.findall(name)}
        if len(sizes) != 1 or not all(map(all, sizes)):
            raise ParameterError(
                f"{path} has {len(sizes) or 'no'} sizes in its name, such as 1920x1080, but must have one; {way_out}"
            )
        size = sizes.pop()
    if depth is None:
        depths = {int(one or other) for one, other in _DEPTH.findall(name)} or {8}
        if len(depths) != 1 or not depths <= {8, 10}:
            raise ParameterError(
                f"{path} has depth {' and '.join(map(str, depths))} in its name but must have 8 or 10; {way_out}"
            )
        depth = depths.pop()
    return _Format(*size, depth)


def _planes(frames: npt.NDArray[np.uint8], form: _Format) -> _Planes:
    """Views of y, u and v in frames (frames, bytes)."""
    found, start = [], 0
    for rows, columns in form.shapes:
        end = start + rows * columns * form.dtype.itemsize
        found.append(frames[:, start:end].view(form.dtype).reshape(-1, rows, columns))
        start = end
    y, u, v = found
    return y, u, v


def _check_values(path: Path, planes: _Planes, form: _Format) -> None:
    """Raise ParameterError if values exceed 10 bits."""
    if form.depth == 8:
        return
    for name, plane in zip(NAMES, planes, strict=True):
        for i, frame in enumerate(plane):
            if frame.max() > 1023:
                raise ParameterError(
                    f"{path} has a value of {frame.max()} in plane {name} of frame {i} but 10 bits reach to 1023; its size or "
                    "depth is wrong, or its words are not little-endian with the value in the low bits"
                )
