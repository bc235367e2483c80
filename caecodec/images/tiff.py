"""TIFF files <-> images of any dtype and axes, read and written with tifffile: OME-TIFF, ImageJ's, and plain ones."""

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError
from .image import AXES, COLOURS, Image, check_dtype
from .tiff_metadata import imagej_metadata, ome_attributes, ome_metadata

_GREY, _RGB, _YCBCR, _JPEG = 1, 2, 6, (6, 7)  # TIFF's numbers of photometric interpretations and compressions
_ALPHA = (1, 2)  # and of extra samples
_UNNAMED = "IQ"  # tifffile's names for axes that the file leaves unnamed
_UNREADABLE = (  # what tifffile, imagecodecs and the parser of OME-XML raise
    OSError, RuntimeError, ValueError, LookupError, TypeError, SyntaxError, struct.error, zlib.error,
)  # fmt: skip
_LOSSES = ("missing", "corrupted file", "expected", "out of range")  # in those of tifffile's warnings that mean lost pixels
_WAY_OUT = "convert it to RGB or grey first, or store it with a lossless codec"


def read(path: Path, stream: IO[bytes] | None = None) -> Image:
    """The image in a TIFF file: uint8, uint16, int16, float32 or float64, of any axes among t, c, z, y, x.

    Names of channels and sizes of pixels come from OME-XML or ImageJ's metadata. An axis of pages that the file does not
    name is z; if there are two such axes, the outer one is time.

    Parameters
    ----------
    path
        The file.
    stream
        The bytes of the file, if it is not on disk.

    Raises
    ------
    ParameterError
        The file cannot be read, or holds several images, other axes, another dtype, transparency, or colours other than RGB and
        grey (palette, CMYK, white as zero); or tifffile is not installed.
    """
    tifffile = _tifffile(path)
    if stream is not None:
        stream.seek(0)
    try:
        with _complete(path), tifffile.TiffFile(stream or path) as file:
            if len(file.series) != 1:
                raise ParameterError(f"{path} holds {len(file.series)} images but must hold one; save each in its own file")
            series = file.series[0]
            page = series.keyframe
            _refuse(page, series.dtype, path)
            colour = page.photometric in (_RGB, _YCBCR)
            pixels, axes = _arranged(series.asarray(), series.axes.upper(), path)
            if page.extrasamples and page.extrasamples[-1] in _ALPHA:
                pixels = _opaque(pixels, axes, path)
            profile = page.tags.get("InterColorProfile")
            image = Image(
                pixels.astype(pixels.dtype.newbyteorder("="), copy=False),
                axes,
                rgb=colour and "c" in axes and pixels.shape[axes.index("c")] == COLOURS,
                icc_profile=profile.value if profile else None,
            )
            return _described(image, file)
    except ParameterError:
        raise
    except (*_UNREADABLE, tifffile.TiffFileError) as error:
        raise ParameterError(f"{path} cannot be read as an image: {error}") from error


def write(path: Path, image: Image) -> None:
    """Write an image as OME-TIFF, with the names of its channels and the sizes of its pixels.

    Raises ParameterError for a dtype that OME-TIFF does not have, and if tifffile is not installed.
    """
    tifffile = _tifffile(path)
    pixels, axes = image.pixels, image.axes.upper()
    if image.rgb:
        pixels, axes = np.moveaxis(pixels, axes.index("C"), -1), axes.replace("C", "") + "S"
    try:
        tifffile.imwrite(
            path,
            np.ascontiguousarray(pixels),
            ome=True,
            photometric="rgb" if image.rgb else "minisblack",
            metadata={"axes": axes, **ome_attributes(image)},
            iccprofile=image.icc_profile,
        )
    except tifffile.OmeXmlError as error:
        raise ParameterError(f"{image} cannot be written as OME-TIFF: {error}; read the group with zarr instead") from error


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Raise ParameterError if tifffile cannot read all pixels: it only logs that, and zeroes or drops the missing ones."""
    said: list[str] = []

    class Losses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.ERROR or any(loss in message for loss in _LOSSES):
                said.append(message)

    handler, logger = Losses(logging.WARNING), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if said:
        raise ParameterError(
            f"{path} cannot be read as an image: it is cut off or damaged, or files that belong to it are missing: {said[0]}"
        )


def _tifffile(path: Path) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ParameterError(
            f"{path.name} needs tifffile, like all TIFF files except 8-bit photographs: pip install 'caecodec[ngff]'"
        ) from error
    return tifffile


def _refuse(page: Any, dtype: np.dtype[Any], path: Path) -> None:
    """Raise ParameterError for pixels whose values do not mean what they would be taken for."""
    if dtype.kind == "b":
        raise ParameterError(f"{path} is a one-bit mask, which a lossy codec would alter; store it with a lossless codec")
    if page.photometric not in (_GREY, _RGB) and not (page.photometric == _YCBCR and page.compression in _JPEG):
        raise ParameterError(f"{path} has colours of kind {page.photometric.name}, which are neither RGB nor grey; {_WAY_OUT}")
    orientation = page.tags.get("Orientation")
    if orientation and orientation.value not in (0, 1):
        raise ParameterError(f"{path} is not stored upright (orientation {orientation.value}); rotate it and save it again")
    check_dtype(dtype, path)


def _arranged(pixels: npt.NDArray[Any], names: str, path: Path) -> tuple[npt.NDArray[Any], str]:
    """The pixels with their axes in OME-NGFF's order, and the names of these axes."""
    kept = "TZYX" if "S" in names else "TCZYX"
    drop = tuple(i for i, name in enumerate(names) if name not in kept and pixels.shape[i] == 1)
    pixels, names = pixels.squeeze(drop), "".join(name for i, name in enumerate(names) if i not in drop)
    axes = names.replace("S", "C")
    for name in "ZT":
        if name not in axes:
            at = max(axes.rfind(unnamed) for unnamed in _UNNAMED)
            axes = axes[:at] + name + axes[at + 1 :] if at >= 0 else axes
    axes = axes.lower()
    if len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes) <= set(AXES):
        raise ParameterError(
            f"{path} has axes {', '.join(names)} but must have y, x and any of t, c, z; save it with these, as OME-TIFF"
        )
    order = [axes.index(name) for name in AXES if name in axes]
    return pixels.transpose(order), "".join(axes[i] for i in order)


def _opaque(pixels: npt.NDArray[Any], axes: str, path: Path) -> npt.NDArray[Any]:
    """The pixels without their last channel, which is alpha; ParameterError if not all of it is opaque."""
    channel = axes.index("c")
    opaque = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    if (pixels.take(-1, axis=channel) != opaque).any():
        raise ParameterError(
            f"{path} has transparency (a channel marked as alpha), which RGB cannot hold; remove it, or, if it is an ordinary "
            "channel, save the file with photometric interpretation 'black is zero'"
        )
    return pixels[(slice(None),) * channel + (slice(0, -1),)]


def _described(image: Image, file: Any) -> Image:
    """The image with the metadata of the file."""
    if file.is_ome:
        return ome_metadata(image, file.ome_metadata)
    if file.is_imagej:
        tags = file.pages[0].tags
        resolutions = {axis: tags[f"{axis.upper()}Resolution"].value for axis in "xy" if f"{axis.upper()}Resolution" in tags}
        return imagej_metadata(image, file.imagej_metadata or {}, resolutions)
    return image
