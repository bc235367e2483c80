"""caecodec evaluate in Python: images -> curves, BD-rates, plots and a report, in a folder that is complete or absent."""

from collections.abc import Sequence
from pathlib import Path

from ..codecs import registry
from ..errors import ParameterError
from ..storage.locations import Location, local, parse_paths
from ..storage.partial import complete_folder, refuse_existing, refuse_nested
from ..weights import DEFAULT
from . import compared
from .collect import collect
from .compared import CODECS
from .curves import METRICS, Results
from .html_report import write_report
from .plots import plot
from .result_files import write_bd_rates, write_json, write_points
from .sweep import LineListener

RESULTS = "results.json"
SIDE = 320  # pixels a side of the parts of images that are shown


def evaluate(
    images: Sequence[Location],
    output: Location,
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
    cache: Location | None = None,
    references: Sequence[Location] = (),
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
    samples : how many images to show beside what the codecs make of them
    overwrite : replace an earlier evaluation at `output`
    say : called with each line of progress

    Raises
    ------
    ParameterError
        An argument, image or reference file cannot be used, output exists, or a package of the extra eval is missing.
    WeightsError
        There are no such weights.
    """
    images, references, output = parse_paths(images), parse_paths(references, "references"), local(output)
    refuse_existing(output, overwrite)
    if output.exists() and not (output / RESULTS).is_file():
        raise ParameterError(f"{output} holds no earlier evaluation, so it is not overwritten; choose another name")
    refuse_nested([output], images)
    if decoder and not overfitted:
        raise ParameterError(f"decoder is {decoder!r} but no preset of the overfitted codec is given; name one (--overfitted)")
    names = [name for name in codecs if name in registry.codecs()]
    ours = (
        *compared.caecodec(weights, metrics, qualities, entropy, gpu),
        *compared.overfitted(overfitted, qualities, decoder, gpu),
        *compared.registered(names, qualities, gpu),
    )
    if not ours:
        raise ParameterError("no weights and no presets are given: name weights (--weights) or presets (--overfitted)")
    results, comparisons = collect(
        images, ours, [name for name in codecs if name not in names], gpu=gpu, chunk=chunk, every=every,
        cache=None if cache is None else Path(cache), published=references, samples=samples, side=SIDE, say=say,
    )  # fmt: skip
    with complete_folder(output) as folder:
        folder.mkdir()
        write_json(results, folder / RESULTS)
        write_points(results, folder / "points.csv")
        write_bd_rates(results, folder / "bd_rate.csv")
        title = f"{len(results.images)} images, " + (f"chunks of {chunk} x {chunk}" if chunk else "whole")
        for metric in METRICS:
            if any(curve.kind == "caecodec" and curve.series(metric) for curve in results.curves):
                plot(results.curves, metric, title, folder / f"{metric}.png")
        write_report(results, comparisons, folder / "report.html")
    return results
