"""The codecs that are timed: caecodec, its network alone, CompressAI, and codecs of imagecodecs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import fresh
from .images import Pixels, psnr, squared_errors

CAECODEC, STATIC, NETWORK, COMPRESSAI = "caecodec", "caecodec, static tables", "its network alone", "CompressAI"
SAMPLE = 2**22  # pixels used to find the level of a classical codec


class MissingError(Exception):
    """Says why a codec cannot run here."""


def _same(chunk: Pixels) -> Any:
    return chunk


@dataclass(frozen=True)
class ComparedCodec:
    """Encodes and decodes uint8 chunks (side, side, 3), after `prepare`, which is not timed.

    `size` returns the number of bytes of an encoded chunk; it is None for a network alone, whose output is not stored.
    """

    name: str
    setting: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    size: Callable[[Any], int] | None = len
    prepare: Callable[[Pixels], Any] = _same


class Classical(NamedTuple):
    """A codec of imagecodecs: its levels from the worst quality to the best, and the arguments of its functions."""

    stem: str
    levels: tuple[float, ...]
    argument: str
    unit: str
    options: dict[str, Any]
    threads: bool


CLASSICAL = {
    "JPEG": Classical("jpeg8", tuple(range(1, 101)), "level", "quality {:g}", {"subsampling": "420"}, False),
    "JPEG 2000": Classical(
        "jpeg2k", tuple(i / 4 for i in range(80, 240)), "level", "{:g} dB", {"codecformat": "j2k", "reversible": False}, True
    ),
    "JPEG XL": Classical(
        "jpegxl", tuple(i / 10 for i in range(150, 0, -1)), "distance", "distance {:g}", {"effort": 7}, True
    ),
    "WebP": Classical("webp", tuple(range(1, 101)), "level", "quality {:g}", {"lossless": False, "method": 4}, False),
    "AVIF": Classical("avif", tuple(range(1, 101)), "level", "quality {:g}", {"speed": 6, "pixelformat": "yuv444"}, True),
}  # fmt: skip


def names(device: str) -> tuple[str, ...]:
    """The names of the codecs that are compared on a device, in the order of the tables."""
    return (CAECODEC, STATIC, NETWORK, COMPRESSAI, *(CLASSICAL if device == "cpu" else ()))


def build(name: str, quality: int, device: str, concurrency: int, level: float | None = None) -> ComparedCodec:
    """A codec at a quality of caecodec, or at its own level; MissingError if it cannot run."""
    if name in CLASSICAL:
        assert level is not None
        return classical(name, level, concurrency)
    if name == COMPRESSAI:
        return compressai(quality, device)
    if name == NETWORK:
        return network(quality, device)
    return caecodec(name, quality, device)


def caecodec(name: str, quality: int, device: str) -> ComparedCodec:
    """caecodec as users call it."""
    import caecodec

    gpu = device == "cuda"
    entropy = "static" if name == STATIC else None
    return ComparedCodec(
        name,
        f"quality {quality}",
        partial(caecodec.encode, quality=quality, entropy=entropy, gpu=gpu),
        partial(caecodec.decode, gpu=gpu),
    )


def network(quality: int, device: str) -> ComparedCodec:
    """The engine's analysis and synthesis, from float32 images in memory to symbols and back; on a GPU, in its memory."""
    import torch

    from caecodec import weights
    from caecodec.engine import DevicePlacement, PlacedNetwork, engine
    from caecodec.engine.networks import Networks

    source = weights.resolve(weights.Spec(weights.DEFAULT), "mse", quality)
    model = PlacedNetwork(source, quality, DevicePlacement.choose(device == "cuda"))

    def prepare(chunks: Pixels) -> Any:
        """Chunks (side, side, 3), or many of them (n, side, side, 3)."""
        images = (chunks.reshape(-1, *chunks.shape[-3:]).astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
        return images if device == "cpu" else torch.from_numpy(images).to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run_there(direction: str, batch: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
        parts = batch if isinstance(batch, list) else batch.split(model.placement.current_settings().max_batch)
        found = [getattr(placed, direction)(part) for part in parts]
        torch.cuda.synchronize()
        return found

    placed = None if device == "cpu" else Networks(engine().load).network(model)
    run = partial(engine().run, model) if device == "cpu" else run_there
    return ComparedCodec(NETWORK, f"quality {quality}", partial(run, "analysis"), partial(run, "synthesis"), None, prepare)


def compressai(quality: int, device: str) -> ComparedCodec:
    """CompressAI's compress() and decompress() with the same network; MissingError if it is not installed."""
    import torch

    try:
        from compressai.models import FactorizedPrior
    except ImportError:
        raise MissingError("not installed: pip install compressai (Python 3.11 or 3.12)") from None
    from caecodec import weights
    from caecodec.models.factorized.compressai import to_state_dict

    plain = weights.load(weights.resolve(weights.Spec(weights.DEFAULT), "mse", quality), quality)
    tables = plain.tables["static"]
    state = to_state_dict(plain.network.tensors, tables.mass, tables.length, tables.offset)
    net = FactorizedPrior.from_state_dict(state).eval().to(device)

    @torch.no_grad()
    def encode(array: Pixels) -> Any:
        return net.compress(torch.from_numpy(array).to(device).permute(2, 0, 1)[None].float() / 255)

    @torch.no_grad()
    def decode(out: Any) -> Pixels:
        x_hat = net.decompress(out["strings"], out["shape"])["x_hat"][0].permute(1, 2, 0)
        pixels: Pixels = (x_hat.clamp(0, 1) * 255).round().byte().cpu().numpy()
        return pixels

    def size(out: Any) -> int:
        return sum(len(string) for strings in out["strings"] for string in strings)

    return ComparedCodec(COMPRESSAI, f"quality {quality}, static tables", encode, decode, size)


def classical(name: str, level: float, concurrency: int) -> ComparedCodec:
    """A codec of imagecodecs, with the threads that each caller's share of the cores allows."""
    codec, module = CLASSICAL[name], imagecodecs(name)
    threads = {"numthreads": max(1, fresh.cores() // concurrency)} if codec.threads else {}
    encode, decode = (getattr(module, f"{codec.stem}_{direction}") for direction in ("encode", "decode"))
    return ComparedCodec(
        name,
        codec.unit.format(level),
        partial(encode, **{codec.argument: level}, **codec.options, **threads),
        partial(decode, **threads),
    )


def imagecodecs(name: str) -> Any:
    """The module imagecodecs; MissingError if it is not installed or lacks this codec."""
    try:
        import imagecodecs
    except ImportError:
        raise MissingError("not installed: pip install imagecodecs") from None
    if not getattr(imagecodecs, CLASSICAL[name].stem.upper()).available:
        raise MissingError("not in this build of imagecodecs")
    return imagecodecs


def quality_of(codec: ComparedCodec, chunks: list[Pixels]) -> tuple[float, float]:
    """The PSNR in dB of all chunks together, and their bits per pixel."""
    assert codec.size is not None
    stored = [codec.encode(chunk) for chunk in chunks]
    errors = sum(squared_errors(codec.decode(one), chunk) for one, chunk in zip(stored, chunks, strict=True))
    values = sum(chunk.size for chunk in chunks)
    return psnr(errors, values), 8 * sum(map(codec.size, stored)) / (values / 3)


def sample(chunks: list[Pixels]) -> list[Pixels]:
    """Evenly spread chunks with about SAMPLE pixels."""
    count = max(1, min(len(chunks), SAMPLE * 3 // chunks[0].size))
    return [chunks[i * len(chunks) // count] for i in range(count)]


def level_for(name: str, chunks: list[Pixels], target: float) -> float:
    """The level of a classical codec whose PSNR on these chunks is nearest to the target in dB."""
    levels = CLASSICAL[name].levels
    found: dict[int, float] = {}

    def reached(i: int) -> float:
        if i not in found:
            found[i] = quality_of(classical(name, levels[i], 1), chunks)[0]
        return found[i]

    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= target else (middle + 1, high)
    return levels[min((i for i in (low - 1, low) if i >= 0), key=lambda i: abs(reached(i) - target))]
