"""Images and contenders -> curves: every image is cut into chunks, each coded alone, put together again, and compared."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import CaeCodecError, ParameterError
from ..ngff.files import read_rgb
from ..training import data
from .contenders import Contender, Setting
from .curves import Curve, ImageInfo, Measurement, Point
from .metrics import MS_SSIM_SIDE, ms_ssim, psnr

Array = npt.NDArray[np.uint8]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageFile:
    """An image to evaluate on."""

    info: ImageInfo
    path: Path
    stream: BytesIO | None = field(default=None, compare=False)

    def read(self) -> Array:
        """Its pixels (height, width, 3), uint8, upright."""
        if self.stream is not None:
            self.stream.seek(0)
        return read_rgb(self.path, self.stream)


def find_images(paths: Sequence[Path]) -> tuple[ImageFile, ...]:
    """The images in these files, folders and tar files, each read once to see that it can be.

    Raises ParameterError for a path that does not exist or holds no image, and for an image that eight bits of RGB cannot hold.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; name image files, folders or tar files of them")
        here = list(data.files([path]))
        if not here:
            raise ParameterError(
                f"{path} holds no image; name files, or folders or tar files of files, {', '.join(data.SUFFIXES)}"
            )
        found += here
    short = len({name.name for name, _ in found}) == len(found)
    images = []
    for path, file in found:
        stream = file if isinstance(file, BytesIO) else None
        height, width, _ = read_rgb(path, stream).shape
        images.append(ImageFile(ImageInfo(path.name if short else str(path), height, width), path, stream))
    names = [image.info.name for image in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ParameterError(f"{twice} is named twice; name each image once")
    return tuple(images)


def sweep(images: Sequence[ImageFile], contenders: Sequence[Contender], chunk: int, say: Say) -> tuple[Curve, ...]:
    """The curve of each contender; `say` is told about each image when its turn comes.

    Raises ParameterError where a codec does not take an image.
    """
    measured: dict[tuple[str, str], list[Measurement]] = {(c.name, s.name): [] for c in contenders for s in c.settings}
    for number, image in enumerate(images, 1):
        say(f"{number}/{len(images)} {image.info.name}")
        pixels = image.read()
        for contender in contenders:
            for setting in contender.settings:
                if number == 1:
                    code(pixels[: chunk or None, : chunk or None], contender, setting, chunk)  # untimed: loads the network
                measurement = measure(image.info.name, pixels, contender, setting, chunk)
                measured[contender.name, setting.name].append(measurement)
    return tuple(
        Curve(c.name, c.kind, c.about, tuple(Point.mean(s.name, tuple(measured[c.name, s.name])) for s in c.settings))
        for c in contenders
    )


def measure(name: str, pixels: Array, contender: Contender, setting: Setting, chunk: int) -> Measurement:
    """One image at one setting."""
    decoded, size, encoding, decoding = code(pixels, contender, setting, chunk)
    area = pixels.shape[0] * pixels.shape[1]
    return Measurement(
        image=name,
        bytes=size,
        bpp=8 * size / area,
        psnr=psnr(pixels, decoded),
        ms_ssim=ms_ssim(pixels, decoded) if min(pixels.shape[:2]) >= MS_SSIM_SIDE else None,
        encode_s_per_mp=encoding / area * 1e6,
        decode_s_per_mp=decoding / area * 1e6,
    )


def code(pixels: Array, contender: Contender, setting: Setting, chunk: int) -> tuple[Array, int, float, float]:
    """The decoded image, the bytes of its payloads, and the seconds that encoding and decoding them took."""
    decoded = np.empty_like(pixels)
    size, encoding, decoding = 0, 0.0, 0.0
    for part, place in zip(cut(pixels, chunk), cut(decoded, chunk), strict=True):
        part = np.ascontiguousarray(part)
        try:
            start = time.perf_counter()
            payload = setting.encode(part)
            middle = time.perf_counter()
            place[...] = setting.decode(payload)
            decoding += time.perf_counter() - middle
        except CaeCodecError:
            raise
        except (RuntimeError, ValueError) as error:  # what imagecodecs raises
            raise ParameterError(
                f"{contender.name}, {setting.name}, cannot code {part.shape[1]} x {part.shape[0]} pixels: {error}; "
                "pass a smaller chunk (--chunk), or leave the codec out (--codecs)"
            ) from error
        encoding += middle - start
        size += len(payload)
    return decoded, size, encoding, decoding


def cut(image: Array, chunk: int) -> list[Array]:
    """Views of the image's chunks, row by row; the whole image for chunk 0."""
    side = chunk or max(image.shape[:2])
    return [image[y : y + side, x : x + side] for y in range(0, image.shape[0], side) for x in range(0, image.shape[1], side)]


def notes(images: Sequence[ImageInfo], curves: Sequence[Curve]) -> tuple[str, ...]:
    """What the curves lack, and why."""
    said = []
    small = [image.name for image in images if min(image.height, image.width) < MS_SSIM_SIDE]
    if small:
        said.append(
            f"No mean MS-SSIM: it needs {MS_SSIM_SIDE} pixels a side, and {_list(small)} have fewer. "
            "Leave smaller images out to have it."
        )
    for curve in curves:
        exact = {m.image: None for point in curve.points for m in point.images if math.isinf(m.psnr)}
        if exact:
            said.append(f"{curve.name}: no mean PSNR where {_list(list(exact))} came back exactly, which has no finite PSNR.")
    if any(curve.kind == "published" for curve in curves):
        said.append("Published points were measured by others: compare with them only on the images that they are for.")
    return tuple(said)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
