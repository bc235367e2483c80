"""Measure how much chunks show at their borders: python examples/chunk_borders.py FOLDER [--chunk 256] [-q 1 4].

Codes each image in chunks, each chunk alone. For each quality it prints the squared error of the pixels on both sides of a
border between two chunks, divided by that of all other pixels, as the mean over images: a ratio of 1 means that there are no
seams.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import caecodec

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk", type=int, default=256, help="pixels a side of a chunk, default %(default)s")
    parser.add_argument("-q", "--quality", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="default 1 to 5")
    parser.add_argument("--metric", default="mse", choices=["mse", "ms-ssim"])
    parser.add_argument("--weights", default="default", help="an installed name or a weights file")
    options = parser.parse_args()
    files = [path for path in sorted(options.folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    print("| quality | error beside borders over elsewhere |\n|---|---|")
    for quality in options.quality:
        ratios = []
        for path in files:
            image = np.asarray(Image.open(path).convert("RGB"))
            error = squared_error(image, options.chunk, quality=quality, metric=options.metric, weights=options.weights)
            beside = borders(image.shape[:2], options.chunk)
            ratios.append(error[beside].mean() / error[~beside].mean())
        print(f"| {quality} | {np.mean(ratios):.2f} |", flush=True)


def squared_error(image: npt.NDArray[np.uint8], chunk: int, **how: int | str) -> npt.NDArray[np.float64]:
    """The squared error of each pixel, (height, width), mean over its channels, if each chunk is coded alone."""
    decoded = np.empty_like(image)
    for top in range(0, image.shape[0], chunk):
        for left in range(0, image.shape[1], chunk):
            part = (slice(top, top + chunk), slice(left, left + chunk))
            payload = caecodec.encode(np.ascontiguousarray(image[part]), **how)
            decoded[part] = caecodec.decode(payload, weights=how["weights"])
    return np.square(decoded.astype(float) - image).mean(axis=2)


def borders(shape: tuple[int, int], chunk: int) -> npt.NDArray[np.bool_]:
    """A mask (height, width) that is true for the pixels next to a border between two chunks."""
    beside = np.zeros(shape, bool)
    for first in range(chunk, shape[0], chunk):
        beside[first - 1 : first + 1] = True
    for first in range(chunk, shape[1], chunk):
        beside[:, first - 1 : first + 1] = True
    return beside


if __name__ == "__main__":
    main()
