"""TIFF files <-> images of any dtype and axes, read and written with tifffile: OME-TIFF, ImageJ's, scanners', and plain ones.

They are read by windows, so that a file may be larger than memory.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import ParameterError
from .image import AXES, COLOURS, Image, Windows, check_dtype
from .tiff_metadata import (
    ImageSet,
    imagej_metadata,
    ome_attributes,
    ome_image_set,
    ome_metadata,
    ome_uuid,
    overview_name,
    resolution,
    scanner_metadata,
)
from .tiff_structure import Page, read_pages
from .windows import Opaque, Rearranged

_WHITE = 255
_GREY, _RGB, _YCBCR, _JPEG = 1, 2, 6, (6, 7)  # TIFF's numbers of photometric interpretations and compressions
_ALPHA = (1, 2)  # and of extra samples
_TURNED = range(2, 9)  # and of orientations that are not upright; others than these and 1 mean nothing
_UNNAMED = "IQ"  # tifffile's names for axes that the file leaves unnamed
# How a description begins, and the kinds of series that tifffile makes of pages that are as it says.
_DESCRIPTIONS = {
    "OME-XML": (rb"(\xef\xbb\xbf)?\s*(<\?xml.*?>)?\s*(<!--.*?-->\s*)*<(\w+:)?OME[\s>]", ("ome", "mmstack", "shaped")),
    "ImageJ's metadata": (rb"ImageJ=", ("imagej", "ome", "mmstack", "shaped")),
    "tifffile's metadata": (rb"\{\"shape\"", ("shaped",)),
}
_WITHOUT = {"is_ome": False, "is_imagej": False, "is_shaped": False, "is_mmstack": False}
_ASSOCIATED = ("label", "macro", "map", "thumbnail")  # tifffile's names of their other pictures, in lower case
_WAY_OUT = "convert it to RGB or grey first, or store it with a lossless codec"


@contextmanager
def opened(path: Path, stream: IO[bytes] | None, pages: Sequence[Page]) -> Iterator[Image]:
    """The image in a TIFF file: uint8, uint16, int16, float32 or float64, of any axes among t, c, z, y, x.

    Its pixels, and the smaller levels of a pyramid, are read by windows while the file is open, in the with block. A page that
    is a single compressed strip is read whole.

    Names and colours of channels, sizes of pixels and the magnification come from OME-XML, ImageJ's or a scanner's metadata. An
    axis of pages that the file does not name is z; if there are two such axes, the outer one is time. Metadata that cannot be
    understood are left out, with a warning, unless they say which of several pages is which.

    Parameters
    ----------
    path
        The file.
    stream
        The bytes of the file, if it is not on disk.
    pages
        Its pages, from `tiff_structure.read_pages`; none for a file whose structure only tifffile knows.

    Raises
    ------
    ParameterError
        The file holds several images, other axes, another dtype, transparency (raised where it is read), or colours other than
        RGB and grey (palette, CMYK, white as zero); planes or files that its metadata name are missing, or pages have no place
        in it; or tifffile is not installed. Whatever else tifffile and its decoders raise is raised as it is.
    """
    tifffile = _tifffile(path)
    about = pages[0].description if pages else b""
    said = next((name for name, (begin, _) in _DESCRIPTIONS.items() if re.match(begin, about, re.DOTALL)), None)
    with ExitStack() as stack:
        image = None
        if said is not None:
            try:
                file = stack.enter_context(_opened(tifffile, path, stream))
                series = _described_series(file, path, stream, pages, said)
                image = _described(_image(file, series, path, pages), file, path)
            except _UnfitError as error:
                size = path.stat().st_size if stream is None else stream.seek(0, 2)
                if len(pages) > 1 or size >= 2 * pages[0].nbytes + pages[0].first:  # planes may follow a single page
                    raise ParameterError(
                        f"{path} cannot be read as an image: its {len(pages)} pages are not what its {said} say ({error}), so "
                        "which plane is which is unknown; save it again, or each page in its own file"
                    ) from error
                warnings.warn(f"{path} is read without its {said}, which cannot be understood: {error}", stacklevel=2)
        if image is None:
            file = stack.enter_context(_opened(tifffile, path, stream, **(_WITHOUT if said else {})))
            image = (_scanned if _is_scanners(file) else _plain)(file, path, pages)
        yield image


class _UnfitError(Exception):
    """What a file says of its pages cannot be understood, or is not so."""


def _opened(tifffile: Any, path: Path, stream: IO[bytes] | None, **options: Any) -> Any:
    if stream is not None:
        stream.seek(0)
    return tifffile.TiffFile(stream or path, **options)


def _only(series: Sequence[Any], path: Path) -> Any:
    """The one image of a file."""
    if len(series) != 1:
        raise ParameterError(f"{path} holds {len(series)} images but must hold one; save each in its own file")
    return series[0]


def _described_series(file: Any, path: Path, stream: IO[bytes] | None, pages: Sequence[Page], said: str) -> Any:
    """The image of a file with metadata; _UnfitError if it is not as they say, ParameterError if parts of it are missing."""
    try:
        wanted = ome_image_set(pages[0].description) if said == "OME-XML" else None
    except (ValueError, SyntaxError, LookupError) as error:
        raise _UnfitError(error) from error
    if wanted is not None:
        _require_files(wanted, path, stream)
    try:
        found = list(file.series)
    except Exception as error:  # tifffile does not check metadata, so they make it raise nearly anything
        raise _UnfitError(f"{type(error).__name__}: {error}") from error
    series = _only(found, path)
    if series.kind not in _DESCRIPTIONS[said][1]:
        raise _UnfitError("they do not fit each other")
    return series


def _require_files(wanted: ImageSet, path: Path, stream: IO[bytes] | None) -> None:
    """Raise ParameterError unless all files that an OME-TIFF belongs to are there, and are those that it says."""
    if wanted.master:
        raise ParameterError(f"{path} is a part of an image that {wanted.master} describes; convert the whole image from there")
    missing = [
        name for name in wanted.files if name.lower() != path.name.lower() and (stream or not (path.parent / name).exists())
    ]
    if missing:
        raise ParameterError(
            f"{path} cannot be read as an image: {missing[0]}{' and others' * (len(missing) > 1)}, which it belongs together "
            f"with, {'is' if len(missing) == 1 else 'are'} missing: put all files of the image into one folder"
        )
    for name, uuid in wanted.files.items():  # a file may have been renamed, or replaced by a copy of another
        if name.lower() == path.name.lower():
            found = wanted.uuid
        else:
            pages = _pages_of(path.parent / name)
            found = ome_uuid(pages[0].description) if pages else "no TIFF file"
        if found not in ("", uuid):
            raise ParameterError(
                f"{path} cannot be read as an image: {name}, which it belongs together with, is another file than it says "
                f"({found} instead of {uuid}): restore the files of the image and their names from a copy"
            )


def _is_scanners(file: Any) -> bool:
    """Whether a slide scanner wrote a file: Aperio's, Hamamatsu's, Leica's, Philips' or PerkinElmer's."""
    page = file.pages.first
    return bool(page.is_svs or page.is_ndpi or page.is_scn or page.is_philips or page.is_qpi)


