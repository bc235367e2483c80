"""Time and memory against the size of an array in a file store, from 1 MP to 1 GP, each size in a process of its own."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import fresh
from .images import Pixels

SIZES = (1, 4, 16, 64, 256, 1024)  # of 2^20 pixels
CHUNK = 512
QUALITY = 4
WHOLE = 0


def run(
    images: list[Pixels], up_to: int, regions: list[int], devices: list[str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each size up to `up_to` megapixels, side of regions (WHOLE: the array in one call) and device; see `child`.

    Rows of sizes that are left out have `missing`, with an estimate of the time they would take.
    """
    import numpy as np

    from .images import mosaic

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.npy"
        np.save(path, mosaic(images, 2048))
        for device in devices:
            for region in regions:
                per_megapixel = 0.0  # seconds, as of the largest size so far
                for size in SIZES:
                    row = {"size": size, "region": region, "device": device}
                    if size > up_to:
                        about = f"about {per_megapixel * size / 60:.1f} min" if per_megapixel else "unknown time"
                        rows.append({**row, "missing": f"not run ({about}): --up-to {size}"})
                        continue
                    say(f"scaling: {size} MP, {'whole' if region == WHOLE else f'regions of {region}'}, {device}")
                    try:
                        found = fresh.call("scaling", "child", source=str(path), folder=folder, **row)
                    except RuntimeError as error:
                        rows.append({**row, "missing": str(error)})
                        continue
                    per_megapixel = (found["write_s"] + found["read_s"]) / size
                    rows.append({**row, "missing": None, **found})
    return rows


def child(source: str, folder: str, size: int, region: int, device: str) -> dict[str, Any]:
    """An array of `size` x 2^20 pixels, 8-bit RGB, written to a LocalStore and read from it, by regions or in one call.

    Seconds, speeds, `psnr`, and bytes: `peak` of the process; `array`, the part of the pixels that is held in memory at once;
    `above`, the peak above that and what the process had before the first write, with libraries and network loaded.
    """
    import numpy as np
    import zarr

    import caecodec

    from .images import psnr, squared_errors
    from .images import region as part

    canvas = np.load(source)
    side = round(size**0.5 * 1024)
    step = min(region or side, side)
    codec = caecodec.zarr.ConvolutionalAutoencoder(quality=QUALITY, gpu=device == "cuda")
    caecodec.decode(caecodec.encode(canvas[:64, :64], quality=QUALITY, gpu=codec.gpu), gpu=codec.gpu)
    before = fresh.resident_bytes()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        z = zarr.create_array(
            Path(place) / "a.zarr", shape=(side, side, 3), dtype="uint8", chunks=(CHUNK, CHUNK, 3), serializer=codec,
            compressors=None,
        )  # fmt: skip
        regions = list(_blocks(slice(0, side), slice(0, side), step))
        seconds = {"write": 0.0, "read": 0.0}
        for where in regions:
            pixels: Pixels = np.empty((*(s.stop - s.start for s in where), 3), np.uint8)
            for inner in _blocks(*where, CHUNK):
                pixels[_within(inner, where)] = part(canvas, *inner)
            start = time.perf_counter()
            z[where] = pixels
            seconds["write"] += time.perf_counter() - start
            del pixels
        stored = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
        errors = 0.0
        for where in regions:
            start = time.perf_counter()
            pixels = np.asarray(z[where])
            seconds["read"] += time.perf_counter() - start
            errors += sum(
                squared_errors(pixels[_within(inner, where)], part(canvas, *inner)) for inner in _blocks(*where, CHUNK)
            )
            del pixels
    peak, held = fresh.peak_bytes(), step * step * 3
    rates = {f"{name}_mp_s": side * side / 1e6 / taken for name, taken in seconds.items()}
    return {
        "write_s": seconds["write"], "read_s": seconds["read"], **rates, "psnr": psnr(errors, side * side * 3),
        "bpp": 8 * stored / side**2, "peak": peak, "array": held, "above": peak - before - held,
    }  # fmt: skip


def _blocks(rows: slice, columns: slice, step: int) -> Iterator[tuple[slice, slice]]:
    """Squares of `step` that make up a region."""
    for y in range(rows.start, rows.stop, step):
        for x in range(columns.start, columns.stop, step):
            yield slice(y, min(y + step, rows.stop)), slice(x, min(x + step, columns.stop))


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    """A block, counted from the corner of the region that it is in."""
    (y, x), (top, left) = inner, (outer[0].start, outer[1].start)
    return slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
