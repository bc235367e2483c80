"""caecodec report: one page that shows what codecs make of your images."""

import argparse
import sys
from pathlib import Path

from ..storage.locations import parse_location
from .qualities import parse_qualities

SUMMARY = "Compare codecs on images in one page: curves, tables, and the pictures beside the originals."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec report."""
    parser.add_argument("images", nargs="+", type=Path, metavar="ORIGINALS", help="images, or folders or tar files of them")
    parser.add_argument("-o", "--output", required=True, type=parse_location, metavar="FILE.html", help="the page to write")
    parser.add_argument(
        "--codecs", default="default,jpeg,jpeg2k,avif",
        help="names of weights, paths of weights files, and some of jpeg,jpeg2k,jpegxl,webp,avif; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--metric", default="mse", choices=["mse", "ms-ssim", "both"],
        help="what the networks were trained for; default %(default)s",
    )  # fmt: skip
    parser.add_argument("-q", "--qualities", help="such as 1-5 or 2,4; default all")
    parser.add_argument(
        "--gpu", action=argparse.BooleanOptionalAction, help="run networks on CUDA, or not; default by settings"
    )
    parser.add_argument("--chunk", type=int, default=256, help="pixels a side, 0: whole images; default %(default)s")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take the first image and every Nth after it")
    parser.add_argument("--samples", type=int, metavar="N", help="how many images to show; default all")
    parser.add_argument(
        "--side", type=int, default=320,
        help="show the middle of each image, so many pixels a side, 0: all of it; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, metavar="FILE.jsonl",
        help="save each result as it comes, and reuse those in the file, so that an interrupted report can continue",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier page")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Measure; print what is missing, and the path of the page and its size."""
    from ..evaluation.report import report

    results = report(
        arguments.images,
        arguments.output,
        codecs=arguments.codecs.split(","),
        metrics=["mse", "ms-ssim"] if arguments.metric == "both" else [arguments.metric],
        qualities=arguments.qualities and parse_qualities(arguments.qualities),
        gpu=arguments.gpu,
        chunk=arguments.chunk,
        every=arguments.every,
        cache=arguments.cache,
        samples=arguments.samples,
        side=arguments.side,
        overwrite=arguments.overwrite,
        say=(lambda line: None) if arguments.quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
    )
    for note in results.notes:
        print(note)
    print(f"{arguments.output}, {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0
