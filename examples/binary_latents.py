"""Latents of one bit, and what an entropy model is worth: python examples/binary_latents.py [-o FOLDER] [--minutes 2].

Trains the family `binary`, a network of three convolutions each way, from principal components on four photographs of
scikit-image. It then codes a fifth one at each quality in five ways: the bits of the latents packed eight to a byte;
these bytes compressed by LZMA; and payloads of caecodec with static tables (one for each channel), context tables (the class
of a channel's table follows from the magnitudes of the channels before, which say little about bits) and binary-context
tables (the class of a bit's probability follows from bits around it). The tables are learnt from the photographs of the
training. All hold the same bits, and so the same pixels. Needs the extra train, and scikit-image.
"""

import argparse
import lzma
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.images.metrics import psnr
from caecodec.models.binary.network import bits_of
from caecodec.training import Recipe, train

MODELS = ("static", "context", "binary-context")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="a folder for the weights, their model card and curves")
    parser.add_argument("--minutes", type=float, default=2, help="how long to train, default %(default)s")
    parser.add_argument("--steps", type=int, help="how long to train, instead of minutes")
    parser.add_argument("-q", "--quality", type=int, nargs="+", default=[2, 4, 6], help="default 2 4 6")
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp())
    photographs = folder / "photographs"
    photographs.mkdir(parents=True)
    motorcycle = skimage.data.stereo_motorcycle()[0]
    for number, image in enumerate([skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket(), motorcycle]):
        Image.fromarray(image).save(photographs / f"{number}.png")

    length = {"steps": options.steps} if options.steps else {"minutes": options.minutes}
    recipe = Recipe(qualities=tuple(options.quality), family="binary", crop=64, batch=4 * len(options.quality), **length)
    file = folder / "binary.safetensors"
    train([photographs], file, recipe, init="klt", validation=0, on_report=report, overwrite=True)

    image = skimage.data.astronaut()
    print("quality  bits/pixel  packed bytes  with LZMA   static  context  binary-context   PSNR  MP/s written  MP/s read")
    for quality in options.quality:
        bits = np.packbits(used_bits(file, quality, image)).tobytes()
        payloads = [caecodec.encode(image, quality, weights=file, entropy=entropy) for entropy in MODELS]
        start = time.perf_counter()
        caecodec.encode(image, quality, weights=file)
        middle = time.perf_counter()
        decoded = caecodec.decode(payloads[-1], weights=file)
        end = time.perf_counter()
        assert np.array_equal(decoded, caecodec.decode(payloads[0], weights=file))
        pixels = image.shape[0] * image.shape[1]
        print(
            f"{quality:7}  {8 * len(bits) / pixels:10.3f}  {len(bits):12}  {len(lzma.compress(bits, preset=9)):9}  "
            f"{len(payloads[0]):7}  {len(payloads[1]):7}  {len(payloads[2]):14}  {psnr(image, decoded):5.2f}  "
            f"{pixels / (middle - start) / 1e6:12.2f}  {pixels / (end - middle) / 1e6:9.2f}"
        )


def used_bits(file: Path, quality: int, image: np.ndarray) -> np.ndarray:
    """The bits (channels, rows, columns) that a quality uses, of an image with sides that are multiples of 8."""
    loaded = weights.load(weights.open_file(file, "mse", quality), quality)
    network = loaded.family.build(loaded.network.tensors)
    with torch.inference_mode():
        symbols = network.analysis(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    used = loaded.network.tensors["active"] > 0
    return bits_of(symbols[:, used])[0].numpy() > 0


def report(report) -> None:
    if report.step % 200 == 0 or report.left == 0:
        points = "  ".join(f"{bpp:.3f} bpp {db:.2f} dB" for bpp, db in zip(report.bpp, report.psnr, strict=True))
        print(f"step {report.step}, {report.left:.0f} s left: {points}", flush=True)


if __name__ == "__main__":
    main()
