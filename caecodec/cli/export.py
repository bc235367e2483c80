"""caecodec export: checkpoints to weights files, the format that needs neither PyTorch pickles nor CompressAI."""

import argparse
from pathlib import Path

SUMMARY = "Convert a CompressAI checkpoint, or a training checkpoint and images to fit its tables to, to a weights file."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec export."""
    parser.add_argument("checkpoint", type=Path, help="a state dict of CompressAI's FactorizedPrior, or of a training run")
    parser.add_argument("images", nargs="*", type=Path, help="training checkpoints: folders and tar files of training images")
    parser.add_argument("-o", "--output", required=True, type=Path, help="NAME.safetensors")
    parser.add_argument("--name", help="the weights' name; default that of the file")
    parser.add_argument("-q", "--quality", type=int, help="CompressAI checkpoints: the quality it was trained for")
    parser.add_argument("-m", "--metric", default="mse", choices=["mse", "ms-ssim"], help="default %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Export, and print what was written."""
    from ..training.export import export

    source = export(
        arguments.checkpoint,
        arguments.output,
        images=arguments.images,
        name=arguments.name or arguments.output.stem,
        metric=arguments.metric,
        quality=arguments.quality,
        overwrite=arguments.overwrite,
    )
    print(f"{source.location}: {source}, SHA-256 {source.sha256}")
    return 0
