"""Results -> report.html, one page that needs neither a network nor other files."""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from .curves import LABELS, METRICS, BdRate, Curve, Pixels, Results
from .side_by_side import Comparison, Crop

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .15em .8em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
td:first-child, th:first-child { text-align: left }
tr.first td { border-top: 2px solid #999 }
img { max-width: 100% }
.crops { display: flex; flex-wrap: wrap; gap: 12px }
.crops img { image-rendering: pixelated; max-width: none }
figure { margin: 0 } figcaption { font-size: 13px; line-height: 1.35; max-width: 192px }
.note { color: #666 }
"""


def write_report(results: Results, plots: Sequence[Path], comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the page: curves (PNG files at `plots`), BD-rates, crops and all points."""
    chunks = f"chunks of {results.chunk} x {results.chunk} pixels, each coded alone" if results.chunk else "whole images"
    parts = [
        f"<h1>Rate and distortion of {len(results.images)} images</h1>",
        f"<p>{chunks}. Bits per pixel are those of real bytes, headers included; all values are means over the images. "
        "Distortion is that of the whole RGB image, reassembled from its chunks. MS-SSIM in dB is -10 log10(1 - MS-SSIM) "
        "of the mean.</p>",
        *(f"<p><strong>{escape(note)}</strong></p>" for note in results.notes),
        "<h2>Curves</h2>",
        *(f'<p><img alt="{plot.stem} against bits per pixel" src="{_uri(plot.read_bytes())}"></p>' for plot in plots),
        "<h2>BD-rate</h2>",
        "<p>The mean difference in bits at equal distortion, in percent, over the range of dB that both curves cover; negative "
        "if the first codec needs fewer bits.</p>",
        _bd_table(results.bd_rates),
        "<h2>Side by side</h2>" if comparisons else "",
        *map(_side_by_side, comparisons),
        "<h2>Points</h2>",
        _points_table(results.curves),
        "<h2>How it was measured</h2>",
        "<p>Seconds are wall-clock time, one chunk after the other, with as many threads as each library chooses.</p>",
        _table(("codec", "configuration"), [(curve.name, curve.about) for curve in results.curves]),
        _table(("", "environment"), results.environment.items()),
        "<p>Images: " + escape(", ".join(f"{i.name} ({i.width} x {i.height})" for i in results.images)) + "</p>",
    ]
    head = f'<meta charset="utf-8"><title>caecodec evaluate</title><style>{_STYLE}</style>'
    text = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _bd_table(rates: Sequence[BdRate]) -> str:
    pairs: dict[tuple[str, str], list[str]] = {}
    for rate in rates:
        value = rate.note if rate.percent is None else f"{rate.percent:+.1f} % ({rate.low_db:.1f} to {rate.high_db:.1f} dB)"
        pairs.setdefault((rate.test, rate.reference), []).append(value)
    header = ("codec", "against", *(LABELS[metric] for metric in METRICS))
    return _table(header, [(*pair, *values) for pair, values in pairs.items()])


def _points_table(curves: Iterable[Curve]) -> str:
    header = ("codec", "setting", "bpp", "PSNR (dB)", "MS-SSIM", "MS-SSIM (dB)", "encode s/MP", "decode s/MP")
    rows = [
        (
            curve.name, point.setting, f"{point.bpp:.4f}", _number(point.psnr, 2), _number(point.ms_ssim, 4),
            _number(point.ms_ssim_db, 2), _number(point.encode_s_per_mp, 3), _number(point.decode_s_per_mp, 3),
        )
        for curve in curves
        for point in curve.points
    ]  # fmt: skip
    return _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line above each row whose first cell differs from that of the row before."""
    lines, before = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"], None
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f'<tr class="first">{cells}</tr>' if row[0] != before else f"<tr>{cells}</tr>")
        before = row[0]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _side_by_side(comparison: Comparison) -> str:
    figures = [_figure(comparison.original, "original<br>24 bpp"), *(_figure(c.pixels, _caption(c)) for c in comparison.crops)]
    first = comparison.crops[0]
    title = f"{comparison.image}, {first.name} {first.setting}, others at the nearest rate"
    note = '<p class="note">The middle of the image, pixel for pixel; the values are those of the whole image.</p>'
    return f'<h3>{escape(title)}</h3>{note}<div class="crops">{"".join(figures)}</div>'


def _caption(crop: Crop) -> str:
    quality = f"{crop.values.psnr:.2f} dB" if math.isfinite(crop.values.psnr) else "exact"
    similarity = "" if crop.values.ms_ssim is None else f", MS-SSIM {crop.values.ms_ssim:.4f}"
    return f"{escape(crop.name)}, {escape(crop.setting)}<br>{crop.values.bpp:.3f} bpp, {quality}{similarity}"


def _figure(pixels: Pixels, caption: str) -> str:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    return f'<figure><img {size} alt="" src="{_uri(stream.getvalue())}"><figcaption>{caption}</figcaption></figure>'


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _number(value: float | None, digits: int) -> str:
    return "absent" if value is None else f"{value:.{digits}f}"
