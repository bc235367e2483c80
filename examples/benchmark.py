"""Speed of the codec on a folder of photographs: python examples/benchmark.py FOLDER [--crops N].

Prints megapixels per second at quality 4, with context coding and static tables, beside CompressAI's own compress() and
decompress() of the same network on the same chunks where CompressAI is installed. Rate and distortion: caecodec evaluate.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import caecodec
from caecodec import weights

SPEED_QUALITY = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crops", type=int, default=16, help="chunks to time, default %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of which the median counts, default %(default)s")
    options = parser.parse_args()
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(options.folder.glob("*.png"))]
    for size in (256, 512):
        chunks = [chunk for image in images for chunk in cut(image, size)]
        speed(chunks[: options.crops], size, options.repeats)


def cut(image: np.ndarray, size: int) -> list[np.ndarray]:
    """Chunks of size x size pixels; what is left over at the edges is not timed."""
    height, width = image.shape[:2]
    places = ((y, x) for y in range(0, height - size + 1, size) for x in range(0, width - size + 1, size))
    return [np.ascontiguousarray(image[y : y + size, x : x + size]) for y, x in places]


def speed(chunks: list[np.ndarray], size: int, repeats: int) -> None:
    """Megapixels per second, one chunk after the other; all coders in turn in every round, the median of the rounds counts."""
    contenders = {
        f"caecodec {entropy}": (lambda a, e=entropy: caecodec.encode(a, quality=SPEED_QUALITY, entropy=e), caecodec.decode)
        for entropy in ("context", "static")
    }
    try:
        contenders["CompressAI"] = compressai_coder()
    except ImportError:
        print("(CompressAI is not installed: no comparison)")
    seconds = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, (encode, decode) in contenders.items():
            start = time.perf_counter()
            payloads = [encode(chunk) for chunk in chunks]
            middle = time.perf_counter()
            for payload in payloads:
                decode(payload)
            seconds[name].append((middle - start, time.perf_counter() - middle))
    typical = {name: np.median(times[1:], axis=0) for name, times in seconds.items()}  # the first round loads the network
    megapixels = len(chunks) * size * size / 1e6
    print(f"\n{len(chunks)} chunks of {size}x{size}, quality {SPEED_QUALITY}, MP/s: encode, decode")
    for name, times in typical.items():
        line = f"{name:17} {megapixels / times[0]:6.2f} {megapixels / times[1]:6.2f}"
        if "CompressAI" in typical:
            ratio = typical["CompressAI"] / times
            line += f"   {ratio[0]:.2f} and {ratio[1]:.2f} times CompressAI"
        print(line)


def compressai_coder() -> tuple[Callable[[np.ndarray], dict], Callable[[dict], np.ndarray]]:
    """CompressAI's own network with the shipped weights."""
    import torch
    from compressai.models import FactorizedPrior

    from caecodec.models import compressai

    source = weights.resolve(weights.Spec("default"), "mse", SPEED_QUALITY)
    plain = weights.load(source, SPEED_QUALITY)
    state = compressai.to_state_dict(plain.tensors, plain.tables.mass, plain.tables.length, plain.tables.offset)
    network = FactorizedPrior.from_state_dict(state).eval()

    @torch.no_grad()
    def encode(array: np.ndarray) -> dict:
        return network.compress(torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255)

    @torch.no_grad()
    def decode(out: dict) -> np.ndarray:
        x_hat = network.decompress(out["strings"], out["shape"])["x_hat"][0].permute(1, 2, 0)
        return (x_hat.clamp(0, 1) * 255).round().byte().numpy()

    return encode, decode


if __name__ == "__main__":
    main()
