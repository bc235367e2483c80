"""Conversion of a slide with several codecs: python tests/benchmarks/slide.py [IMAGES] [--megapixels N] [--runs NAMES].

Writes a tiled BigTIFF file (JPEG, quality 90, tiles of 256x256) made of tiles of the images, turned and mirrored, and converts
it, in a new process for each run: by `caecodec encode`, or, for JPEG and JPEG 2000, by the same reader, pyramid and writer of
blocks into arrays of y, x, c with imagecodecs' Zarr codecs, at the setting whose PSNR on 64 tiles is nearest to photo-fast's.
Prints a table of time, megapixels of the full size a second, the peak of the resident memory of all processes together and of
the largest, the ratio of the uncompressed bytes of all levels to those stored, and the PSNR of these tiles.

IMAGES is a folder; the default is scikit-image's photograph of tissue. It needs Linux, whose /proc tells the memory, and Python
3.12 or newer for JPEG and JPEG 2000.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import skimage.data
import tifffile
import zarr

import caecodec
from caecodec.images.files import open_image
from caecodec.images.image import Windows
from caecodec.ngff.blocks import store
from caecodec.ngff.pyramid import pyramid

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # makes this folder the package `benchmarks`

from benchmarks import fresh, images, tables  # after the line above, so that Python finds the package

TILE = 256
QUALITY = 4
SAMPLE = 64  # tiles
POLL = 0.1  # seconds between two looks at the memory
FAST = ("--weights", "photo-fast", "--quality", str(QUALITY))
RUNS = {
    "photo-fast": FAST,
    "photo-fast, 1 worker": FAST,
    "photo-fast, 2 workers": FAST,
    "default": ("--quality", str(QUALITY)),
}
WORKERS = {"photo-fast, 1 worker": 1, "photo-fast, 2 workers": 2}  # processes of dask.distributed that write
CLASSICAL = {"JPEG": ("Jpeg", "jpeg8", range(20, 100)), "JPEG 2000": ("Jpeg2k", "jpeg2k", range(20, 50))}
"""The class of imagecodecs.zarr, the stem of the functions of imagecodecs, and the levels, from the worst."""


def write_slide(path: Path, pictures: list[images.Pixels], megapixels: float) -> tuple[int, int]:
    """Write the slide; its height and width, multiples of a tile."""
    parts = images.chunks(pictures, TILE, sum(picture.size // 3 // TILE**2 for picture in pictures))
    parts = [np.ascontiguousarray(np.rot90(part, turn)) for part in parts for turn in range(4)]
    parts += [np.ascontiguousarray(part[::-1]) for part in parts]
    coded = [imagecodecs.jpeg8_encode(part, level=90) for part in parts]
    across = round(math.sqrt(megapixels * 1e6) / TILE)
    order = np.random.default_rng(0).integers(len(coded), size=across**2)
    side = across * TILE
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            (coded[number] for number in order), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="ycbcr",
            subsampling=(2, 2), compression="jpeg", metadata=None,
        )  # fmt: skip
    return side, side


class Interleaved:
    """The values of an array (3, height, width) as (height, width, 3)."""

    def __init__(self, source: Windows) -> None:
        channels, *sides = source.shape
        self._source, self.shape, self.dtype = source, (*sides, channels), source.dtype

    def __getitem__(self, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(np.moveaxis(self._source[(region[-1], *region[:-1])], 0, -1))


def classical_codecs() -> Any:
    """imagecodecs.zarr, with its codecs registered."""
    from imagecodecs import zarr as codecs

    codecs.register_codecs(verbose=False)
    return codecs


def convert(source: Path, target: Path, name: str, level: int) -> None:
    """Convert with a codec of CLASSICAL."""
    codec = getattr(classical_codecs(), CLASSICAL[name][0])(level=level)
    group = zarr.open_group(str(target), mode="w")
    with open_image(source) as image, tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for number, values in enumerate(pyramid((image.pixels,), TILE, Path(scratch))):
            store(group, f"s{number}", Interleaved(values), chunks=(TILE, TILE, 3), serializer=codec, compressors=None)


def level_for(name: str, sample: list[images.Pixels], target: float) -> int:
    """The level of a codec of CLASSICAL whose PSNR on the sample is nearest to the target."""
    _, stem, levels = CLASSICAL[name]
    encode, decode = (getattr(imagecodecs, f"{stem}_{direction}") for direction in ("encode", "decode"))
    return min(levels, key=lambda level: abs(psnr(sample, [decode(encode(part, level=level)) for part in sample]) - target))


def psnr(originals: list[images.Pixels], decoded: list[images.Pixels]) -> float:
    """The PSNR of all chunks together."""
    errors = sum(images.squared_errors(a, b) for a, b in zip(originals, decoded, strict=True))
    return images.psnr(errors, sum(part.size for part in originals))


def run(command: list[str]) -> dict[str, float]:
    """Run a command; seconds, and bytes of memory of it and its workers, and of the largest process. SystemExit if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-W", "ignore", *command])
    together = largest = 0
    while process.poll() is None:
        sizes = list(resident(os.getpid()))[1:]  # of those that this process has started
        together, largest = max(together, sum(sizes)), max([largest, *sizes])
        time.sleep(POLL)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode})")
    return {"seconds": time.perf_counter() - started, "together": together, "largest": largest}


