"""Time and memory by the size of an array in a file store, from 1 MP to 1 GP; each size runs in a separate process."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import fresh
from .images import Pixels

SIZES = (1, 4, 16, 64, 256, 1024)  # units of 2^20 pixels
CHUNK = 512
QUALITY = 4
WHOLE = 0


def run(
    images: list[Pixels], up_to: int, regions: list[int], devices: list[str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each size, side of regions (WHOLE: the array in one call) and device; `child` describes its fields.

    Sizes above `up_to` megapixels are left out: their rows have `missing`, with an estimate of the time that they would take.
    """
    import numpy as np

    from .images import mosaic

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.npy"
        np.save(path, mosaic(images, 2048))
        for device in devices:
            for region in regions:
                per_megapixel = 0.0  # seconds, at the largest size so far
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
    """Write an 8-bit RGB array of `size` x 2^20 pixels to a LocalStore and read it, by regions or in one call.

    Returns seconds, speeds, `psnr`, and bytes of memory: `peak` is that of the process, `array` the pixels held at once, and
    `above` the peak minus `array` and minus the memory before the first write, when libraries and network are loaded. That is
    after a first chunk, which took `first_s`: a small one or, on a GPU, whose kernels are compiled for it, a whole one.
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
    first_side = CHUNK if codec.gpu else 64
    start = time.perf_counter()
    caecodec.decode(caecodec.encode(canvas[:first_side, :first_side], quality=QUALITY, gpu=codec.gpu), gpu=codec.gpu)
    first_s = time.perf_counter() - start
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
        "first_s": first_s, "write_s": seconds["write"], "read_s": seconds["read"], **rates,
        "psnr": psnr(errors, side * side * 3), "bpp": 8 * stored / side**2, "peak": peak, "array": held,
        "above": peak - before - held,
    }  # fmt: skip


def _blocks(rows: slice, columns: slice, step: int) -> Iterator[tuple[slice, slice]]:
    """Cut a region into squares of side `step`."""
    for y in range(rows.start, rows.stop, step):
        for x in range(columns.start, columns.stop, step):
            yield slice(y, min(y + step, rows.stop)), slice(x, min(x + step, columns.stop))


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    """A block relative to the corner of the region that contains it."""
    (y, x), (top, left) = inner, (outer[0].start, outer[1].start)
    return slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
