"""caecodec inspect: what is in a .cae file, an array or a group."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from ..codecs.registry import codecs
from ..codecs.reports import Report
from ..storage.locations import parse_location

SUMMARY = "Show format, weights, geometry and bytes by part of a .cae file, a Zarr array, or the arrays of a group."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec inspect."""
    parser.add_argument(
        "path", type=parse_location, metavar="PATH", help="a .cae file, a Zarr array or a group, also zipped or at a URL"
    )
    parser.add_argument(
        "--expect", choices=["any", *codecs()],
        help="fail unless this codec, or any of caecodec, codes the levels of the images, or all arrays if there are no images",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print a report for each array; return 1 if one cannot be read, or is not coded as it should be."""
    from ..arrays.inspection import examine

    found = examine(arguments.path, arguments.expect)
    if arguments.json:
        print(json.dumps([_document(report) for report in found.reports], indent=2))
    else:
        print("\n\n".join([*map(str, found.reports), *found.others]))
    for problem in (*found.failed, *found.strays):
        print(f"caecodec: {problem}", file=sys.stderr)
    return 1 if found.failed or found.strays else 0


def _document(report: Report) -> dict[str, Any]:
    """A report for JSON; those of all codecs have the same keys, whose values are empty where they are another codec's."""
    of_codecs = (one for codec in codecs().values() for one in dataclasses.fields(codec.report))
    empty = {one.name: one.default for one in of_codecs if one.default is not dataclasses.MISSING}
    derived = {"total_bytes": report.total_bytes, "bpp": report.bpp, "ratio": report.ratio}
    return {**empty, **dataclasses.asdict(report), **derived}
