"""Train on your own images and measure the gain: python examples/own_images.py TRAIN TEST -o FOLDER --minutes 10.

Starts from the shipped weights, trains on the images of the folder TRAIN, and codes those of TEST in 256x256 chunks with the
shipped and the new weights, and with JPEG 2000. FOLDER then holds the new weights, own.safetensors, with their model card,
and the evaluation with report.html. Needs the extras train and eval.
"""

import argparse
from pathlib import Path

from caecodec.evaluation import evaluate
from caecodec.training import Recipe, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="a folder of images of your kind")
    parser.add_argument("test", type=Path, help="a folder of others of the same kind")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--minutes", type=float, default=10, help="how long to train, default %(default)s")
    parser.add_argument("--qualities", default="1-5", metavar="FIRST-LAST", help="within 1-5 or 6-8, default %(default)s")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    own = options.output / "own.safetensors"
    first, _, last = options.qualities.partition("-")
    qualities = tuple(range(int(first), int(last or first) + 1))
    recipe = Recipe(qualities, minutes=options.minutes)
    train(
        [options.train], own, recipe, validation=0,
        on_report=lambda report: print(f"step {report.step}, {report.left:.0f} s left: loss {report.loss:.3f}", flush=True),
    )  # fmt: skip
    results = evaluate(
        [options.test], options.output / "evaluation", weights=["default", own], metrics=["mse"], qualities=qualities,
        codecs=["jpeg2k"], say=print,
    )  # fmt: skip
    for rate in results.bd_rates:
        if rate.metric == "psnr" and rate.percent is not None:
            print(f"{rate.test} against {rate.reference}: {rate.percent:+.1f} % of the bits at equal PSNR")


if __name__ == "__main__":
    main()
