"""Compare context coding with static tables: python examples/entropy_gain.py IMAGES... [--chunk 256] [-q 1 4].

Encodes the images both ways, checks that they decode to the same pixels, and prints the bytes of each and what context coding
saves.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import caecodec

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, help="image files, and folders of them")
    parser.add_argument("--chunk", type=int, help="pixels a side of a chunk, default whole images")
    parser.add_argument("--weights", default="default", help="an installed name, or the path of a weights file")
    parser.add_argument("-q", "--quality", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="default 1 to 5")
    options = parser.parse_args()
    files = [file for path in options.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files if file.suffix.lower() in SUFFIXES]
    chunks = [chunk for image in images for chunk in cut(image, options.chunk)]
    print(f"{len(images)} images, {len(chunks)} chunks\nquality  static bytes  context bytes   saved")
    for quality in options.quality:
        total = {"static": 0, "context": 0}
        for chunk in chunks:
            payloads = {entropy: caecodec.encode(chunk, quality, weights=options.weights, entropy=entropy) for entropy in total}
            decoded = [caecodec.decode(payload, weights=options.weights) for payload in payloads.values()]
            if not np.array_equal(*decoded):
                raise SystemExit(f"quality {quality}: pixels differ")
            for entropy, payload in payloads.items():
                total[entropy] += len(payload)
        saved = 100 * (1 - total["context"] / total["static"])
        print(f"{quality:7}  {total['static']:12}  {total['context']:13}  {saved:5.2f} %", flush=True)


def cut(image, side):
    """The chunks of an image (height, width, 3); those at its right and lower edge may be smaller."""
    if side is None:
        return [image]
    height, width = image.shape[:2]
    return [image[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]


if __name__ == "__main__":
    main()
