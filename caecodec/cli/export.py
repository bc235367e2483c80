"""caecodec export: converts checkpoints to weights files, which need neither PyTorch pickles nor CompressAI."""

import argparse
from pathlib import Path

from ..errors import ParameterError
from ..storage.locations import parse_location
from ..weights import CHECKPOINT_SUFFIXES

SUMMARY = "Convert a CompressAI or training checkpoint to a weights file, or weights to a state dict that CompressAI loads."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec export."""
    parser.add_argument(
        "source", help="a checkpoint of CompressAI's FactorizedPrior or of a training run; or weights, by name or path"
    )
    parser.add_argument("images", nargs="*", type=Path, help="training checkpoints: folders and tar files of training images")
    parser.add_argument(
        "-o", "--output", required=True, type=parse_location, help="NAME.safetensors; or NAME.pth for CompressAI"
    )
    parser.add_argument("--name", help="name of the weights; default that of the checkpoint (CompressAI) or of the output")
    parser.add_argument("-q", "--quality", type=int, help="to or from CompressAI: the quality; default none")
    parser.add_argument("-m", "--metric", choices=["mse", "ms-ssim"], help="default that of the training checkpoint, or mse")
    parser.add_argument(
        "--crops", type=int, help="training checkpoints: crops of 256x256 to fit tables to, default 1200 or more"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Export, and print what was written."""
    from ..training.export import export, to_compressai

    if arguments.output.suffix in CHECKPOINT_SUFFIXES:
        if arguments.quality is None:
            raise ParameterError(f"{arguments.output} holds a single quality; pass it (-q 1 to 8)")
        to_compressai(
            arguments.source,
            arguments.quality,
            arguments.output,
            metric=arguments.metric or "mse",
            overwrite=arguments.overwrite,
        )
        print(arguments.output)
        return 0
    source = export(
        Path(arguments.source),
        arguments.output,
        images=arguments.images,
        name=arguments.name,
        metric=arguments.metric,
        quality=arguments.quality,
        crops=arguments.crops,
        overwrite=arguments.overwrite,
    )
    print(f"{source.location}: {source}, SHA-256 {source.sha256}")
    return 0
