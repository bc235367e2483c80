"""caecodec decode: OME-NGFF groups and .cae files to image files."""

import argparse
from pathlib import Path

from .report import outcome, progress

SUMMARY = "Convert OME-NGFF groups and .cae files, or folders of them, to image files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec decode."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help=".ome.zarr groups, .cae files, or folders of them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="a folder; or with one input an image file")
    parser.add_argument(
        "--format", default="png", help="kind of image files in a folder: png, jpg ..., or tiff for stacks; default %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no list of outputs")


def run(arguments: argparse.Namespace) -> int:
    """Decode; 1 when any input failed."""
    from ..ngff.convert import decode_paths

    suffix = "." + arguments.format.lstrip(".")
    written, failed = decode_paths(
        arguments.inputs, arguments.output, suffix, arguments.overwrite, arguments.gpu, progress(arguments.quiet)
    )
    return outcome(written, failed, arguments.quiet)
