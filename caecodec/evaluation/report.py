"""caecodec report in Python: images -> one page that shows what codecs make of them, in a file that is complete or absent."""

from collections.abc import Sequence
from pathlib import Path

from ..codecs import registry
from ..errors import ParameterError
from ..storage.locations import Location, local, parse_paths
from ..storage.partial import complete_file, refuse_existing
from ..weights import DEFAULT
from . import compared
from .collect import collect
from .curves import Results
from .evaluate import SIDE
from .html_report import write_report
from .sweep import LineListener


def report(
    images: Sequence[Location],
    output: Location,
    *,
    codecs: Sequence[str | Path] = (DEFAULT, "jpeg", "jpeg2k", "avif"),
    metrics: Sequence[str] = ("mse",),
    qualities: Sequence[int] | None = None,
    gpu: bool | None = None,
    chunk: int = 256,
    every: int = 1,
    cache: Location | None = None,
    samples: int | None = None,
    side: int = SIDE,
    overwrite: bool = False,
    say: LineListener = lambda line: None,
) -> Results:
    """Measure codecs on images, and write one page with curves, tables and pictures.

    The page needs nothing else, and is the one that `evaluate` writes into its folder.

    output : the file to write, .html
    codecs : names of reference codecs (`compared.CODECS`) and of codecs of caecodec's registry; anything else stands for
        weights: an installed name, or the path of a weights file. At least one has to be caecodec's, and the first of these
        sets the rates at which pictures are shown
    metrics : the training distortions to measure, if the weights have them
    samples : how many images to show; None: all
    side : how much of an image to show: the middle side x side pixels; 0: all of it

    `evaluate` describes the others.

    Raises
    ------
    ParameterError
        An argument or image cannot be used, output exists, or a package of the extra eval is missing.
    WeightsError
        There are no such weights.
    """
    images, output = parse_paths(images), local(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ParameterError(f"output is {output} but its name must end with .html")
    if output.is_dir():
        raise ParameterError(f"{output} is a folder, so it is not overwritten; choose another name")
    refuse_existing(output, overwrite)
    registered = [str(name) for name in codecs if name in registry.codecs()]
    references = [str(name) for name in codecs if name in compared.CODECS]
    weights = [name for name in codecs if name not in (*registered, *references)]
    ours = (
        *compared.caecodec(weights, metrics, qualities, None, gpu),
        *compared.registered(registered, qualities, gpu),
    )
    if not ours:
        raise ParameterError(f"codecs are {', '.join(references) or 'none'} but one must be caecodec's; add default (--codecs)")
    results, comparisons = collect(
        images, ours, references, gpu=gpu, chunk=chunk, every=every, cache=None if cache is None else Path(cache), published=(),
        samples=samples, side=side, say=say,
    )  # fmt: skip
    with complete_file(output) as path:
        write_report(results, comparisons, path)
    return results
