"""caecodec evaluate in Python: images -> curves, BD-rates, plots and a report, in a folder that is complete or absent."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..codecs import registry
from ..engine import DevicePlacement
from ..errors import ParameterError
from ..storage.partial import complete_folder, refuse_existing
from ..weights import DEFAULT
from . import compared, extra
from .bd_rates import compare
from .cache import Cache
from .compared import CODECS
from .curves import METRICS, Curve, Results
from .html_report import write_report
from .images import select_images
from .plots import plot
from .published import read_published
from .result_files import write_bd_rates, write_json, write_points
from .side_by_side import chosen, compare_crops
from .sweep import LineListener, notes, sweep

RESULTS = "results.json"
MIN_CHUNK = 16


def evaluate(
    images: Sequence[Path],
    output: Path,
    *,
    weights: Sequence[str | Path] = (DEFAULT,),
    metrics: Sequence[str] = ("mse", "ms-ssim"),
    qualities: Sequence[int] | None = None,
    entropy: str | None = None,
    overfitted: Sequence[str] = (),
    decoder: str | None = None,
    gpu: bool | None = None,
    codecs: Sequence[str] = CODECS,
    chunk: int = 256,
    every: int = 1,
    cache: Path | None = None,
    references: Sequence[Path] = (),
    samples: int = 3,
    overwrite: bool = False,
    say: LineListener = lambda line: None,
) -> Results:
    """Measure rate and distortion of caecodec and of other codecs on images, and write the results into `output`.

    The folder then holds results.json (with the values of single images), points.csv, bd_rate.csv, psnr.png, ms_ssim.png (if
    there is MS-SSIM), and report.html, which needs none of the others. It appears only when all of it is complete.

    images : image files, and folders and tar files of them; 8-bit RGB or grey, or what becomes that without loss
    output : the folder to write
    weights : installed names, or paths of weights files or checkpoints; each is a curve for each of its metrics; may be empty
    metrics : the training distortions to measure, if the weights have them
    qualities : operating points, 1 to 8; None: all that the weights have, and all of the overfitted codec
    entropy, gpu : as in `caecodec.encode`
    overfitted : presets of the overfitted codec, each of which is a curve; takes minutes for each image and quality
    decoder : the size of the overfitted codec's networks
    codecs : reference codecs, some of CODECS, and codecs of caecodec's registry
    chunk : pixels a side, 16 or more; 0: whole images
    every : take only each `every`-th image, from the first
    cache : a file in which results are saved as they come, and from which those of earlier calls, seconds included, are reused
    references : JSON files of published points, in the form that `published` describes
    samples : how many images to show side by side
    overwrite : replace an earlier evaluation at `output`
    say : called with each line of progress

    Raises
    ------
    ParameterError
        An argument, image or reference file cannot be used, output exists, or a package of the extra eval is missing.
    WeightsError
        There are no such weights.
    """
    _check(output, chunk, every, samples, overwrite)
    for name in extra.MODULES:
        extra.module(name)
    if decoder and not overfitted:
        raise ParameterError(f"decoder is {decoder!r} but no preset of the overfitted codec is given; name one (--overfitted)")
    ours = (
        *compared.caecodec(weights, metrics, qualities, entropy, gpu),
        *compared.overfitted(overfitted, qualities, decoder, gpu),
        *compared.registered([name for name in codecs if name in registry.codecs()], qualities, gpu),
    )
    if not ours:
        raise ParameterError("no weights and no presets are given: name weights (--weights) or presets (--overfitted)")
    runs = (*ours, *compared.references([name for name in codecs if name not in registry.codecs()]))
    published: list[Curve] = []
    for reference in references:
        taken = [run.name for run in runs] + [curve.name for curve in published]
        published += read_published(reference, taken)
    saved = None if cache is None else Cache(cache)
    files = select_images(images, every)
    infos = tuple(file.info for file in files)
    for note in notes(infos, ()):
        say(note)
    shown = chosen(len(files), samples)
    swept = sweep(files, runs, chunk, say, saved, shown)
    curves = (*swept.curves, *published)
    results = Results(infos, chunk, curves, compare(curves), notes(infos, curves), _environment(gpu))
    comparisons = compare_crops(files, swept, shown)
    with complete_folder(output) as folder:
        folder.mkdir()
        write_json(results, folder / RESULTS)
        write_points(results, folder / "points.csv")
        write_bd_rates(results, folder / "bd_rate.csv")
        title = f"{len(files)} images, " + (f"chunks of {chunk} x {chunk}" if chunk else "whole")
        drawn = [metric for metric in METRICS if any(c.kind == "caecodec" and c.series(metric) for c in curves)]
        for metric in drawn:
            plot(curves, metric, title, folder / f"{metric}.png")
        write_report(results, [folder / f"{metric}.png" for metric in drawn], comparisons, folder / "report.html")
    return results


def _check(output: Path, chunk: int, every: int, samples: int, overwrite: bool) -> None:
    if chunk and chunk < MIN_CHUNK:
        raise ParameterError(f"chunk is {chunk} but must be {MIN_CHUNK} or more pixels a side, or 0 for whole images")
    if every < 1:
        raise ParameterError(f"every is {every} but must be 1 (all images) or more")
    if samples < 0:
        raise ParameterError(f"samples is {samples} but must be 0 or more images")
    refuse_existing(output, overwrite)
    if output.exists() and not (output / RESULTS).is_file():
        raise ParameterError(f"{output} holds no earlier evaluation, so it is not overwritten; choose another name")


def _environment(gpu: bool | None) -> dict[str, str]:
    """The versions and hardware that the seconds depend on."""
    import torch

    place = DevicePlacement.choose(gpu)
    return {
        "caecodec": __version__,
        "imagecodecs": str(extra.module("imagecodecs").__version__),
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} PyTorch threads",
        "device of caecodec": f"{place.device}, {place.precision}",
    }