def _plain(file: Any, path: Path, pages: Sequence[Page]) -> Image:
    """The image of a file that says nothing about it; the sizes of pixels are known of those with a pyramid."""
    series = _only(file.series, path)
    image = _image(file, series, path, pages)
    return replace(image, sizes=resolution(series.keyframe)) if image.levels else image


def _scanned(file: Any, path: Path, pages: Sequence[Page]) -> Image:
    """The image of a slide scanner's file, and the pictures that come with it."""
    first = file.pages.first
    overview = overview_name(first.description) if first.is_scn else None  # in such files names say nothing
    titled = [("macro" if series.name == overview else series.name.lower(), series) for series in file.series]
    scan = _only([series for title, series in titled if title not in _ASSOCIATED], path)
    associated = {title: _image(file, series, path, pages) for title, series in titled if title in _ASSOCIATED}
    image = replace(_image(file, scan, path, pages), associated=associated, slide=True)
    try:
        return scanner_metadata(image, file, scan)
    except (SyntaxError, ValueError, LookupError) as error:  # of XML; none of it may cost the pixels
        warnings.warn(f"{path} is read without its metadata, which cannot be understood: {error}", stacklevel=2)
        return image


def _image(file: Any, series: Any, path: Path, pages: Sequence[Page]) -> Image:
    """The image that a series holds, once it is known that all of its pixels are there."""
    page = series.keyframe
    _refuse(page, series.dtype, path)
    _check_planes(file, series, path, pages)
    colour = page.photometric in (_RGB, _YCBCR)
    order, axes = _arrangement(series.shape, series.axes.upper(), path)
    alpha = bool(page.extrasamples) and page.extrasamples[-1] in _ALPHA

    def arranged(number: int, level: Any) -> Windows:
        found: Windows = Rearranged(_values(file, level, number, series), order)
        return Opaque(found, axes.index("c"), path) if alpha else found

    pixels, *levels = (
        arranged(number, level)
        for number, level in enumerate(series.levels)
        if level.axes == series.axes and level.dtype == series.dtype
    )
    profile = page.tags.valueof("InterColorProfile")
    return Image(
        pixels,
        axes,
        rgb=colour and "c" in axes and pixels.shape[axes.index("c")] == COLOURS,
        icc_profile=profile if isinstance(profile, bytes) else None,
        levels=tuple(levels),
    )


def _values(file: Any, level: Any, number: int, series: Any) -> Windows:
    """The values of a level of a series, read from the file as they are asked for."""
    import zarr

    start, own = level.dataoffset, level.keyframe.parent.filehandle is file.filehandle
    if start is not None and own and file.filehandle.is_file:  # zarr would read each of its pages whole
        order = level.keyframe.parent.byteorder
        return np.memmap(file.filehandle.path, level.dtype.newbyteorder(order), "r", start, level.shape)
    bright = _is_scanners(file) and level.dtype == np.uint8 and level.keyframe.photometric in (_RGB, _YCBCR)
    missing = _WHITE if bright else None  # where nothing was scanned, which without colours is 0
    return zarr.open_array(series.aszarr(level=number, fillvalue=missing, read_only=True), mode="r")


