"""What padding costs: python tests/benchmarks/padding.py [--side 64] [--step 1].

Arrays of 1 to 4 chunks reach over the edge with rows, columns or both, by every remainder. Of each dtype and fill value, the
table shows the bytes of such a chunk above those of its content alone, also as a part of a whole chunk's, and how much more its
content is off, as a part of its range, at quality 4; then, with max_error=0, the bytes, and how many values are not exact.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from skimage import data

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.padding import FILLS, bits, inside, padded  # after the line above, so that Python finds them

import caecodec


def contents(dtype, side, step):
    """A whole chunk, and the contents that reach into the last chunk of an array by each remainder."""
    photo = np.pad(data.camera(), 512, mode="reflect")
    values = photo.astype(dtype) if dtype == "uint8" else photo.astype(dtype) * np.dtype(dtype).type(50)
    found = []
    for n in range(1, side, step):
        for height, width in ((n, side), (side, n), (n, n)):
            found.append(np.ascontiguousarray(values[600 : 600 + height, 700 : 700 + width]))
    return np.ascontiguousarray(values[600 : 600 + side, 700 : 700 + side]), found


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="of a chunk, default %(default)s")
    parser.add_argument("--step", type=int, default=1, help="take each step-th remainder, default %(default)s")
    options = parser.parse_args()
    shape = (options.side, options.side)
    print("| dtype | fill value | chunks | bytes more: mean, most | of a whole chunk | error more | exact: bytes | not exact |")
    print("|" + " --- |" * 8)
    for dtype, fills in FILLS.items():
        whole, parts = contents(dtype, *vars(options).values())
        lossy, exact = (
            caecodec.ConvolutionalAutoencoder(channel_axis=None, **one) for one in ({"quality": 4}, {"max_error": 0})
        )
        size = len(lossy.encode(whole))
        alone = [(part, lossy.encode(part), len(exact.encode(part))) for part in parts]
        for fill in fills:
            more, worse, more_exact, wrong = [], [], [], 0
            for part, payload, exact_size in alone:
                chunk = padded(part, shape, fill)
                data_lossy, data_exact = lossy.encode(chunk), exact.encode(chunk)
                more.append(len(data_lossy) - len(payload))
                more_exact.append(len(data_exact) - exact_size)
                off = [np.abs(values.astype(float) - part).max() for values in (
                    inside(np.asarray(lossy.decode(data_lossy)), part), np.asarray(lossy.decode(payload)),
                )]  # fmt: skip
                worse.append((off[0] - off[1]) / max(float(np.ptp(part)), 1))
                wrong += int((bits(np.asarray(exact.decode(data_exact))) != bits(chunk)).sum())
            print(
                f"| {dtype} | {fill} | {len(more)} | {np.mean(more):.1f}, {max(more)} "
                f"| {100 * max(more) / size:.1f} % of {size} | {max(worse):.4f} | {max(more_exact)} | {wrong} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