@contextmanager
def workers(count: int) -> Iterator[list[str]]:
    """The options for so many processes of dask.distributed, each with its share of the cores; none for 0."""
    if not count:
        yield []
        return
    import dask
    from distributed import LocalCluster

    os.environ["CAECODEC_THREADS"] = str(max(1, fresh.cores() // count))
    dask.config.set({"distributed.nanny.pre-spawn-environ": {}})  # which makes malloc give memory back at once
    with LocalCluster(n_workers=count, threads_per_worker=1, memory_limit=None, dashboard_address=None) as cluster:
        del os.environ["CAECODEC_THREADS"]
        yield ["--scheduler", cluster.scheduler_address]


def resident(process: int) -> Iterator[int]:
    """The resident bytes of a process and of its descendants; those that have just ended are left out."""
    try:
        found = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        threads = list(Path(f"/proc/{process}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    yield int(found.get("VmRSS", "0 kB").split()[0]) * 1024
    for child in children:
        yield from resident(int(child))


def ratio(group: Path) -> float:
    """The ratio of the bytes of all levels to those stored."""
    levels = [array for _, array in zarr.open_group(str(group), mode="r").arrays()]
    return sum(level.nbytes for level in levels) / sum(level.nbytes_stored() for level in levels)


def tiles(values: Windows, side: int) -> list[images.Pixels]:
    """SAMPLE tiles (TILE, TILE, 3) of a slide, (3, side, side) or (side, side, 3), always the same; no more than it has."""
    found, across = [], side // TILE
    for y, x in TILE * np.random.default_rng(1).integers(0, across, (min(SAMPLE, across**2), 2)):
        rows, columns = slice(y, y + TILE), slice(x, x + TILE)
        planes = values.shape[0] == 3
        tile = np.moveaxis(np.asarray(values[:, rows, columns]), 0, -1) if planes else np.asarray(values[rows, columns])
        found.append(np.ascontiguousarray(tile))
    return found


def main() -> None:
    """Parse the arguments, convert, and print a table."""
    if sys.argv[1:2] == ["convert"]:
        _, _, source, target, name, level = sys.argv
        convert(Path(source), Path(target), name, int(level))
        return
    names = [*RUNS, *CLASSICAL]
    parser = argparse.ArgumentParser("python tests/benchmarks/slide.py", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="a folder of images")
    parser.add_argument("--megapixels", type=float, default=64, help="of the slide, default %(default)s")
    parser.add_argument("--runs", type=lambda text: text.split(";"), default=names, help=f"some of {';'.join(names)}")
    parser.add_argument("--folder", type=Path, help="where to write the slide and outputs, default a temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    if not set(options.runs) <= set(names):
        parser.error(f"runs are {';'.join(options.runs)} but must be some of {';'.join(names)}")
    pictures = images.load(options.images) if options.images else [skimage.data.immunohistochemistry()]
    coder = caecodec.ConvolutionalAutoencoder(quality=QUALITY, weights="photo-fast")
    if set(options.runs) & set(CLASSICAL):
        classical_codecs()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "slide.tif"
        side, _ = write_slide(source, pictures, options.megapixels)
        size = f"{side} x {side}, {side * side / 1e6:.0f} MP, {source.stat().st_size / 1e6:.0f} MB as a file"
        print(f"{fresh.cores()} cores; {size}", file=sys.stderr, flush=True)
        with open_image(source) as image:
            sample = tiles(image.pixels, side)
        target = psnr(sample, [coder.decode(coder.encode(part)) for part in sample])
        for name in options.runs:
            group = Path(folder) / "out.ome.zarr"
            if name in CLASSICAL:
                setting = level_for(name, sample, target)
                command = [__file__, "convert", str(source), str(group), name, str(setting)]
            else:
                command = ["-m", "caecodec", "encode", str(source), "-o", str(group), "--quiet", *RUNS[name]]
            with workers(WORKERS.get(name, 0)) as scheduler:
                found = run([*command, *scheduler])
            level = zarr.open_array(str(group / "s0"), mode="r")
            rows.append({"run": name, **found, "ratio": ratio(group), "psnr": psnr(sample, tiles(level, side))})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            shutil.rmtree(group)
    if options.json:
        options.json.write_text(json.dumps({"size": size, "rows": rows}, indent=1) + "\n")
    head = ["", "seconds", "MP/s", "memory, GiB", "of the largest process", "ratio", "PSNR"]
    lines = [
        [
            row["run"], tables.number(row["seconds"]), tables.number(side * side / 1e6 / row["seconds"]),
            tables.number(row["together"] / 2**30), tables.number(row["largest"] / 2**30),
            tables.number(row["ratio"]), f"{row['psnr']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    print(f"{size}:\n\n{tables.table(head, lines)}")


if __name__ == "__main__":
    main()
