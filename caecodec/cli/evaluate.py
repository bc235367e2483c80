"""caecodec evaluate: measures rate and distortion on your images, beside other codecs."""

import argparse
import sys
from pathlib import Path

from ..entropy import registry
from ..storage.locations import parse_location
from ..weights import DEFAULT
from .qualities import parse_qualities

SUMMARY = (
    "Measure rate and distortion on images, beside JPEG, JPEG 2000, JPEG XL, WebP and AVIF; write tables, curves and a report."
)
CODECS = "jpeg,jpeg2k,jpegxl,webp,avif"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec evaluate."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="images, or folders or tar files of them")
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="the folder to write")
    parser.add_argument(
        "--weights", action="append",
        help="an installed name, or the path of a weights file or checkpoint; may be repeated; or none; default: shipped",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--metric", default="both", choices=["mse", "ms-ssim", "both"],
        help="what the networks were trained for; default both, if the weights have both",
    )  # fmt: skip
    parser.add_argument("-q", "--qualities", help="such as 1-5 or 2,4; default all")
    models = [model.name for model in registry.models()]
    parser.add_argument("--entropy", choices=models, help="default the best that the weights have tables for")
    parser.add_argument(
        "--overfitted", default="", metavar="PRESET[,PRESET...]",
        help="measure the overfitted codec with instant, faster, fast, medium, slow, placebo: minutes per image and quality",
    )  # fmt: skip
    parser.add_argument(
        "--decoder", choices=["lop", "mop", "hop"], help="decoder of the overfitted codec; default by the size of chunks"
    )
    parser.add_argument(
        "--gpu", action=argparse.BooleanOptionalAction, help="run networks on CUDA, or not; default by settings"
    )
    parser.add_argument("--codecs", default=CODECS, help="codecs to compare with, some of %(default)s (the default), or none")
    parser.add_argument("--chunk", type=int, default=256, help="pixels a side, 0: whole images; default %(default)s")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take the first image and every Nth after it")
    parser.add_argument(
        "--cache", type=Path, metavar="FILE.jsonl",
        help="save each result as it comes, and reuse those in the file, so that an interrupted evaluation can continue",
    )  # fmt: skip
    parser.add_argument(
        "--reference", action="append", default=[], type=Path, metavar="FILE.json",
        help="published points to draw and compare with; may be repeated",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=3, help="images to show side by side, default %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation in the output folder")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Measure; print what is missing, the BD-rates, and the path of the report."""
    from ..evaluation import evaluate

    results = evaluate(
        arguments.images,
        arguments.output,
        weights=[] if arguments.weights == ["none"] else arguments.weights or [DEFAULT],
        metrics=["mse", "ms-ssim"] if arguments.metric == "both" else [arguments.metric],
        qualities=arguments.qualities and parse_qualities(arguments.qualities),
        entropy=arguments.entropy,
        overfitted=arguments.overfitted.split(",") if arguments.overfitted else [],
        decoder=arguments.decoder,
        gpu=arguments.gpu,
        codecs=[] if arguments.codecs == "none" else arguments.codecs.split(","),
        chunk=arguments.chunk,
        every=arguments.every,
        cache=arguments.cache,
        references=arguments.reference,
        samples=arguments.samples,
        overwrite=arguments.overwrite,
        say=(lambda line: None) if arguments.quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
    )
    for note in results.notes:
        print(note)
    for rate in results.bd_rates:
        value = rate.note if rate.percent is None else f"{rate.percent:+.1f} %"
        print(f"BD-rate of {rate.test} against {rate.reference}, {rate.metric}: {value}")
    print(arguments.output / "report.html")
    return 0
