"""Curves -> plots of dB against bits per pixel."""

from collections.abc import Sequence
from pathlib import Path

from . import extra
from .curves import LABELS, Curve, Metric

STYLES = {"caecodec": ("-", 2.4, "o"), "reference codec": ("-", 1.2, "."), "published": ("--", 1.0, ".")}
MARGIN = 1.5  # times caecodec's highest rate; points of other codecs beyond it are in the tables alone


def plot(curves: Sequence[Curve], metric: Metric, title: str, path: Path) -> None:
    """Write a PNG of the curves that have this metric; its axes cover 1.5 times the range of caecodec's rates."""
    drawn = [(curve, series) for curve in curves if (series := curve.series(metric))]
    colours = extra.module("matplotlib").color_sequences["tab20"]
    figure = extra.module("matplotlib.figure").Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for i, (curve, series) in enumerate(drawn):
        line, width, marker = STYLES[curve.kind]
        colour = colours[(2 * i + i // 10) % 20]  # the strong colours first, then their pale twins
        axes.plot(*zip(*series, strict=True), line, color=colour, linewidth=width, marker=marker, label=curve.name)
    right, low, high = limits(curves, metric)
    axes.set(xlim=(0, right), ylim=(low, high))
    axes.set(xlabel="bits per pixel", ylabel=LABELS[metric], title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path)


def limits(curves: Sequence[Curve], metric: Metric) -> tuple[float, float, float]:
    """How far a plot goes: 1.5 times caecodec's highest rate, and the lowest and highest dB up to there with some space."""
    drawn = [(curve.kind, curve.series(metric)) for curve in curves]
    right = MARGIN * max(bpp for kind, series in drawn if kind == "caecodec" for bpp, _ in series)
    seen = [db for _, series in drawn for bpp, db in series if bpp <= right]
    space = 0.04 * (max(seen) - min(seen)) or 1
    return right, min(seen) - space, max(seen) + space
