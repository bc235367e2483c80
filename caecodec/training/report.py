"""Reports of a training run: curves, measurements on held-out images, and a model card."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import weights
from ..bitstream.scalable import first_layers
from ..codecs.autoencoder import codec
from ..codecs.decoding import decode
from ..codecs.scalable.interface import SCALABLE
from ..errors import ParameterError
from ..images.metrics import ms_ssim, psnr
from ..storage.partial import complete_file
from .recipe import Recipe

if TYPE_CHECKING:
    from .loop import Training

CROP = 512  # side in pixels of the part of a held-out image that is measured
FORMULAS = {"mse": "255^2 MSE", "mae": "MAE", "ms-ssim": "(1 - MS-SSIM)", "lpips": "LPIPS"}
MOST = 32  # the most held-out images that are measured
SMALLEST = 176


class HeldOutResult(NamedTuple):
    """Means over held-out crops at one quality, or of the layers up to one, measured on real payloads."""

    quality: int
    bpp: float
    psnr: float
    ms_ssim: float


def require() -> None:
    """Raise ParameterError, before training starts, unless the packages of the extra are installed."""
    try:
        import matplotlib  # noqa: F401  # only whether it is installed matters
        import pytorch_msssim  # noqa: F401  # only whether it is installed matters
    except ImportError as error:
        raise ParameterError(f"training needs {error.name}, which is not installed: pip install 'caecodec[train]'") from error


def validate(source: weights.Source, images: Iterable[npt.NDArray[np.uint8]]) -> list[HeldOutResult]:
    """Measure the weights on the middle 512x512 pixels, or fewer, of up to 32 images.

    Images smaller than 176x176 are skipped.
    """
    crops: list[npt.NDArray[np.uint8]] = []
    for image in images:
        height, width = (min(CROP, side) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        if min(height, width) >= SMALLEST and len(crops) < MOST:
            crops.append(np.array(image[top : top + height, left : left + width]))
    rows: list[list[tuple[float, float, float]]] = [[] for _ in source.qualities]
    for crop in crops:
        for row, payload in zip(rows, _payloads(source, crop), strict=True):
            decoded = decode(payload, weights=source.location or source.spec)
            bpp = 8 * len(payload) / (crop.shape[0] * crop.shape[1])
            row.append((bpp, psnr(crop, decoded), ms_ssim(crop, decoded)))
    if not crops:
        return []
    return [HeldOutResult(point, *np.mean(row, axis=0).tolist()) for point, row in zip(source.qualities, rows, strict=True)]


def _payloads(source: weights.Source, crop: npt.NDArray[np.uint8]) -> list[bytes]:
    """The payload of each quality, or the first layers up to each, of a crop."""
    options: dict[str, Any] = {"metric": source.metric, "weights": source.location or source.spec}
    if "layers" in weights.load(source, source.qualities[0]).tables:
        every = SCALABLE.encode(SCALABLE.parse(**options), crop)
        return [first_layers(every, layer) for layer in source.qualities]
    return [codec.encode(crop, quality=quality, **options) for quality in source.qualities]


def draw(history: Sequence[dict[str, Any]], recipe: Recipe, path: Path) -> None:
    """Draw a PNG of the loss, and of the bpp and PSNR (or MS-SSIM in dB) of each point, by step; none without history."""
    from matplotlib.figure import Figure

    if not history:
        return
    figure = Figure(figsize=(12, 4), layout="constrained")
    steps = [row["step"] for row in history]
    loss, bpp, psnr, distortion = (
        np.array([row[key] for row in history], np.float64).reshape(len(history), -1)
        for key in ("loss", "bpp", "psnr", "distortion")
    )
    last = ("PSNR (dB)", psnr) if recipe.shown == "mse" else ("MS-SSIM (dB)", -10 * np.log10(distortion))
    labels = [f"{recipe.kind} {point}" for point in recipe.points]
    for axes, (label, values) in zip(figure.subplots(1, 3), (("loss", loss), ("bpp", bpp), last), strict=True):
        axes.plot(steps, values, label=labels if label != "loss" else None)
        axes.set(xlabel="step", ylabel=label, yscale="log" if label == "loss" else "linear")
        axes.grid(alpha=0.3)
        if label != "loss":
            axes.legend(fontsize="small")
    with complete_file(path) as partial:
        figure.savefig(partial, dpi=100)


def model_card(source: weights.Source, images: Sequence[Path], training: "Training", points: Sequence[HeldOutResult]) -> str:
    """A model card in Markdown: how the weights were made and what they achieve."""
    recipe = training.recipe
    qualities = ", ".join(map(str, recipe.qualities))
    layers = "" if recipe.layers is None else f" as the last of {recipe.layers} layers"
    crops, loaded = training.crops, weights.load(source, source.qualities[0])
    channels = ", ".join(f"{count} {kind}" for kind, count in loaded.family.channels(loaded.network).items())
    half = any(tensor.dtype == np.float16 for tensor in weights.read_tensors(source).values())
    terms = [f"{'' if weight == 1 else f'{weight:g} '}{FORMULAS[name]}" for name, weight in recipe.distortions.items()]
    distortion = terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"
    lines = [
        f"# {source.name}",
        "",
        f"SHA-256 {source.sha256}",
        "",
        "| | |",
        "|---|---|",
        f"| network | {loaded.family.name}, {channels} channels, {'fp16' if half else 'fp32'} |",
        f"| qualities | {qualities}{layers}, metric {recipe.metric} |",
        f"| loss | bits per pixel + lmbda {distortion}, lmbda {', '.join(f'{lmbda:g}' for lmbda in recipe.lmbdas)} |",
        f"| start | {training.init} |",
        f"| steps | {training.step}, {training.epoch:.1f} epochs, in {training.seconds / 60:.0f} minutes on {training.device}; "
        f"Adam, {recipe.learning_rate:g} with cosine decay, averaged weights; "
        f"{recipe.crops} crops of {recipe.size}x{recipe.size} a step, of all "
        f"{'qualities' if recipe.layers is None else 'layers'}; seed {recipe.seed} |",
        f"| data | {', '.join(path.name for path in images)}: {crops.images} images, "
        f"{len(crops.pixels) / 1e6:.0f} megapixels |",
        "| licence notes | of the training images: say here under which terms they may be used |",
    ]
    if points:
        lines += ["", *held_out_table(recipe.kind, points)]
    return "\n".join(lines) + "\n"


def held_out_table(kind: str, points: Sequence[HeldOutResult]) -> list[str]:
    """The lines of a table in Markdown of what `validate` measured; `kind` says what its points are."""
    return [
        f"Held-out images, the middle {CROP}x{CROP} pixels of up to {MOST}, real bytes with headers:",
        "",
        f"| {kind} | bpp | PSNR | MS-SSIM |",
        "|---|---|---|---|",
        *(f"| {p.quality} | {p.bpp:.3f} | {p.psnr:.2f} | {p.ms_ssim:.4f} |" for p in points),
    ]
