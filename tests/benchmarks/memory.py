"""Measures the peak memory of a codec in a separate process."""

from pathlib import Path
from typing import Any

from . import fresh

MARGIN = 0.8  # proportion of the available memory that may be used


def measure(name: str, quality: int, device: str, concurrency: int, level: float | None, chunks: Path) -> dict[str, Any]:
    """Bytes of memory: `peak` of the process, `work` above its memory after one small chunk, and `gpu` on the device.

    `chunks` is a .npy file of shape (n, side, side, 3). Raises RuntimeError if the process fails.
    """
    return fresh.call(
        "memory", "child", name=name, quality=quality, device=device, concurrency=concurrency, level=level, chunks=str(chunks)
    )


def child(name: str, quality: int, device: str, concurrency: int, level: float | None, chunks: str) -> dict[str, Any]:
    """The result of `measure`: encode all chunks, then decode all, with `concurrency` callers."""
    import numpy as np

    from .compared import build
    from .timing import callers

    arrays = list(np.load(chunks))
    codec = build(name, quality, device, concurrency, level)
    small = np.ascontiguousarray(arrays[0][:64, :64])
    codec.decode(codec.encode(codec.prepare(small)))
    before = fresh.resident_bytes()
    with callers(concurrency) as each:
        stored = each(lambda chunk: codec.encode(codec.prepare(chunk)), arrays)
        each(lambda one: codec.decode(one) is None, stored)  # does not keep the pixels
    gpu = None
    if device == "cuda":
        import torch

        gpu = torch.cuda.max_memory_allocated()
    return {"peak": fresh.peak_bytes(), "work": max(0, fresh.peak_bytes() - before), "gpu": gpu}


def refusal(alone: dict[str, Any], concurrency: int) -> str | None:
    """Say why not to run this many callers, if the machine has too little memory for this many times the work of one."""
    available = fresh.available_bytes()
    needed = alone["peak"] + (concurrency - 1) * alone["work"]
    if available is None or needed <= MARGIN * available:
        return None
    return f"not run: {concurrency} at once would need about {needed / 2**30:.0f} GiB but {available / 2**30:.0f} are available"
