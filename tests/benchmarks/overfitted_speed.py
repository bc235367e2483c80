"""How long overfitted payloads take to encode and decode: python tests/benchmarks/overfitted_speed.py.

Encoding: a 512x512 picture with the shortest preset on one core; the times of the other presets follow from their iterations.
Decoding: the same picture, and 64 chunks of 256x256, one after the other and all at once from 64 threads, like Zarr with
async.concurrency and threading.max_workers of 64. The networks of the chunks are made by hand, which does not affect the time.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import skimage.data

import caecodec
from caecodec.codecs.overfitted import codec, fit
from caecodec.codecs.overfitted.architecture import DECODERS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.overfitted import fit_by_hand

CHUNKS = 64


def clocks():
    """Wall-clock time and processor time, in seconds."""
    times = os.times()
    return np.array([time.perf_counter(), times.user + times.system])


def measure(function, count, rounds):
    """Wall-clock and processor milliseconds per result, of `count` results; the least of several rounds."""
    found = []
    for _ in range(rounds):
        start = clocks()
        function()
        found.append((clocks() - start) / count * 1000)
    return np.min(found, axis=0)


def fits(image):
    """Print the processor seconds per megapixel of each preset."""
    pixels = image[..., 0].size
    least = fit.work(fit.PRESETS["instant"], pixels)
    for name in DECODERS:
        coder = caecodec.OverfittedAutoencoder(quality=4, preset="instant", decoder=name, gpu=False)
        first, _ = measure(lambda coder=coder: coder.encode(image[:64, :64]), 1, 1) / 1000
        _, seconds = measure(lambda coder=coder: coder.encode(image), 1, 1) / 1000
        each = 1e6 * seconds / pixels / least
        presets = [f"{preset} {each * fit.work(steps, pixels):.0f}" for preset, steps in fit.PRESETS.items()]
        print(f"{name}: {each:.2f} s of one core per iteration and megapixel: {', '.join(presets)} s/MP")
        print(f"{name}: a fit of 64x64 pixels before these took {first:.2f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    image = skimage.data.astronaut()
    fits(image)
    rolled = [np.roll(image, (37 * i, 91 * i), (0, 1))[:256, :256] for i in range(CHUNKS)]
    with ThreadPoolExecutor(CHUNKS) as pool:
        for name in DECODERS:
            coder = caecodec.OverfittedAutoencoder(decoder=name)
            with mock.patch.object(codec, "_fit", fit_by_hand):
                whole, chunks = coder.encode(image), [coder.encode(np.ascontiguousarray(chunk)) for chunk in rolled]
            wall, _ = measure(lambda whole=whole: caecodec.decode(whole), 1, options.rounds)
            single = measure(lambda chunks=chunks: [caecodec.decode(data) for data in chunks[:8]], 8, options.rounds)
            together = measure(lambda chunks=chunks: list(pool.map(caecodec.decode, chunks)), CHUNKS, options.rounds)
            print(
                f"{name}: 512x512 {wall:.0f} ms; 256x256 alone {single[0]:.1f} ms, {CHUNKS} together {together[0]:.1f} ms each "
                f"(processor time {single[1]:.1f} and {together[1]:.1f} ms): {single[0] / together[0]:.1f} times as fast"
            )


if __name__ == "__main__":
    main()
