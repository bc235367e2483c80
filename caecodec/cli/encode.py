"""caecodec encode: converts image files and OME-NGFF groups to OME-NGFF groups or .cae files."""

import argparse
import dataclasses
from pathlib import Path

from ..codecs.overfitted.architecture import DECODERS
from ..codecs.overfitted.parameters import PRESETS
from ..ngff.options import CODECS, DEPTHS, NGFF_VERSIONS, Options
from .progress import Bars, outcome

SUMMARY = "Convert images, stacks, videos and OME-NGFF groups, or folders of them, to Zarr (or one image to a .cae file)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec encode."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="image or video files, OME-NGFF groups, or folders of them"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path,
        help="a folder; or with one image NAME.ome.zarr or NAME.cae",
    )  # fmt: skip
    parser.add_argument("--codec", default="cae", choices=CODECS, help="cae, overfitted, or one to compare with; default cae")
    parser.add_argument("-q", "--quality", type=int, help="1 (smallest) to 8 (best), default 8")

    cae = parser.add_argument_group("of codec cae")
    cae.add_argument("--psnr", type=float, help="instead of quality: what each chunk must reach, in dB")
    cae.add_argument("--bpp", type=float, help="instead of quality: the most bits per pixel of each chunk")
    cae.add_argument("--max-error", type=float, help="a bound on the error of every value, in its units; 0: lossless")
    cae.add_argument("-m", "--metric", choices=["mse", "ms-ssim"], help="default mse")
    cae.add_argument("--weights", help="an installed name, or the path of a weights file or checkpoint")
    travel = cae.add_mutually_exclusive_group()
    travel.add_argument(
        "--with-weights", action="store_true", default=None,
        help="store the weights in the group, to be read wherever it goes; default for weights that are not shipped",
    )  # fmt: skip
    travel.add_argument(
        "--without-weights", action="store_false", dest="with_weights", default=None, help="store no weights in the group"
    )
    cae.add_argument("--entropy", choices=["context", "static"], help="default context where the weights have it")

    overfitted = parser.add_argument_group("of codec overfitted, which fits a network to each chunk")
    overfitted.add_argument(
        "--lmbda", type=float, help="instead of quality: squared error (of 0 to 1) that a bit per pixel is worth"
    )
    overfitted.add_argument("--preset", choices=PRESETS, help="how long to fit; default fast")
    overfitted.add_argument("--decoder", choices=DECODERS, help="size of the network; default by the size of a chunk")
    overfitted.add_argument("--seed", type=int, help="of random numbers; default 0")
    overfitted.add_argument(
        "--shared", action="store_true", help="one network for all chunks of an array, fitted to at most 16 of them"
    )

    layout = parser.add_argument_group("layout")
    layout.add_argument("--chunk-size", type=int, default=256, help="pixels a side, default %(default)s")
    layout.add_argument("--shard-size", type=int, help="pixels a side of a shard, a multiple of the chunk size; default none")
    layout.add_argument(
        "--ngff", default="0.5", choices=NGFF_VERSIONS, help="0.5 is Zarr v3, 0.4 is Zarr v2; default %(default)s"
    )

    raw = parser.add_argument_group("raw .yuv files, planar 4:2:0")
    raw.add_argument("--size", type=_size, metavar="WIDTHxHEIGHT", help="default: as the file's name says")
    raw.add_argument("--depth", type=int, choices=DEPTHS, help="bits; default: as the file's name says, or 8")

    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument(
        "--resume", action="store_true", help="keep unfinished groups, and continue those that an earlier run has kept"
    )
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no list of outputs")


def run(arguments: argparse.Namespace) -> int:
    """Encode; 1 when any file failed."""
    from ..ngff.convert import encode_paths

    names = [field.name for field in dataclasses.fields(Options) if field.init]
    options = Options(**{name: getattr(arguments, name) for name in names})
    with Bars(arguments.quiet) as bars:
        written, failed = encode_paths(arguments.inputs, arguments.output, options, bars.images, bars.chunks)
    return outcome(written, failed, arguments.quiet)


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1920x1080")
    return int(width), int(height)
