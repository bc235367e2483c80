"""caecodec decode: converts groups and .cae files to image and video files."""

import argparse
from pathlib import Path

from ..storage.locations import parse_location
from .progress import Bars, outcome

SUMMARY = "Convert groups and .cae files, or folders of them, to image and video files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec decode."""
    parser.add_argument(
        "inputs", nargs="+", type=parse_location, metavar="INPUT",
        help=".ome.zarr groups, .ozx files, .cae files, groups at URLs such as s3://..., or folders of them",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, type=Path, help="a folder; or with one input an image or video file")
    parser.add_argument(
        "--format", default="png",
        help="format of the files in a folder: png, jpg ..., tiff for stacks, yuv or y4m for videos; default %(default)s",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no list of outputs")


def run(arguments: argparse.Namespace) -> int:
    """Decode; return 1 if any input failed."""
    from ..ngff.convert import decode_paths

    suffix = "." + arguments.format.lstrip(".")
    bars = Bars(arguments.quiet)
    written, failed = decode_paths(arguments.inputs, arguments.output, suffix, arguments.overwrite, arguments.gpu, bars.images)
    return outcome(written, failed, arguments.quiet)
