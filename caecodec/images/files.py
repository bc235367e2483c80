"""Image files <-> images, without loss: an image that would lose something on the way is refused, not converted.

This is the one reader of conversion, evaluation and training: EXIF orientation, alpha, palettes and depth are judged here.
"""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from .. import settings
from ..errors import ParameterError
from ..storage.locations import refuse_special
from ..storage.partial import complete_file
from ..storage.settling import settle
from . import content, slides, tiff, tiff_structure
from .image import Image, Windows, from_picture
from .stripped import without_metadata

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
SLIDE_SUFFIXES = (*slides.TIFF_SUFFIXES, *slides.SUFFIXES)
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", *slides.TIFF_SUFFIXES)
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_DEEP_SUFFIXES = (".png",)  # formats that hold 16-bit grey
_PHOTOGRAPHS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")  # Pillow's modes of at most 8 bits a channel
_EIGHT_BIT = ("L", "LA", "P", "PA", "RGB", "RGBA")  # of these, the modes that become RGB or grey without loss
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_TRANSPOSITIONS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_WAY_OUT = "convert it to 8-bit RGB or grey first, or store it with a lossless codec"
_PILLOW = threading.Lock()  # holds while Pillow's limit, a global of the process, is another
_ON_A_PAR = "Multi-Frame Image"  # the kinds of pictures in a JPEG of several that show a scene from several places
_DESCRIPTION, _BITS, _SAMPLES, _FORMAT, _PHOTOMETRIC, _ORIENTATION = 270, 258, 277, 339, 262, 274  # TIFF tags
_SIGNED, _MP_ENTRIES = 2, 0xB002  # a format of samples, and a tag of JPEG files of several pictures
_PLAIN = (1, 2, 6)  # photometric interpretations of grey and RGB, also as YCbCr
_LARGE = 2**26  # pixels
_NO_PIXEL = 128  # the grey that decoders of JPEG put where pixels are missing
_T = TypeVar("_T")


def read_image(path: Path, stream: IO[bytes] | None = None) -> Image:
    """The image in a file, turned upright as its EXIF orientation says.

    It reads RGB, grey (8 bits, or 16 in PNG and TIFF), and what `tiff.read` reads. Palettes and opaque alpha become RGB, which
    loses nothing. Of a phone's JPEG it reads the photograph, not the previews, gain maps and depth maps that come with it.

    Parameters
    ----------
    path
        The file; its suffix tells which kind of slide it is, if it is one.
    stream
        The bytes of the file, if it is not on disk; messages still call it `path`.

    Raises
    ------
    ParameterError
        The file holds no image that can be read, or one that the codec cannot hold (transparency, CMYK, masks of one bit,
        16-bit RGB in other files than TIFF, several frames), or more pixels than `settings.max_pixels`; the message names it.
    """
    with open_image(path, stream) as image:
        return image.loaded()


@contextmanager
def open_image(path: Path, stream: IO[bytes] | None = None) -> Iterator[Image]:
    """The image in a file, as `read_image`; those of TIFF files and slides are read by windows, in the with block.

    Besides, it reads slides (SLIDE_SUFFIXES, and DICOM's by one of their files), their levels and associated pictures, and what
    `tiff.opened` gives of others.
    """
    with ExitStack() as stack:
        with _errors(path):
            if stream is None:
                refuse_special(path)
            image = stack.enter_context(_opened(path, stream))
        yield _guarded(image, path)


@contextmanager
def _opened(path: Path, stream: IO[bytes] | None) -> Iterator[Image]:
    """`open_image`, which raises whatever the libraries do."""
    suffix = path.suffix.lower()
    if suffix in slides.UNREAD:
        raise ParameterError(
            f"{path} is {slides.UNREAD[suffix]}, which is not read: write it as OME-Zarr first (bioformats2raw {path.name} "
            f"{path.stem}.zarr), and convert the images in it ({path.stem}.zarr/0)"
        )
    if suffix in (*slides.SUFFIXES, slides.DICOM):
        reader: Any = slides.opened(path)
    elif suffix == slides.NDPI:  # with a structure of its own
        reader = tiff.opened(path, stream, ())
    elif not (pages := _pages_for_tifffile(path, stream)):
        yield _with_pillow(path, stream, _read)
        return
    else:
        reader = slides.opened(path) if slides.needs_openslide(pages) else tiff.opened(path, stream, pages)
    with reader as image:
        yield image


