"""caecodec fit-layers: makes weights of layers from one quality of weights, without training."""

import argparse
from pathlib import Path

from ..bitstream.autoencoder import MAX_QUALITY
from ..storage.locations import parse_location

SUMMARY = "Make weights of layers, for ScalableAutoencoder, from one quality of weights, with tables fitted to images."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec fit-layers."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors file that caecodec trained")
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="images, or folders or tar files of them")
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="NAME.safetensors")
    parser.add_argument(
        "-q", "--quality", type=int, default=MAX_QUALITY, help="the quality that is the last layer, default %(default)s"
    )
    parser.add_argument("--layers", type=int, default=4, help="the number of layers, default %(default)s")
    parser.add_argument("--crops", type=int, help="crops of 256x256 pixels to fit to, default 1200 or more")
    parser.add_argument("--name", help="name of the result; default that of the output")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Fit; print what was written, and what each layer takes and achieves on held-out images."""
    from ..training.layered import fit_layers

    source, points = fit_layers(
        arguments.weights,
        arguments.data,
        arguments.output,
        quality=arguments.quality,
        layers=arguments.layers,
        crops=arguments.crops,
        name=arguments.name,
        overwrite=arguments.overwrite,
    )
    print("layer    bpp   PSNR  MS-SSIM")
    for point in points:
        print(f"{point.quality:5}  {point.bpp:5.3f}  {point.psnr:5.2f}  {point.ms_ssim:7.4f}")
    print(f"{source.location}: {source}, SHA-256 {source.sha256}")
    return 0
