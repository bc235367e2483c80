"""caecodec fit-entropy: adds better entropy tables, fitted to images, to any weights."""

import argparse
from pathlib import Path

from ..storage.locations import parse_location

SUMMARY = "Add context tables, fitted to images, to weights, which code the same pixels in fewer bytes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec fit-entropy."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors file, or a CompressAI checkpoint")
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="images, or folders or tar files of them")
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="NAME.safetensors")
    parser.add_argument("--crops", type=int, default=3000, help="crops of 256x256 pixels to fit to, default %(default)s")
    parser.add_argument("--name", help="name of the result; default that of the weights, or for a checkpoint of the output")
    parser.add_argument("-q", "--quality", type=int, help="CompressAI checkpoints: the quality it was trained for")
    parser.add_argument("-m", "--metric", default="mse", choices=["mse", "ms-ssim"], help="of checkpoints; default %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Fit; print what was written and how many bytes it saves."""
    from ..training.fit_entropy import fit_entropy

    source, gains = fit_entropy(
        arguments.weights,
        arguments.data,
        arguments.output,
        crops=arguments.crops,
        name=arguments.name,
        metric=arguments.metric,
        quality=arguments.quality,
        overwrite=arguments.overwrite,
    )
    bytes_fitted = f"{gains[0].model} bytes"
    print(f"quality  held-out crops  static bytes  {bytes_fitted}  saved")
    for gain in gains:
        print(f"{gain.quality:7}  {gain.crops:14}  {gain.static:12}  {gain.fitted:{len(bytes_fitted)}}  {gain.saved:4.1f} %")
    print(f"{source.location}: {source}, SHA-256 {source.sha256}")
    return 0
