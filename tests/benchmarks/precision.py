"""What bfloat16 costs: python tests/benchmarks/precision.py FOLDER [--qualities 1-8] [--metric mse] [--weights W] [--every N].

For each quality and each choice of convolutions that run in bfloat16, while all others run in float32, it prints the change of
PSNR, the change of the ideal length of the symbols, and both as one loss in dB. A change of rate counts for what the next
quality gains from it. The choices that lose less than 0.02 dB, for both transforms together, are in
caecodec/models/factorized/precision.py. Other families have no choice, and are measured as they run in bf16.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from caecodec import weights
from caecodec.entropy import context
from caecodec.models.factorized.network import FactorizedPrior
from caecodec.models.family import InferenceNetwork
from caecodec.models.registry import DEFAULT

CHOICES = {"g_a": [("g_a.2",), ("g_a.4",), ("g_a.2", "g_a.4")], "g_s": [("g_s.2",), ("g_s.4",), ("g_s.2", "g_s.4")]}
DB_PER_DOUBLING = 4.5  # gain when the rate doubles, from one quality to the next on photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of photographs (PNG)")
    parser.add_argument("--qualities", default="1-8", help="one quality, or FIRST-LAST; default %(default)s")
    parser.add_argument("--metric", default="mse")
    parser.add_argument("--weights", default="default", help="default %(default)s")
    parser.add_argument("--every", type=int, default=1, help="use every Nth photograph; default all")
    options = parser.parse_args()
    first, last = map(int, (options.qualities.split("-") * 2)[:2])
    paths = sorted(options.folder.glob("*.png"))[:: options.every]
    images = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] for path in paths]
    images = [image[:, :, : image.shape[2] // 16 * 16, : image.shape[3] // 16 * 16] for image in images]
    print(f"{len(images)} photographs, metric {options.metric}; means, and the largest loss of a photograph")
    for quality in range(first, last + 1):
        measure(images, weights.resolve(weights.Spec.parse(options.weights), options.metric, quality), quality)


@torch.inference_mode()
def measure(images: list[torch.Tensor], source: weights.Source, quality: int) -> None:
    """Print the losses at one quality."""
    loaded = weights.load(source, quality)
    choices = CHOICES if loaded.family.name == DEFAULT else {"g_a": [("g_a",)], "g_s": [("g_s",)]}

    def network(layers: tuple[str, ...] = ()) -> InferenceNetwork:
        built = loaded.family.build(loaded.network.tensors)
        if isinstance(built, FactorizedPrior):
            built.reduce_precision(layers)
        else:
            loaded.family.reduce_precision(built, "bf16" if layers else "fp32", quality, "cpu")
        return built

    def bits(symbols: torch.Tensor) -> float:
        return context.MODEL.code_length(symbols.numpy(), loaded.tables["context"])

    plain = network()
    symbols = [plain.analysis(scaled(image)) for image in images]
    before = np.array([psnr(plain.synthesis(part), image) for part, image in zip(symbols, images, strict=True)])
    lengths = np.array([bits(part) for part in symbols])
    print(f"\nquality {quality}: {before.mean():.2f} dB", flush=True)
    for layers in choices["g_s"]:
        low = network(layers)
        after = [psnr(low.synthesis(part), image) for part, image in zip(symbols, images, strict=True)]
        show(layers, before - after, np.ones(len(images)))
    for layers in choices["g_a"]:
        low = network(layers)
        found = [low.analysis(scaled(image)) for image in images]
        after = [psnr(plain.synthesis(part), image) for part, image in zip(found, images, strict=True)]
        show(layers, before - after, [bits(part) for part in found] / lengths)


def show(layers: tuple[str, ...], loss: np.ndarray, rate: np.ndarray) -> None:
    """Print one line, from losses of PSNR and ratios of rate."""
    both = loss + DB_PER_DOUBLING * np.log2(rate)
    print(f"  {' '.join(layers):12} PSNR {-loss.mean():+.4f} dB  rate {100 * (rate.mean() - 1):+.3f} %"
          f"  loss {both.mean():+.4f} dB, at most {both.max():+.4f}", flush=True)  # fmt: skip


def scaled(image: torch.Tensor) -> torch.Tensor:
    """uint8 image (1, 3, h, w) -> float32 in [0, 1], for the network."""
    return (image.float() / 255).contiguous(memory_format=torch.channels_last)


def psnr(decoded: torch.Tensor, image: torch.Tensor) -> float:
    """PSNR in dB of a decoded image, after rounding."""
    levels = (decoded.clamp(0, 1) * 255).round()
    return float(10 * torch.log10(255**2 / (levels.double() - image).square().mean()))


if __name__ == "__main__":
    main()
