"""Rate, distortion and speed of the codec on a folder of photographs: python examples/benchmark.py FOLDER [--crops N].

Prints, for every quality that has weights, mean bits per pixel (of real bytes), PSNR and MS-SSIM of whole images and of
256x256 chunks, beside JPEG and JPEG 2000; then megapixels per second at quality 4, beside CompressAI's own compress() and
decompress() of the same network on the same chunks where CompressAI is installed. Needs the extra eval.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

import caecodec
from caecodec import weights
from caecodec.evaluation import bd_rate, ms_ssim, psnr

Coder = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]
SPEED_QUALITY = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--crops", type=int, default=16, help="chunks to time, default %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of which the median counts, default %(default)s")
    parser.add_argument("--speed-only", action="store_true")
    options = parser.parse_args()
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(options.folder.glob("*.png"))]
    if not options.speed_only:
        distortion(images, options.chunk)
    for size in (256, 512):
        chunks = [np.ascontiguousarray(c) for image in images for c in cut(image, size) if c.shape == (size, size, 3)]
        speed(chunks[: options.crops], size, options.repeats)


def distortion(images: list[np.ndarray], chunk: int) -> None:
    print(f"{len(images)} images, mean of each\n")
    print(f"| codec | whole: bpp | PSNR | MS-SSIM | {chunk}x{chunk} chunks: bpp | PSNR | MS-SSIM |")
    print("|---|---|---|---|---|---|---|")
    curves: dict[str, list[np.ndarray]] = {}
    for family, setting, coder in coders():
        row = [measure(images, coder, None), measure(images, coder, chunk)]
        curves.setdefault(family, []).append(np.array(row))
        name = f"{family} {setting}"
        print(f"| {name} | " + " | ".join(f"{bpp:.3f} | {db:.2f} | {ms:.4f}" for bpp, db, ms in row) + " |", flush=True)
    print(f"\nBD-rate (PSNR) of caecodec against: whole images, {chunk}x{chunk} chunks")
    ours = np.array(curves.pop("caecodec quality"))
    for family, theirs in curves.items():
        rates = [bd_rate(np.array(theirs)[:, i, :2], ours[:, i, :2]) for i in (0, 1)]
        print(f"{family:14} {rates[0]:+6.1f} % {rates[1]:+6.1f} %")


def coders() -> Iterator[tuple[str, str, Coder]]:
    """Codec, setting, and its coder."""
    for quality in sorted({q for source in weights.installed() if source.metric == "mse" for q in source.qualities}):
        yield "caecodec quality", f"{quality}", (lambda a, q=quality: caecodec.encode(a, quality=q), caecodec.decode)
    for quality in (10, 20, 40, 60, 80):
        yield "JPEG", f"{quality}", pillow("JPEG", quality=quality)
    if features.check("avif"):
        for quality in (30, 45, 60, 75, 85):
            yield "AVIF", f"{quality}", pillow("AVIF", quality=quality, speed=6, subsampling="4:4:4")
    for level in (26, 28, 30, 32, 34, 36):
        yield (
            "JPEG 2000",
            f"{level} dB",
            pillow("JPEG2000", quality_mode="dB", quality_layers=[level], irreversible=True, mct=1),
        )


def pillow(kind: str, **options: object) -> Coder:
    def encode(array: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, kind, **options)
        return stream.getvalue()

    return encode, lambda data: np.asarray(Image.open(io.BytesIO(data)))


def measure(images: list[np.ndarray], coder: Coder, chunk: int | None) -> np.ndarray:
    """Mean bpp, PSNR and MS-SSIM; chunks are coded alone and put together before they are compared."""
    encode, decode = coder
    rows = []
    for image in images:
        size, decoded = 0, np.empty_like(image)
        for part, place in zip(cut(image, chunk), cut(decoded, chunk), strict=True):
            data = encode(np.ascontiguousarray(part))
            size += len(data)
            place[...] = decode(data)
        rows.append((8 * size / (image.shape[0] * image.shape[1]), psnr(image, decoded), ms_ssim(image, decoded)))
    return np.mean(rows, axis=0)


def cut(image: np.ndarray, chunk: int | None) -> list[np.ndarray]:
    """Views of the image's chunks."""
    side = chunk or max(image.shape)
    return [image[y : y + side, x : x + side] for y in range(0, image.shape[0], side) for x in range(0, image.shape[1], side)]


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
