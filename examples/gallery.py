"""Draw what codecs make of a photograph at equal rates, in one row: python examples/gallery.py -o gallery.webp.

A part of a photograph of scikit-image is coded in one piece by each codec: by caecodec's default network at quality 2, and by
the others as near to its bits per pixel as their settings allow (--lmbda sets those of the overfitted codec). The row shows the
middle of it, pixel for pixel and enlarged twice, with the bits per pixel and the PSNR of the part. --weights adds networks of
your own. Needs the extra eval and scikit-image; the overfitted codec takes minutes.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from caecodec.codecs.decoding import decode
from caecodec.codecs.overfitted.interface import OVERFITTED
from caecodec.evaluation import compared
from caecodec.evaluation.images import select_images
from caecodec.evaluation.sweep import sweep

QUALITY = 2
TOP, LEFT = 0, 100  # where the part is in the photograph
HEIGHT, WIDTH = 160, 128  # pixels that are shown
LINES, GAP = 58, 12  # pixels, of the text above a picture and between pictures


def overfitted(preset: str, lmbda: float) -> compared.ComparedCodec:
    """The overfitted codec with one trade-off, since each takes a fit."""
    parameters = OVERFITTED.parse(lmbda=lmbda, preset=preset)
    setting = compared.CodecSetting(
        f"lmbda {lmbda:g}", f"overfitted {parameters}", partial(OVERFITTED.encode, parameters), decode
    )
    return compared.ComparedCodec("overfitted", "caecodec", preset, (setting,), slow=True)


def draw(columns: list[tuple[str, str, np.ndarray]]) -> Image.Image:
    """Pictures (height, width, 3) of a part in one row, each below its two lines of text."""
    row = Image.new("RGB", ((2 * WIDTH + GAP) * len(columns) - GAP, LINES + 2 * HEIGHT), "white")
    pen = ImageDraw.Draw(row)
    for i, (title, line, part) in enumerate(columns):
        left = i * (2 * WIDTH + GAP)
        pen.text((left, 0), title, "black", ImageFont.load_default(24))
        pen.text((left, 30), line, "#555555", ImageFont.load_default(20))
        y, x = (max(0, (n - size) // 2 - shift) for n, size, shift in zip(part.shape, (HEIGHT, WIDTH), (8, 0), strict=False))
        shown = Image.fromarray(part[y : y + HEIGHT, x : x + WIDTH])
        row.paste(shown.resize((2 * shown.width, 2 * shown.height), Image.Resampling.NEAREST), (left, LINES))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("gallery.webp"), help="a .webp or .png, default %(default)s")
    parser.add_argument("--codecs", default="jpeg,jpeg2k,avif", help="codecs to compare with, default %(default)s")
    parser.add_argument("--weights", nargs="*", default=[], type=Path, help="weights files to add")
    parser.add_argument("--preset", default="faster", help="of the overfitted codec, or none; default %(default)s")
    parser.add_argument("--lmbda", type=float, default=0.0063, help="of the overfitted codec, default %(default)s")
    parser.add_argument("--side", type=int, default=256, help="pixels a side of the part, default %(default)s")
    options = parser.parse_args()
    networks = compared.caecodec(["default", "photo-fast"], ["mse"], [QUALITY], None, None)
    if options.weights:
        networks += compared.caecodec(options.weights, ["mse"], None, None, None)
    fitted = [] if options.preset == "none" else [overfitted(options.preset, options.lmbda)]
    others = compared.references(options.codecs.split(","))
    with tempfile.TemporaryDirectory() as folder:
        part = skimage.data.astronaut()[TOP : TOP + options.side, LEFT : LEFT + options.side]
        Image.fromarray(part).save(f"{folder}/part.png")
        swept = sweep(select_images([Path(folder)]), (*networks, *fitted, *others), 0, print, shown=[0])
    crops = {crop.name: crop for crop in swept.comparisons[0].rates[0]}
    names = ["default", "fast", *(path.stem for path in options.weights)]
    titles = dict(zip((network.name for network in networks), names, strict=True))
    columns = [("original", "24 bpp", swept.comparisons[0].original)]
    for codec in (*others, *networks, *fitted):
        crop = crops[codec.name]
        print(f"{codec.name}, {crop.setting}: {crop.values.bpp:.3f} bpp, {crop.values.psnr:.2f} dB")
        values = f"{crop.values.bpp:.3f} bpp, {crop.values.psnr:.1f} dB"
        columns.append((titles.get(codec.name, codec.name), values, crop.pixels))
    draw(columns).save(options.output, lossless=True, method=6)


if __name__ == "__main__":
    main()
