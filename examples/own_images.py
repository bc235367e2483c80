"""Train on your own images and measure the gain: python examples/own_images.py TRAIN TEST -o FOLDER --minutes 10.

Starts from the shipped weights, trains on the images of the folder TRAIN, and codes those of TEST in 256x256 chunks with the
shipped and the new weights, and with JPEG 2000. FOLDER then holds the new weights, own.safetensors, with their model card,
and the evaluation with report.html. Needs the extras train and eval.

With several families (--family) or times (--minutes), each family is trained for each time, in a run of its own whose learning
rate falls to its end. The last lines then say how many bits each run saves, and so how long each family takes to save them.
The weights are own-FAMILY-MINUTES.safetensors.
"""

import argparse
import time
from pathlib import Path

from caecodec.evaluation import evaluate
from caecodec.models import registry
from caecodec.training import Recipe, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="a folder of images of your kind")
    parser.add_argument("test", type=Path, help="a folder of others of the same kind")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10], help="how long to train, default 10")
    parser.add_argument("--qualities", default="1-5", metavar="FIRST-LAST", help="within 1-5 or 6-8, default %(default)s")
    families = [family.name for family in registry.families()]
    parser.add_argument("--family", nargs="+", default=[registry.DEFAULT], choices=families, help="default %(default)s")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    first, _, last = options.qualities.partition("-")
    qualities = tuple(range(int(first), int(last or first) + 1))
    runs = [(family, minutes) for family in options.family for minutes in options.minutes]
    files, taken = [], []
    for family, minutes in runs:
        name = "own" if len(runs) == 1 else f"own-{family}-{minutes:g}"
        files.append(options.output / f"{name}.safetensors")
        start = time.monotonic()
        train(
            [options.train], files[-1], Recipe(qualities, minutes=minutes, family=family), validation=0,
            on_report=lambda report: print(f"step {report.step}, {report.left:.0f} s left: loss {report.loss:.3f}", flush=True),
        )  # fmt: skip
        taken.append((time.monotonic() - start) / 60)
        print(f"{files[-1]}: {family}, {minutes:g} minutes, {taken[-1]:.1f} with the start and the entropy tables", flush=True)
    results = evaluate(
        [options.test], options.output / "evaluation", weights=["default", *files], metrics=["mse"], qualities=qualities,
        codecs=["jpeg2k"], say=print,
    )  # fmt: skip
    rates = {(rate.test, rate.reference): rate.percent for rate in results.bd_rates if rate.metric == "psnr"}
    default, *own, other = (curve.name for curve in results.curves)
    print(f"{'family':22} {'minutes':>8} {'in all':>8}  bits at equal PSNR against {default}, {other}")
    for (family, minutes), whole, curve in zip(runs, taken, own, strict=True):
        percents = (rates[curve, reference] for reference in (default, other))
        shown = ", ".join("-" if percent is None else f"{percent:+.1f} %" for percent in percents)
        print(f"{family:22} {minutes:8g} {whole:8.1f}  {shown}")


if __name__ == "__main__":
    main()
