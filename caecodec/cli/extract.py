"""caecodec extract: copies arrays with fewer layers."""

import argparse

from ..storage.locations import parse_location

SUMMARY = "Copy a Zarr array or group with the first layers of its scalable arrays, without decoding a pixel."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec extract."""
    parser.add_argument("source", type=parse_location, metavar="SOURCE", help="an array or group; a path or URL")
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="a new folder")
    parser.add_argument("--layers", required=True, type=int, help="how many layers to keep, from the base on")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def run(arguments: argparse.Namespace) -> int:
    """Copy, and print how many bytes are left."""
    import time

    from ..arrays.extract import extract

    start = time.perf_counter()
    found = extract(arguments.source, arguments.output, arguments.layers, arguments.overwrite)
    seconds = time.perf_counter() - start
    if not arguments.quiet:
        print(
            f"{arguments.output}: {found.bytes_after} of {found.bytes_before} bytes in {found.chunks} chunks of {found.arrays} "
            f"arrays, {found.pixels / 1e6:.1f} megapixels in {seconds:.1f} s"
        )
    return 0