class _Guarded:
    """Pixels in a file, which raise ParameterError with the file's name for whatever the libraries below raise.

    Another process that unpickles them opens the file.

    Parameters
    ----------
    source
        The pixels.
    path
        The file.
    level
        Of which level of its pyramid they are.
    """

    def __init__(self, source: Windows, path: Path, level: int) -> None:
        self._source, self._path, self._level = source, path, level
        self.file: ExitStack | None = None  # what keeps it open, if nothing else does
        self.shape, self.dtype = source.shape, source.dtype
        if chunks := getattr(source, "chunks", None):
            self.chunks = chunks

    def __reduce__(self) -> tuple[Callable[[Path, int], Windows], tuple[Path, int]]:
        return _reopened, (self._path.absolute(), self._level)

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        from zarr.core.sync import sync

        try:
            with _errors(self._path):
                return np.asarray(self._source[region])
        # tifffile's store reads windows by zarr, which reads the other chunks on after any error: they must end before the file
        # is closed. The error is raised again as it is.
        except Exception:
            sync(settle())
            raise


def _guarded(image: Image, path: Path) -> Image:
    """The image, whose pixels, if they are not yet read, raise ParameterError."""
    if isinstance(image.pixels, np.ndarray):
        return image
    return replace(
        image,
        pixels=_Guarded(image.pixels, path, 0),
        levels=tuple(_Guarded(level, path, number) for number, level in enumerate(image.levels, 1)),
        associated={name: _guarded(one, path) for name, one in image.associated.items()},
    )


def _reopened(path: Path, level: int) -> Windows:
    """The pixels of a level of a file, which stays open as long as they are used."""
    stack = ExitStack()
    image = stack.enter_context(open_image(path))
    pixels = (image.pixels, *image.levels)[level]
    assert isinstance(pixels, _Guarded)
    pixels.file = stack
    return pixels


def read_rgb(path: Path, stream: IO[bytes] | None = None) -> npt.NDArray[np.uint8]:
    """The image in a file as 8-bit RGB (height, width, 3), grey ones with three equal channels.

    Raises ParameterError as `read_image` does, and for other images (more than 8 bits, or channels other than RGB).
    """
    return as_rgb(read_image(path, stream), path)


def as_rgb(image: Image, path: Path) -> npt.NDArray[np.uint8]:
    """The image of a file as `read_rgb` returns it."""
    picture = image.picture()
    if picture is None or picture.dtype != np.uint8:
        raise ParameterError(f"{path} holds {image}, but only 8-bit RGB and grey images can be used here; {_WAY_OUT}")
    return picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1)


def read_size(path: Path, stream: IO[bytes] | None = None) -> tuple[int, int]:
    """Height and width of the image that `read_rgb` returns.

    They come from the file's header, unless only the pixels tell whether `read_rgb` takes the image (one with an alpha channel,
    or one that tifffile reads). An orientation that a PNG file states after its pixels goes unnoticed.

    Raises ParameterError as `read_rgb` does, except for damaged pixels, which go unnoticed.
    """
    with _errors(path):
        if stream is None:
            refuse_special(path)
        known = None if _pages_for_tifffile(path, stream) else _with_pillow(path, stream, _size)
    if known is not None:
        return known
    height, width, _ = read_rgb(path, stream).shape
    return height, width


def writable(path: Path) -> bool:
    """Whether image files of this suffix can be written; others that Pillow writes, such as GIF, would lose colours."""
    return path.suffix.lower() in SUFFIXES


