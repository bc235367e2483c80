"""Loads photographs, uint8 (height, width, 3), and cuts chunks from them or tiles arrays with them."""

from itertools import count as numbers
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
BUNDLED = ("astronaut", "coffee", "chelsea", "rocket")  # photographs in every copy of scikit-image
MOST = 64
_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


def load(folder: Path | None) -> list[Pixels]:
    """The first MOST images of a folder, or scikit-image's photographs; SystemExit if there are none."""
    if folder is None:
        try:
            import skimage.data
        except ImportError:
            raise SystemExit("scikit-image is not installed: pip install scikit-image, or name a folder of images") from None
        return [np.ascontiguousarray(getattr(skimage.data, name)()) for name in BUNDLED]
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise SystemExit(f"{folder} is no folder of images ({', '.join(sorted(_SUFFIXES))}); name another")
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths[:MOST]]


def chunks(images: list[Pixels], side: int, count: int) -> list[Pixels]:
    """`count` chunks (side, side, 3), spread over the images.

    Images smaller than a chunk are extended by reflection. If there are too few chunks, they are repeated with rotations.
    """
    found = [chunk for image in images for chunk in _cut(image, side)]
    if len(found) >= count:
        return [found[i * len(found) // count] for i in range(count)]
    turned = (np.rot90(chunk, turn % 4) for turn in numbers() for chunk in found)
    return [np.ascontiguousarray(chunk) for _, chunk in zip(range(count), turned, strict=False)]


def _cut(image: Pixels, side: int) -> list[Pixels]:
    height, width = image.shape[:2]
    below, right = max(0, side - height), max(0, side - width)
    whole = np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric")
    rows, columns = (range(0, length - side + 1, side) for length in whole.shape[:2])
    return [np.ascontiguousarray(whole[y : y + side, x : x + side]) for y in rows for x in columns]


def mosaic(images: list[Pixels], side: int) -> Pixels:
    """Chunks of 512 side by side, about (side, side, 3); repeated, they give an array of any size real pixels."""
    across = -(-side // 512)
    parts = chunks(images, 512, across**2)
    return np.concatenate([np.concatenate(parts[i : i + across], axis=1) for i in range(0, across**2, across)])


def region(source: Pixels, rows: slice, columns: slice) -> Pixels:
    """A region of the plane that is tiled with `source`."""
    height, width = source.shape[:2]
    y, x = (np.arange(s.start, s.stop) % n for s, n in ((rows, height), (columns, width)))
    part: Pixels = source[y[:, None], x[None, :]]
    return part


def psnr(errors: float, values: int) -> float:
    """PSNR in dB for the sum of squared errors of `values` 8-bit values."""
    return float(10 * np.log10(255**2 * values / errors)) if errors else float("inf")


def squared_errors(a: Pixels, b: Pixels) -> float:
    """The sum of squared differences."""
    difference = a.astype(np.int32) - b
    return float(np.square(difference).sum())
