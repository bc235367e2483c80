"""caecodec train: trains weights on your images."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import registry
from ..storage.locations import parse_location
from .qualities import parse_qualities

if TYPE_CHECKING:
    from ..training.loop import TrainingReport
    from ..training.recipe import Recipe

SUMMARY = "Train weights on your own images, starting from shipped weights or from the images' principal components."
EVERY = 15  # seconds between lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec train."""
    parser.add_argument(
        "data",
        nargs="+",
        type=Path,
        metavar="DATA",
        help="images, folders and tar files of them, RGB Zarr arrays, OME-NGFF groups",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=parse_location, help="NAME.safetensors; NAME.ckpt, .png and .md go beside it"
    )
    parser.add_argument(
        "-q",
        "--qualities",
        help="within 1 to 5 or within 6 to 8, such as 1-5 or 1,3; default 1-5, or 8 with --layers",
    )
    parser.add_argument("-m", "--metric", choices=["mse", "ms-ssim"], help="default mse, or with --loss as it suits that")
    parser.add_argument(
        "--layers",
        type=int,
        help="train weights of layers, for ScalableAutoencoder, with this many of them; the quality is that of the last one",
    )
    parser.add_argument(
        "--loss",
        help="bpp and weighted distortions of mse, mae, ms-ssim and lpips, such as bpp+mae+ms-ssim=2+lpips=0.5; default bpp "
        "and the metric",
    )
    parser.add_argument(
        "--lpips-backbone",
        type=Path,
        metavar="FILE",
        help="for lpips in the loss: the state dict of torchvision's AlexNet; default: torchvision downloads it",
    )
    parser.add_argument(
        "--family",
        default=registry.DEFAULT,
        choices=[family.name for family in registry.families()],
        help="the network's architecture, default %(default)s",
    )
    parser.add_argument(
        "--init",
        help="start from weights of this family, by name or path, from a checkpoint, from klt (the images' principal "
        "components) or from random; default the shipped weights of this family for this metric and quality, klt if there are "
        "none",
    )
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps; this, --epochs or --minutes")
    parser.add_argument(
        "--epochs", type=float, default=0.0,
        help="stop after this many passes over the images: when the crops that were drawn have so many times their pixels",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time, not counting the fit of tables")
    parser.add_argument("--crop", type=int, help="pixels a side of crops, default 128, or 192 on a GPU and for ms-ssim")
    parser.add_argument("--batch", type=int, help="crops in a step, at least one of each quality; default by the device")
    parser.add_argument("--lr", type=float, help="learning rate, default that of the family")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--validation", type=float, default=0.05, help="share of the images that is held out, default %(default)s"
    )
    parser.add_argument("--name", help="name of the weights, default that of the output")
    parser.add_argument("--resume", action="store_true", help="continue from NAME.ckpt")
    parser.add_argument("--save-every", type=float, default=300, help="seconds between checkpoints, default %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--gpu", action="store_true", default=None, help="use CUDA where present")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile: slower to start, faster steps; default on CUDA"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Train; return 130 after an interrupt, which leaves a checkpoint."""
    from ..training.recipe import Recipe, default_metric
    from ..training.start import default_init
    from ..training.train import train

    recipe = Recipe(
        qualities=parse_qualities(arguments.qualities or ("1-5" if arguments.layers is None else "8")),
        metric=arguments.metric or default_metric(arguments.loss),
        steps=arguments.steps,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        crop=arguments.crop,
        batch=arguments.batch,
        lr=arguments.lr,
        seed=arguments.seed,
        family=arguments.family,
        loss=arguments.loss,
        layers=arguments.layers,
    )
    init = arguments.init or default_init(recipe)
    if not arguments.quiet:
        start = f"continues from {arguments.output.with_suffix('.ckpt')}" if arguments.resume else f"starts from {init}"
        print(f"{recipe.family} {start}", flush=True)
    try:
        source = train(
            arguments.data,
            arguments.output,
            recipe,
            init=init,
            name=arguments.name,
            validation=arguments.validation,
            gpu=arguments.gpu,
            compiled=arguments.compile,
            lpips_backbone=arguments.lpips_backbone,
            resume=arguments.resume,
            save_every=arguments.save_every,
            overwrite=arguments.overwrite,
            on_report=(lambda report: None) if arguments.quiet else Progress(recipe),
        )
    except KeyboardInterrupt:
        checkpoint = arguments.output.with_suffix(".ckpt")
        print(
            f"caecodec: interrupted; if training had begun, {checkpoint} is complete: continue with --resume, or turn it into "
            f"weights with caecodec export {checkpoint} DATA -o {arguments.output}",
            file=sys.stderr,
        )
        return 130
    print(f"{source.location}: {source}, SHA-256 {source.sha256}")
    return 0


class Progress:
    """Prints reports as lines, at most one every fifteen seconds: bpp, and PSNR or MS-SSIM, of each quality or layer."""

    def __init__(self, recipe: "Recipe") -> None:
        self.metric, self.names = recipe.shown, [f"{recipe.kind[0]}{point}" for point in recipe.points]
        self.last = (0.0, 0, 0.0)  # when, step and seconds of the last line

    def __call__(self, report: "TrainingReport") -> None:
        """Print a report."""
        now = time.monotonic()
        if now - self.last[0] < EVERY and report.left > 0:
            return
        rate = (report.step - self.last[1]) / max(1e-9, report.seconds - self.last[2])
        self.last = (now, report.step, report.seconds)
        values = [f"{db:.2f} dB" for db in report.psnr]
        if self.metric == "ms-ssim":
            values = [f"{1 - distortion:.4f}" for distortion in report.distortion]
        points = "  ".join(
            f"{name} {bpp:.3f} bpp {value}" for name, bpp, value in zip(self.names, report.bpp, values, strict=True)
        )
        print(
            f"step {report.step}, epoch {report.epoch:.1f}, {rate:.1f} a second, {report.left / 60:.0f} min left: "
            f"loss {report.loss:.3f}  {points}",
            flush=True,
        )
