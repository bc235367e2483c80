"""caecodec decode: converts groups and .cae files to image and video files."""

import argparse

from ..storage.locations import parse_location
from .progress import Bars, outcome

SUMMARY = "Convert groups and .cae files, or folders of them, to image and video files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec decode."""
    parser.add_argument(
        "inputs", nargs="+", type=parse_location, metavar="INPUT",
        help=".ome.zarr groups, .ozx files, .cae files, groups at URLs such as s3://..., or folders of them (with subfolders)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, type=parse_location, help="a folder; or with one input an image or video file"
    )
    parser.add_argument(
        "--format", default="png",
        help="format of files in a folder: png, jpg, webp, bmp, tiff (stacks too), yuv or y4m (videos); default %(default)s",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="convert N files at once; default %(default)s")
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no list of outputs and no summary")


def run(arguments: argparse.Namespace) -> int:
    """Decode; return 1 if any input failed."""
    from ..ngff.convert import decode_paths

    suffix = "." + arguments.format.lstrip(".")
    with Bars(arguments.quiet) as bars:
        written, failed = decode_paths(
            arguments.inputs, arguments.output, suffix, arguments.overwrite, arguments.gpu, bars.files, arguments.workers
        )
    return outcome(written, failed, arguments.quiet, bars.state)