def write_image(path: Path, image: Image) -> None:
    """Write an image file in the format of its suffix; lossy formats at quality 95. A failure leaves nothing behind.

    All formats hold 8-bit RGB and grey, PNG also holds 16-bit grey, and TIFF holds everything: it is written as OME-TIFF if the
    image is more than 8-bit RGB or grey, or if the sizes of its pixels or the names of its channels are known.

    Raises ParameterError for a suffix that cannot be written, for an image that such a file cannot hold, or without pixels, and
    if the disk is full.
    """
    if not writable(path):
        raise ParameterError(f"{path} has a suffix that cannot be written; use one of {', '.join(SUFFIXES)}")
    if 0 in image.pixels.shape:
        raise ParameterError(f"{path} cannot hold {image}, which has no pixels; read the group with zarr instead")
    suffix = path.suffix.lower()
    picture = image.picture()
    photograph = picture is not None and picture.dtype == np.uint8
    if suffix in TIFF_SUFFIXES and not (photograph and not image.sizes and not image.labels):
        with complete_file(path) as partial, _written(path):
            tiff.write(partial, image)
        return
    deep = suffix in _DEEP_SUFFIXES and picture is not None and picture.ndim == 2 and picture.dtype == np.uint16
    if picture is None or not (photograph or deep):
        raise ParameterError(f"{path} cannot hold {image}, only 8-bit RGB and grey; write TIFF instead (--format tiff)")
    options: dict[str, Any] = {"quality": 95} if suffix in _LOSSY_SUFFIXES else {}
    if image.icc_profile:
        options["icc_profile"] = image.icc_profile
    with complete_file(path) as partial, _written(path):
        kind = PillowImage.registered_extensions()[suffix]
        PillowImage.fromarray(picture).save(partial, format=kind, **options)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raise ParameterError, which names the file, if it cannot be written; numpy says of a full disk only how much it wrote."""
    try:
        yield
    except OSError as error:
        why = error if error.errno else f"only a part of it was ({error}); is the disk full?"
        raise ParameterError(f"{path} cannot be written: {why}") from error


def _start(path: Path, stream: IO[bytes] | None) -> Path | IO[bytes]:
    """The path, or the stream rewound to its start."""
    if stream is None:
        return path
    stream.seek(0)
    return stream


def _bytes(stream: IO[bytes]) -> bytes:
    """All bytes of a stream."""
    stream.seek(0)
    return stream.read()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raise ParameterError, which names the file, for whatever Pillow, tifffile or their decoders raise."""
    try:
        yield
    except (ParameterError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ParameterError(
            f"{path} cannot be read as an image: Pillow does not know its format; save it as PNG or TIFF with a "
            "program that does"
        ) from error
    except PillowImage.DecompressionBombError as error:
        raise ParameterError(
            f"{path} has more than {settings.current().max_pixels:,} pixels, the limit against files that are made to fill the "
            "memory; if you trust it, raise the limit (--max-pixels, or CAECODEC_MAX_PIXELS), or save the image as TIFF"
        ) from error
    except Exception as error:  # damaged files make these libraries raise nearly anything
        raise ParameterError(f"{path} cannot be read as an image: {error or type(error).__name__}") from error


def _with_pillow(path: Path, stream: IO[bytes] | None, use: Callable[[PillowImage.Image, Path], _T]) -> _T:
    """What `use` makes of the image that Pillow opens, without the file's metadata if Pillow fails with them."""

    def opened(source: Path | IO[bytes]) -> _T:
        """What `use` makes of it; ParameterError for an image that Pillow would change without a word."""
        with _open(source) as image:
            _refuse(image, path)
            if image.format in content.ALTERED and content.altered(image.format, image.mode, data()):
                raise ParameterError(
                    f"{path} has other than 8 bits in a sample, of which Pillow reads 8; save it as TIFF, which is read in full"
                )
            found = use(image, path)
            if isinstance(found, Image) and _lacks_pixels(image, data):
                raise ParameterError(
                    f"{path} cannot be read as an image: its pixels end before its last row; restore it from a copy"
                )
            return found

    def data() -> bytes:
        return path.read_bytes() if stream is None else _bytes(stream)

    try:
        return opened(_start(path, stream))
    except (ParameterError, MemoryError, PillowImage.DecompressionBombError):
        raise
    # Damaged metadata make Pillow raise nearly anything; the error is raised again unless the file is read without them.
    except Exception as error:
        stripped = without_metadata(data())
        if stripped is None:
            raise
        found = opened(io.BytesIO(stripped))
        warnings.warn(f"{path} is read without its metadata, which Pillow cannot read: {error}", stacklevel=2)
        return found


def _open(source: Path | IO[bytes]) -> PillowImage.Image:
    """The file as Pillow opens it; DecompressionBombError for more pixels than the settings allow."""
    with _PILLOW:
        before, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            image = PillowImage.open(source)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = before
    if image.width * image.height > settings.current().max_pixels:
        image.close()
        raise PillowImage.DecompressionBombError
    return image


def _lacks_pixels(image: PillowImage.Image, data: Callable[[], bytes]) -> bool:
    """Whether pixels of a PNG or JPEG file are missing, though its end is there: Pillow leaves them black or grey.

    Only of images that end like this the data are looked at. Of progressive JPEG files it is not known.
    """
    width, height = image.size
    if image.format == "PNG":  # of interlaced ones every other row may be missing
        rows = [image.crop((0, row, width, row + 1)).tobytes() for row in range(max(0, height - 2), height)]
        return any(not row.strip(b"\0") for row in rows) and content.lacks_rows(data())
    if image.format not in ("JPEG", "MPO") or np.any(np.array(image.getpixel((width - 1, height - 1))) != _NO_PIXEL):
        return False
    with _open(io.BytesIO(content.prolonged(data()))) as other:
        return other.tobytes() != image.tobytes()


def _read(image: PillowImage.Image, path: Path) -> Image:
    """The image, upright."""
    image.load()  # before its orientation is read, which a PNG file may state after the pixels
    method = _TRANSPOSITIONS.get(_orientation(image, path))
    upright = image if method is None else image.transpose(method)
    profile = image.info.get("icc_profile")
    return from_picture(np.asarray(_plain(upright, path)), profile if isinstance(profile, bytes) else None)


def _size(image: PillowImage.Image, path: Path) -> tuple[int, int] | None:
    """Height and width of the upright image; None if only its pixels tell them, or whether it can be used."""
    searched = image.format != "PNG" or "exif" in image.info  # after its pixels a PNG file is not searched
    orientation = _orientation(image, path) if searched else 1
    # Whether Pillow already swaps the sides of a turned TIFF when it opens it depends on its version.
    known = image.mode in _EIGHT_BIT and not _has_alpha(image) and not (image.format == "TIFF" and orientation > 1)
    if not known:
        return None
    return (image.width, image.height) if orientation in _TURNED else (image.height, image.width)


def _pages_for_tifffile(path: Path, stream: IO[bytes] | None) -> list[tiff_structure.Page]:
    """The pages of a TIFF file that tifffile must read; none for other files, and for photographs, which Pillow reads.

    Raises ParameterError for a TIFF file that is not whole.
    """
    sparse = path.suffix.lower() in SLIDE_SUFFIXES
    if stream is None:
        with path.open("rb") as file:
            pages = tiff_structure.read_pages(path, file, sparse)
    else:
        pages = tiff_structure.read_pages(path, stream, sparse)
    return [] if not sparse and _is_photograph(path, stream) else pages


def _is_photograph(path: Path, stream: IO[bytes] | None) -> bool:
    """Whether a TIFF file has a single page of at most 8 bits that Pillow reads whole, and no OME, ImageJ or Aperio metadata.

    Large upright ones of plain RGB or grey are left to tifffile, which reads them by windows.
    """
    try:
        with _open(_start(path, stream)) as image:
            tags = getattr(image, "tag_v2", None)
            if tags is None:  # not a TIFF file, despite its name
                return True
            about = str(tags.get(_DESCRIPTION, ""))
            plain = tags.get(_PHOTOMETRIC) in _PLAIN and image.mode in ("L", "RGB") and tags.get(_ORIENTATION, 1) == 1
            if plain and image.width * image.height > _LARGE:
                return False
            return (
                image.mode in _PHOTOGRAPHS
                and max(tags.get(_BITS, (1,))) <= 8
                and max(tags.get(_FORMAT, (1,))) != _SIGNED  # which Pillow takes for unsigned
                and tags.get(_SAMPLES, 1) == (1 if image.mode == "P" else len(image.getbands()))
                and getattr(image, "n_frames", 1) == 1
                and not about.startswith(("ImageJ=", "Aperio"))
                and "<OME" not in about
            )
    except Exception:  # damaged files make Pillow raise nearly anything; False leaves the file to tifffile
        return False


def _refuse(image: PillowImage.Image, path: Path) -> None:
    """Raise ParameterError if reading the image would silently lose something."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and not _is_one_photograph(image):
        raise ParameterError(f"{path} has {frames} frames but must have one; split it into files, or save it as TIFF")
    raw = [
        str(part)
        for tile in getattr(image, "tile", ())
        for part in np.atleast_1d(np.array(tile[3], dtype=object))
        if part is not None
    ]
    if image.mode in _PHOTOGRAPHS and any(";16" in part for part in raw):  # Pillow would drop the lower eight bits
        raise ParameterError(f"{path} has 16 bits per channel, of which Pillow reads 8; save it as TIFF, which is read in full")
    if image.mode == "1":
        raise ParameterError(f"{path} is a one-bit mask, which a lossy codec would alter; store it with a lossless codec")
    if image.mode not in _EIGHT_BIT and not (image.mode.startswith("I;16") and not _has_alpha(image)):
        raise ParameterError(f"{path} has mode {image.mode}, which RGB or grey cannot hold without loss; {_WAY_OUT}")


def _is_one_photograph(image: PillowImage.Image) -> bool:
    """Whether this is a JPEG file whose further pictures only serve the first: previews, gain maps, depth maps."""
    entries = getattr(image, "mpinfo", {}).get(_MP_ENTRIES, ())
    return image.format == "MPO" and not any(_ON_A_PAR in str(entry["Attribute"]["MPType"]) for entry in entries)


def _has_alpha(image: PillowImage.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _orientation(image: PillowImage.Image, path: Path) -> int:
    """The EXIF orientation, 1 if there is none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        warnings.warn(f"{path} is read as if upright, because its EXIF cannot be read: {error}", stacklevel=2)
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _plain(image: PillowImage.Image, path: Path) -> PillowImage.Image:
    """An RGB or grey image of the same pixels; ParameterError if the image is not opaque."""
    transparent = "transparency" in image.info
    if image.mode == "P":
        image = image.convert("RGBA" if transparent else "RGB")
    elif image.mode == "PA" or (image.mode == "RGB" and transparent):
        image = image.convert("RGBA")
    elif image.mode == "L" and transparent:
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise ParameterError(f"{path} has transparency, which RGB cannot hold; {_WAY_OUT}")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    return image
