"""Train on one's own images and see what it gains: python examples/own_images.py TRAIN TEST -o FOLDER --minutes 10.

Starts from the shipped weights, trains on the images of TRAIN, and codes those of TEST in 256x256 chunks with both, and with
JPEG 2000. FOLDER has the weights, own.safetensors, with their model card, and the evaluation with report.html. Needs the extras
train and eval.
"""

import argparse
from pathlib import Path

from caecodec.cli.train import Progress, parse_qualities
from caecodec.evaluation import evaluate
from caecodec.training.recipe import Recipe
from caecodec.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="a folder of images of your kind")
    parser.add_argument("test", type=Path, help="a folder of others of the same kind")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--qualities", default="1-5")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    own = options.output / "own.safetensors"
    qualities = parse_qualities(options.qualities)
    train([options.train], own, Recipe(qualities, minutes=options.minutes), validation=0, on_report=Progress(qualities))
    results = evaluate(
        [options.test], options.output / "evaluation", weights=["default", own], metrics=["mse"], qualities=qualities,
        codecs=["jpeg2k"], say=print,
    )  # fmt: skip
    for rate in results.bd_rates:
        if rate.metric == "psnr" and rate.percent is not None:
            print(f"{rate.test} against {rate.reference}: {rate.percent:+.1f} % of the bits at equal PSNR")


if __name__ == "__main__":
    main()
