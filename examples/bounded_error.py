"""Measure bounded and lossless coding: python examples/bounded_error.py FOLDER [--errors 0,1 | --percent 0,0.1].

Cuts the images (8-bit RGB, or TIFFs of uint8, uint16 or int16, planes first) into chunks. For each bound on the error of a
value it prints the compression ratio and the MB/s of caecodec, Zstd, Blosc (bitshuffle), JPEG-LS and JPEG XL; with --quality,
also of caecodec with a network's prediction. Zstd, Blosc and JPEG XL have no bound of their own, so they get values that are
rounded to steps of the bound. Needs the extras eval and ngff.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import tifffile
from PIL import Image

import caecodec

Coder = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--errors", default="0,1,2,4,8", help="bounds in the images' units, default %(default)s")
    parser.add_argument("--percent", help="bounds in percent of each image's range, instead of --errors")
    parser.add_argument("--chunk", type=int, default=256, help="pixels a side of a chunk, default %(default)s")
    parser.add_argument(
        "--most", type=int, default=64, help="measure at most this many chunks, evenly spread, default %(default)s"
    )
    parser.add_argument("--quality", type=int, help="also predict from a network of this quality")
    options = parser.parse_args()
    found = [chunk for path in sorted(options.folder.iterdir()) for chunk in chunks(path, options.chunk)]
    found = found[:: -(-len(found) // options.most)]
    megabytes = sum(chunk.nbytes for chunk, _ in found) / 1e6
    print(f"{len(found)} chunks, {megabytes:.1f} MB\n\n| bound | codec | ratio | encode MB/s | decode MB/s | largest error |")
    print("|---|---|---|---|---|---|")
    for bound in map(float, (options.percent or options.errors).split(",")):
        table = [(chunk, int(bound * span / 100) if options.percent else int(bound)) for chunk, span in found]
        for name in ["caecodec", *(["caecodec, network"] if options.quality else []), "Zstd", "Blosc", "JPEG-LS", "JPEG XL"]:
            size, encoding, decoding, worst = measure(name, table, options.quality)
            unit = " %" if options.percent else ""
            print(
                f"| {bound:g}{unit} | {name} | {1e6 * megabytes / size:.2f} | {megabytes / encoding:.1f} | "
                f"{megabytes / decoding:.1f} | {worst} |",
                flush=True,
            )


def chunks(path: Path, side: int) -> Iterator[tuple[np.ndarray, float]]:
    """The chunks of an image, (height, width, 3) or single planes (height, width), each with the image's range of values."""
    if path.suffix.lower() in (".tif", ".tiff"):
        image = tifffile.imread(path)
        planes = image.reshape(-1, *image.shape[-2:]) if image.dtype in (np.uint8, np.uint16, np.int16) else []
    else:
        planes = [np.asarray(Image.open(path).convert("RGB"))]
    for plane in planes:
        span = float(plane.max()) - float(plane.min())
        for y in range(0, plane.shape[0], side):
            for x in range(0, plane.shape[1], side):
                yield np.ascontiguousarray(plane[y : y + side, x : x + side]), span


def measure(name: str, table: list[tuple[np.ndarray, int]], quality: int | None) -> tuple[int, float, float, int]:
    """Bytes, seconds of encoding and of decoding, and the largest error, over all chunks of `table`, each with its bound."""
    size, worst, encoding, decoding = 0, 0, 0.0, 0.0
    for chunk, error in table:
        encode, decode = coder(name, chunk, error, quality)
        start = time.perf_counter()
        data = encode(chunk)
        middle = time.perf_counter()
        decoded = decode(data)
        decoding += time.perf_counter() - middle
        encoding += middle - start
        size += len(data)
        worst = max(worst, int(np.abs(decoded.astype(np.int64) - chunk).max()))
    return size, encoding, decoding, worst


def coder(name: str, chunk: np.ndarray, error: int, quality: int | None) -> Coder:
    """Functions that encode and decode a chunk with one codec, so that no value is off by more than `error`."""
    if name.startswith("caecodec"):
        axis = None if chunk.ndim == 2 else -1
        network = quality if "network" in name else None
        return lambda a: caecodec.encode(a, quality=network, channel_axis=axis, max_error=error), caecodec.decode
    if name == "JPEG-LS":
        return lambda a: imagecodecs.jpegls_encode(a, level=error), imagecodecs.jpegls_decode
    step, low = 2 * error + 1, int(chunk.min())

    def steps(a: np.ndarray) -> np.ndarray:
        return ((a.astype(np.int64) - low + error) // step).astype(a.dtype)

    def values(k: np.ndarray) -> np.ndarray:
        return np.clip(k.astype(np.int64) * step + low, low, int(chunk.max()))

    if name == "JPEG XL":
        return lambda a: imagecodecs.jpegxl_encode(steps(a), lossless=True), lambda data: values(
            imagecodecs.jpegxl_decode(data)
        )
    lossless = numcodecs.Zstd(9) if name == "Zstd" else numcodecs.Blosc("zstd", 9, numcodecs.Blosc.BITSHUFFLE)

    def read(data: bytes) -> np.ndarray:
        return values(np.frombuffer(lossless.decode(data), chunk.dtype).reshape(chunk.shape))

    return lambda a: lossless.encode(steps(a)), read


if __name__ == "__main__":
    main()
