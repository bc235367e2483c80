"""caecodec encode: converts image files and OME-NGFF groups to OME-NGFF groups or .cae files."""

import argparse
import dataclasses
from collections import Counter

from .. import settings
from ..codecs.base import Option
from ..codecs.registry import codecs
from ..ngff.options import DEPTHS, KINDS, NGFF_VERSIONS, PYRAMIDS, Options, codec_names
from ..storage.locations import parse_location
from .progress import Bars, outcome

SUMMARY = "Convert images, stacks, videos and OME-NGFF groups, or folders of them, to Zarr, or images to .cae files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec encode."""
    parser.add_argument(
        "inputs", nargs="+", type=parse_location, metavar="INPUT",
        help="image files, slides, videos, Zarr arrays or groups (also at URLs such as s3://...), or folders (with subfolders)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, type=parse_location,
        help="a folder; or with one image NAME.ome.zarr, NAME.ozx or NAME.cae",
    )  # fmt: skip
    parser.add_argument(
        "--to", default="ngff", choices=KINDS, help="what files become: OME-NGFF groups, or .cae files; default %(default)s"
    )
    parser.add_argument(
        "--codec", default="cae", choices=codec_names(), help="cae, overfitted, sae, or one to compare with; default cae"
    )
    _add_options_of_codecs(parser)

    layout = parser.add_argument_group("layout")
    layout.add_argument("--chunk-size", type=int, default=256, help="pixels a side, default %(default)s")
    layout.add_argument("--shard-size", type=int, help="pixels a side of a shard, a multiple of the chunk size; default none")
    layout.add_argument(
        "--ngff", default="0.5", choices=NGFF_VERSIONS, help="0.5 and 0.6 are Zarr v3, 0.4 is Zarr v2; default %(default)s"
    )

    layout.add_argument("--zipped", action="store_true", help="write groups as zipped files, NAME.ozx")
    layout.add_argument(
        "--pyramid", default="keep", choices=PYRAMIDS,
        help="keep the levels that a source has, or build all from the full size; default %(default)s",
    )  # fmt: skip

    content = parser.add_argument_group("slides and arrays")
    content.add_argument(
        "--background", metavar="auto|COLOUR|none",
        help="do not store background: a value or colour, or auto, a bright one; default auto for slides, none for others",
    )  # fmt: skip
    content.add_argument(
        "--background-tolerance", type=float, metavar="N",
        help="how far values of the background may be from it; default 8 for 8 bits and lossy codecs, else 0",
    )  # fmt: skip
    content.add_argument(
        "--associated", action="store_true",
        help="also convert the label, overview and thumbnail of slides, which may show a patient's name",
    )  # fmt: skip
    content.add_argument(
        "--axes", help="those of Zarr arrays that are no OME-NGFF images, such as yxc; default: as they say, or by their shape"
    )

    raw = parser.add_argument_group("raw .yuv files, planar 4:2:0")
    raw.add_argument("--size", type=_size, metavar="WIDTHxHEIGHT", help="default: as the file's name says")
    raw.add_argument("--depth", type=int, choices=DEPTHS, help="bits; default: as the file's name says, or 8")

    parser.add_argument(
        "--max-pixels", type=int, help="most pixels of an image file other than TIFF; default 178956970, as settings say"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument(
        "--resume", action="store_true", help="keep unfinished groups, and continue those that an earlier run has kept"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="convert N files at once, and write images that are larger than memory may be with N processes of "
        "dask.distributed, each with a GPU of its own if there are some; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="write such images with the workers of the scheduler of dask.distributed at ADDRESS, such as tcp://host:8786",
    )  # fmt: skip
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no list of outputs and no summary")


def run(arguments: argparse.Namespace) -> int:
    """Encode; 1 when any file failed."""
    from ..ngff.convert import encode_paths

    names = [field.name for field in dataclasses.fields(Options) if field.init and field.name != "others"]
    of_codecs = {option.name for codec in codecs().values() for option in codec.options}.difference(names)
    others = {name: getattr(arguments, name) for name in of_codecs}
    options = Options(**{name: getattr(arguments, name) for name in names}, others=others)
    limits = {} if arguments.max_pixels is None else {"max_pixels": arguments.max_pixels}
    with settings.using(**limits), Bars(arguments.quiet) as bars:
        written, failed = encode_paths(
            arguments.inputs, arguments.output, options, bars.files, bars.chunks, arguments.workers, arguments.scheduler
        )
    return outcome(written, failed, arguments.quiet, bars.state)


def _add_options_of_codecs(parser: argparse.ArgumentParser) -> None:
    """First the options that several codecs have, then a group for each codec."""
    several = Counter(option.name for codec in codecs().values() for option in codec.options)
    shared = {option.name: option for codec in codecs().values() for option in codec.options if several[option.name] > 1}
    for option in shared.values():
        _add(parser, option)
    travel = parser.add_mutually_exclusive_group()
    travel.add_argument(
        "--with-weights", action="store_true", default=None,
        help="store the weights in the group, to be read wherever it goes; default for weights that are not shipped",
    )  # fmt: skip
    travel.add_argument(
        "--without-weights", action="store_false", dest="with_weights", default=None, help="store no weights in the group"
    )
    for codec in codecs().values():
        group = parser.add_argument_group(codec.heading)
        for option in codec.options:
            if option.name not in shared:
                _add(group, option)
        if codec.shares:
            group.add_argument(
                "--shared", action="store_true", help="one network for all chunks of an array, fitted to at most 16 of them"
            )


def _add(parser: argparse._ActionsContainer, option: Option) -> None:
    names = [*([option.short] if option.short else []), "--" + option.name.replace("_", "-")]
    choices = option.choices() if callable(option.choices) else option.choices
    parser.add_argument(*names, dest=option.name, type=option.type, choices=choices, help=option.help)


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1920x1080")
    return int(width), int(height)
