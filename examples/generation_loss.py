"""Measure what writing to part of a chunk costs the rest: python examples/generation_loss.py FOLDER [--chunk 256] [-q 1 4].

Stores each image as a Zarr array, then writes the upper left part of every chunk (a quarter of its height and width) again
and again, always with the original pixels. Prints the mean PSNR of all other pixels against the original, after the first
write and after 1, 2, 5 and 10 rewrites.
"""

import argparse
from pathlib import Path

import numpy as np
import zarr
from PIL import Image

import caecodec
from caecodec.evaluation import psnr

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
REWRITES = (0, 1, 2, 5, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk", type=int, default=256, help="pixels a side of a chunk, default %(default)s")
    parser.add_argument("--images", type=int, help="use only the first images, default all")
    parser.add_argument("-q", "--quality", type=int, nargs="+", help="default all that are installed for metric mse")
    options = parser.parse_args()
    installed = {q for source in caecodec.weights.installed() if source.metric == "mse" for q in source.qualities}
    files = [path for path in sorted(options.folder.iterdir()) if path.suffix.lower() in SUFFIXES][: options.images]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in files]
    print(f"{len(images)} images, chunks of {options.chunk}x{options.chunk}: mean PSNR (dB) of pixels that were not written\n")
    print("| quality | " + " | ".join("written once" if n == 0 else f"after {n}" for n in REWRITES) + " |")
    print("|---" * (len(REWRITES) + 1) + "|")
    for quality in options.quality or sorted(installed):
        values = np.mean([losses(image, quality, options.chunk) for image in images], axis=0)
        print(f"| {quality} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)


def losses(image, quality, chunk):
    """PSNR of the pixels that are not rewritten, after each number of REWRITES."""
    array = zarr.create_array(
        {},
        data=image,
        chunks=(chunk, chunk, 3),
        serializer=caecodec.zarr.ConvolutionalAutoencoder(quality=quality),
        compressors=None,
    )
    height, width = image.shape[:2]
    corners = [np.s_[y : y + chunk // 4, x : x + chunk // 4] for y in range(0, height, chunk) for x in range(0, width, chunk)]
    untouched = np.ones((height, width), bool)
    for corner in corners:
        untouched[corner] = False
    found = []
    for n in range(max(REWRITES) + 1):
        if n:
            for corner in corners:
                array[corner] = image[corner]
        if n in REWRITES:
            found.append(psnr(image[untouched], array[:][untouched]))
    return found


if __name__ == "__main__":
    main()
