"""Results -> results.json, points.csv and bd_rate.csv.

results.json holds everything, including the values of single images; its "codecs" has the form that `published` reads. Missing
values are null or empty, and numbers are written so that they read back exactly.
"""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from .curves import Measurement, Point, Results

POINT_COLUMNS = ("codec", "kind", "setting", "bpp", "psnr", "ms_ssim", "ms_ssim_db", "encode_s_per_mp", "decode_s_per_mp")
BD_COLUMNS = ("test", "reference", "metric", "percent", "low_db", "high_db", "note")


def write_json(results: Results, path: Path) -> None:
    """Write results.json."""
    measured = [curve for curve in results.curves if curve.kind != "published"]
    content = {
        "what": f"Rate-distortion points: bits per pixel of real bytes, PSNR (RGB, dB), MS-SSIM, and seconds per megapixel, "
        f"means over {len(results.images)} images ({_chunks(results.chunk)}).",
        "chunk": results.chunk,
        "images": [dataclasses.asdict(image) for image in results.images],
        "environment": results.environment,
        "notes": results.notes,
        "about": {curve.name: curve.about for curve in results.curves},
        "codecs": {curve.name: [_point(point) for point in curve.points] for curve in measured},
        "published": {c.name: [_point(point) for point in c.points] for c in results.curves if c.kind == "published"},
        "bd_rate": [dataclasses.asdict(rate) for rate in results.bd_rates],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_points(results: Results, path: Path) -> None:
    """Write points.csv, a row for each point of each curve."""
    rows = ((curve.name, curve.kind, *_row(point)) for curve in results.curves for point in curve.points)
    _write_csv(path, POINT_COLUMNS, rows)


def write_bd_rates(results: Results, path: Path) -> None:
    """Write bd_rate.csv."""
    _write_csv(path, BD_COLUMNS, (dataclasses.astuple(rate) for rate in results.bd_rates))


def _chunks(chunk: int) -> str:
    return f"chunks of {chunk} x {chunk} pixels, each coded alone" if chunk else "whole images"


def _row(point: Point) -> tuple[Any, ...]:
    return (
        point.setting, point.bpp, point.psnr, point.ms_ssim, point.ms_ssim_db, point.encode_s_per_mp, point.decode_s_per_mp,
    )  # fmt: skip


def _point(point: Point) -> dict[str, Any]:
    values = dict(zip(POINT_COLUMNS[2:], _row(point), strict=True))
    return {**values, "images": [_measurement(image) for image in point.images]} if point.images else values


def _measurement(image: Measurement) -> dict[str, Any]:
    values = dataclasses.asdict(image)
    return {**values, "psnr": image.psnr if math.isfinite(image.psnr) else None}


def _write_csv(path: Path, columns: tuple[str, ...], rows: Any) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
