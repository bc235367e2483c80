"""Peak memory of a codec, in a process of its own."""

from pathlib import Path
from typing import Any

from . import fresh

MARGIN = 0.8  # of the memory that the machine could give


def measure(name: str, quality: int, device: str, concurrency: int, level: float | None, chunks: Path) -> dict[str, Any]:
    """Bytes: `peak` of the whole process, `work` above what it had after one small chunk, `gpu` on the device.

    `chunks` is a .npy file of (n, side, side, 3). RuntimeError when the process fails.
    """
    return fresh.call(
        "memory", "child", name=name, quality=quality, device=device, concurrency=concurrency, level=level, chunks=str(chunks)
    )


def child(name: str, quality: int, device: str, concurrency: int, level: float | None, chunks: str) -> dict[str, Any]:
    """What `measure` says: all chunks encoded, then all decoded, by so many callers."""
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
        each(lambda one: codec.decode(one) is None, stored)  # the pixels are not kept
    gpu = None
    if device == "cuda":
        import torch

        gpu = torch.cuda.max_memory_allocated()
    return {"peak": fresh.peak_bytes(), "work": max(0, fresh.peak_bytes() - before), "gpu": gpu}


def refusal(alone: dict[str, Any], concurrency: int) -> str | None:
    """Why so many callers at once must not be tried, if the machine has too little memory for as many times the work of one."""
    available = fresh.available_bytes()
    needed = alone["peak"] + (concurrency - 1) * alone["work"]
    if available is None or needed <= MARGIN * available:
        return None
    return f"not run: {concurrency} at once would take about {needed / 2**30:.0f} GiB, of {available / 2**30:.0f} available"