def _check_planes(file: Any, series: Any, path: Path, pages: Sequence[Page]) -> None:
    """Raise ParameterError unless a series has all its planes, and no page of its files is left out.

    What is missing tifffile would fill with zeros, and what its metadata do not mention it would leave out.
    """
    try:
        planes = list(series)
    except IndexError:
        planes = [None]
    missing = sum(plane is None for plane in planes)
    if missing:
        raise ParameterError(
            f"{path} cannot be read as an image: {missing} of its {len(planes)} planes, or of its pages, are missing; "
            "restore them from a copy"
        )
    start, size = series.dataoffset, series.size
    if series.kind == "shaped":
        size = int(np.prod(file.shaped_metadata[0]["shape"], dtype=object))
    if _is_scanners(file):  # their other pages are other pictures
        return
    there = series.size if start is not None else len(planes) * series.keyframe.size
    if there != size or (start is not None and start + series.nbytes > file.filehandle.size):
        raise ParameterError(
            f"{path} cannot be read as an image: it is cut off or damaged: its metadata say {size} values but not all are there"
        )
    used: dict[Path, set[int]] = {}
    alike: set[object] = set()
    for level in series.levels:
        for plane in level:
            if plane is not None:
                used.setdefault(Path(plane.parent.filehandle.path), set()).add(plane.offset)
    for name, offsets in used.items():
        own = name == Path(file.filehandle.path)
        others = pages if own else _pages_of(name)
        contiguous = range(start, start + series.nbytes) if own and start is not None else range(0)
        lost = [
            i
            for i, page in enumerate(others)
            if not page.reduced and page.offset not in offsets and page.first not in contiguous
        ]
        if lost:
            raise ParameterError(
                f"{name if others is not pages else path} cannot be read as an image: {len(lost)} of its {len(others)} "
                f"pages are not in the image of {path} (page {lost[0]} is the first); save each image in its own file"
            )
        alike |= {page.layout for page in others if page.offset in offsets and not page.reduced}
        if len(alike) > 1:
            where = "" if own else f" from those in {name}"
            raise ParameterError(
                f"{path} cannot be read as an image: its pages differ{where} in size or kind; save each in its own file"
            )


def _pages_of(path: Path) -> list[Page]:
    """The pages of another file of an image."""
    with path.open("rb") as stream:
        return read_pages(path, stream)


def write(path: Path, image: Image) -> None:
    """Write an image as OME-TIFF, with the names of its channels and the sizes of its pixels.

    Raises ParameterError for a dtype that OME-TIFF does not have, and if tifffile is not installed.
    """
    tifffile = _tifffile(path)
    pixels, axes = image.values, image.axes.upper()
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
        kind = getattr(page.photometric, "name", page.photometric)
        raise ParameterError(f"{path} has colours of kind {kind}, which are neither RGB nor grey; {_WAY_OUT}")
    orientation = page.tags.valueof("Orientation")
    if orientation in _TURNED:
        raise ParameterError(f"{path} is not stored upright (orientation {orientation}); rotate it and save it again")
    check_dtype(dtype, path)


def _arrangement(shape: Sequence[int], names: str, path: Path) -> tuple[list[int], str]:
    """The numbers of an array's axes in OME-NGFF's order, without those of one position, and the names of these axes."""
    wanted = "TZYX" if "S" in names else "TCZYX"
    kept = [i for i, name in enumerate(names) if name in wanted or shape[i] != 1]
    axes = "".join(names[i] for i in kept).replace("S", "C")
    for name in "ZT":
        if name not in axes:
            at = max(axes.rfind(unnamed) for unnamed in _UNNAMED)
            axes = axes[:at] + name + axes[at + 1 :] if at >= 0 else axes
    axes = axes.lower()
    if len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes) <= set(AXES):
        said = ", ".join(names[i] for i in kept)
        raise ParameterError(f"{path} has axes {said} but must have y, x and any of t, c, z; save it with these, as OME-TIFF")
    order = [axes.index(name) for name in AXES if name in axes]
    return [kept[i] for i in order], "".join(axes[i] for i in order)


def _described(image: Image, file: Any, path: Path) -> Image:
    """The image with what the file says of sizes and channels; without, and with a warning, if that cannot be understood."""
    try:
        if file.is_ome:
            return ome_metadata(image, file.ome_metadata)
        if file.is_imagej:
            tags = file.pages[0].tags
            resolutions = {axis: tags.valueof(f"{axis.upper()}Resolution") for axis in "xy"}
            return imagej_metadata(image, file.imagej_metadata or {}, resolutions)
    except Exception as error:  # metadata may be anything, and none of it may cost the pixels
        warnings.warn(f"{path} is read without its metadata, which cannot be understood: {error}", stacklevel=2)
    return image
