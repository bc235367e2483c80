"""caecodec inspect: what is in a .cae file, an array or a group."""

import argparse
import dataclasses
import json

from ..storage.locations import parse_location

SUMMARY = "Show format, weights, geometry and bytes by part of a .cae file, a Zarr array, or the arrays of a group."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec inspect."""
    parser.add_argument(
        "path", type=parse_location, metavar="PATH", help="a .cae file, a Zarr array or a group, also zipped or at a URL"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print a report for each array."""
    from ..arrays.inspection import inspect

    reports = inspect(arguments.path)
    if arguments.json:
        derived = [{"total_bytes": report.total_bytes, "bpp": report.bpp, "ratio": report.ratio} for report in reports]
        print(json.dumps([{**dataclasses.asdict(r), **more} for r, more in zip(reports, derived, strict=True)], indent=2))
    else:
        print("\n\n".join(map(str, reports)))
    return 0
