"""caecodec encode: image files and OME-NGFF groups to OME-NGFF groups or .cae files."""

import argparse
from pathlib import Path

from ..ngff.options import CODECS, NGFF_VERSIONS, Options
from ..weights import DEFAULT
from .report import outcome, progress

SUMMARY = "Convert images, stacks and OME-NGFF groups, or folders of them, to OME-NGFF Zarr (or one image to a .cae file)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec encode."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="image files, OME-NGFF groups, or folders of them"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path,
        help="a folder; or with one image NAME.ome.zarr or NAME.cae",
    )  # fmt: skip
    parser.add_argument("-q", "--quality", type=int, help="1 (smallest) to 8 (best), default 8")
    parser.add_argument("--psnr", type=float, help="instead of quality: what each chunk must reach, in dB")
    parser.add_argument("--bpp", type=float, help="instead of quality: the most bits per pixel of each chunk")
    parser.add_argument("--max-error", type=float, help="a bound on the error of every value, in its units; 0: lossless")
    parser.add_argument("-m", "--metric", default="mse", choices=["mse", "ms-ssim"], help="default %(default)s")
    parser.add_argument("--weights", default=DEFAULT, help="an installed name, or the path of a weights file or checkpoint")
    parser.add_argument("--entropy", choices=["context", "static"], help="default context where the weights have it")
    parser.add_argument("--codec", default="cae", choices=CODECS, help="cae, or another to compare with; default %(default)s")
    parser.add_argument("--chunk-size", type=int, default=256, help="pixels a side, default %(default)s")
    parser.add_argument("--shard-size", type=int, help="pixels a side of a shard, a multiple of the chunk size; default none")
    parser.add_argument(
        "--ngff", default="0.5", choices=NGFF_VERSIONS, help="0.5 is Zarr v3, 0.4 is Zarr v2; default %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no list of outputs")


def run(arguments: argparse.Namespace) -> int:
    """Encode; 1 when any file failed."""
    from ..ngff.convert import encode_paths

    options = Options(
        quality=arguments.quality,
        metric=arguments.metric,
        weights=arguments.weights,
        codec=arguments.codec,
        chunk_size=arguments.chunk_size,
        shard_size=arguments.shard_size,
        ngff=arguments.ngff,
        overwrite=arguments.overwrite,
        gpu=arguments.gpu,
        entropy=arguments.entropy,
        max_error=arguments.max_error,
        psnr=arguments.psnr,
        bpp=arguments.bpp,
    )
    written, failed = encode_paths(arguments.inputs, arguments.output, options, progress(arguments.quiet))
    return outcome(written, failed, arguments.quiet)
