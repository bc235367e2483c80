"""Results -> report.html, one page that needs neither a network nor other files.

The page is `page/page.html`, whose style sheets and scripts are put into it: those of `page/` and the libraries of
`page/vendor/`. Python writes the tables; the curves and pictures are JSON, which the scripts draw.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from .curves import LABELS, METRICS, BdRate, Curve, Metric, Pixels, Results
from .plots import limits
from .side_by_side import Comparison, Crop

_STYLES = ("vendor/uPlot.min.css", "vendor/img-comparison-slider.css", "vendor/sortable-base.min.css", "page.css")
_SCRIPTS = (
    "vendor/uPlot.iife.min.js", "vendor/img-comparison-slider.js", "vendor/panzoom.min.js", "vendor/sortable.min.js",
    "vendor/sortable.a11y.min.js", "theme.js", "curves.js", "pictures.js",
)  # fmt: skip
_Cell = tuple[str, float | None]  # a text, and what it is sorted by


def write_report(results: Results, comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the page: curves, pictures, BD-rates and all points."""
    chunks = f"Chunks of {results.chunk} x {results.chunk} pixels, each coded alone" if results.chunk else "Whole images"
    page = Template(_read("page.html")).substitute(
        styles="\n".join(map(_read, _STYLES)),
        scripts="\n".join(f"<script>{re.sub('(?m)^//# sourceMappingURL=.*', '', _read(name))}</script>" for name in _SCRIPTS),
        title=f"Rate and distortion of {len(results.images)} image{'s' if len(results.images) > 1 else ''}",
        chunks=chunks,
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in results.notes),
        bd_rates=_bd_table(results.bd_rates),
        points=_points_table(results.curves),
        codecs=_table(("codec", "configuration"), [(curve.name, curve.about) for curve in results.curves]),
        environment=_table(("", "environment"), results.environment.items()),
        images=escape(", ".join(f"{i.name} ({i.width} x {i.height})" for i in results.images)),
        data=_json({"charts": _charts(results.curves), "images": [_pictures(one) for one in comparisons]}),
    )
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _read(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _charts(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """For each metric that a curve of caecodec has: the axes' ranges, and the points of each curve by their rate."""
    return [
        {
            "label": LABELS[metric],
            "range": limits(curves, metric),
            "curves": [{"name": curve.name, "kind": curve.kind, "points": _points(curve, metric)} for curve in curves],
        }
        for metric in METRICS
        if any(curve.kind == "caecodec" and curve.series(metric) for curve in curves)
    ]


def _points(curve: Curve, metric: Metric) -> list[tuple[float, float, str]]:
    return sorted((point.bpp, db, point.setting) for point in curve.points if (db := point.db(metric)) is not None)


def _pictures(comparison: Comparison) -> dict[str, Any]:
    height, width, _ = comparison.original.shape
    return {
        "name": comparison.image,
        "width": width,
        "height": height,
        "original": _uri(comparison.original),
        "rates": [[_picture(crop) for crop in crops] for crops in comparison.rates],
    }


def _picture(crop: Crop) -> dict[str, str]:
    values = [f"{crop.values.bpp:.3f} bpp", f"{crop.values.psnr:.2f} dB" if math.isfinite(crop.values.psnr) else "exact"]
    if crop.values.ms_ssim is not None:
        values.append(f"MS-SSIM {crop.values.ms_ssim:.4f}")
    return {"codec": crop.name, "setting": crop.setting, "values": ", ".join(values), "source": _uri(crop.pixels)}


def _uri(pixels: Pixels) -> str:
    """A lossless picture as a data URI."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, quality=100, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _bd_table(rates: Sequence[BdRate]) -> str:
    pairs: dict[tuple[str, str], list[_Cell]] = {}
    for rate in rates:
        value = rate.note if rate.percent is None else f"{rate.percent:+.1f} % ({rate.low_db:.1f} to {rate.high_db:.1f} dB)"
        pairs.setdefault((rate.test, rate.reference), []).append((value, rate.percent))
    header = ("codec", "against", *(LABELS[metric] for metric in METRICS))
    return _table(header, [(*pair, *values) for pair, values in pairs.items()], sortable=True)


def _points_table(curves: Iterable[Curve]) -> str:
    header = ("codec", "setting", "bpp", "PSNR (dB)", "MS-SSIM", "MS-SSIM (dB)", "encode s/MP", "decode s/MP")
    rows = [
        (
            curve.name, point.setting, _number(point.bpp, 4), _number(point.psnr, 2), _number(point.ms_ssim, 4),
            _number(point.ms_ssim_db, 2), _number(point.encode_s_per_mp, 3), _number(point.decode_s_per_mp, 3),
        )
        for curve in curves
        for point in curve.points
    ]  # fmt: skip
    return _table(header, rows, sortable=True)


def _table(header: Sequence[str], rows: Iterable[Sequence[str | _Cell]], *, sortable: bool = False) -> str:
    """A table; its numbers, if it is sortable, are sorted by their values, and those that are absent come last."""
    head = "<tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header) + "</tr>"
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    kind = ' class="sortable asc n-last"' if sortable else ""
    return f'<div class="scroll"><table{kind}><thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _cell(cell: str | _Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    text, value = cell
    return f'<td class="number" data-sort="{"" if value is None else value}">{escape(text)}</td>'


def _number(value: float | None, digits: int) -> _Cell:
    return "absent" if value is None else f"{value:.{digits}f}", value
