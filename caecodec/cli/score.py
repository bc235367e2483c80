"""caecodec score: compares decoded images with their originals."""

import argparse
import sys
from pathlib import Path

from ..storage.locations import parse_location
from .progress import counting

SUMMARY = "Score decoded images against their originals: PSNR, SSIM, MS-SSIM, bits per pixel and ratio, and their means."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec score."""
    parser.add_argument("originals", type=Path, metavar="ORIGINALS", help="an image, or a folder of them (with subfolders)")
    parser.add_argument(
        "decoded", type=Path, metavar="DECODED", help="the decoded image, or a folder of them with the same names"
    )
    parser.add_argument(
        "compressed", type=Path, nargs="?", metavar="COMPRESSED",
        help="what was decoded: a file of any kind or a group, or a folder of them with the same names; for bpp and ratio",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="NAME.json or NAME.csv")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no means")


def run(arguments: argparse.Namespace) -> int:
    """Score; print the means, and what could not be scored; return 1 if there was any of that."""
    from ..evaluation.score import VALUES, check_format, score, write_scores
    from ..storage.partial import refuse_existing

    check_format(arguments.output)
    refuse_existing(arguments.output, arguments.overwrite)
    with counting(arguments.quiet, "image") as progress:
        scores = score(arguments.originals, arguments.decoded, arguments.compressed, progress)
    for problem in scores.problems:
        print(f"caecodec: {problem}", file=sys.stderr)
    if not scores.images:
        print("caecodec: no image was scored, so nothing is written", file=sys.stderr)
        return 1
    write_scores(scores, arguments.output)
    if not arguments.quiet:
        for note in scores.notes():
            print(f"caecodec: {note}", file=sys.stderr)
        labels = ("PSNR {:.2f} dB", "SSIM {:.4f}", "MS-SSIM {:.4f}", "{:.3f} bpp", "ratio {:.1f}")
        means = [
            label.format(mean) for label, name in zip(labels, VALUES, strict=True) if (mean := scores.mean(name)) is not None
        ]
        print(f"{arguments.output}: means of {len(scores.images)} images: {', '.join(means)}")
    return 1 if scores.problems else 0
