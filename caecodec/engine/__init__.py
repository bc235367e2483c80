"""One process-wide engine: networks loaded when they are first needed, and threads that run concurrent requests on them.

    Engine.run ── parts ──▶ Pool (one per device) ── batches ──▶ Networks.run
    Engine.line ──▶ Line (one per CUDA device), which does more than run networks

Zarr asks for one chunk at a time, from many threads. Small requests for the same network and size that wait together are run
as one batch, large ones side by side. All PyTorch work happens on the engine's own threads, and a forked child starts with a
fresh engine.
"""

import os
import threading

import numpy as np

from .. import weights
from ..entropy import device as device_entropy
from ..models.factorized.network import STRIDE, pixel_bytes
from ..weights import file as weights_file
from . import processor
from .cuda import Line
from .jobs import Array, Direction, Gpu, Job, Model, Place
from .networks import EXACT_LEVELS, Networks
from .pool import Pool

__all__ = ["EXACT_LEVELS", "Direction", "Engine", "Gpu", "Line", "Model", "Place", "engine"]

CPU_BATCH_PIXELS = 2**16  # what one core takes at once: larger batches only wait for fresh memory


class Engine:
    """Networks that are loaded, and the threads that run them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], weights_file.Network] = {}
        self._sources: dict[bytes, weights.Source] = {}
        self._pools: dict[str, Pool] = {}
        self._lines: dict[str, Line] = {}

    def source(self, digest: bytes, spec: weights.Spec | None, metric: str, quality: int) -> weights.Source:
        """The weights of this digest: used before in this process, or found by `weights.find`."""
        known = self._sources.get(digest)
        return known if known and quality in known.qualities else weights.find(digest, spec, metric, quality)

    def load(self, source: weights.Source, quality: int) -> weights_file.Network:
        """The tensors and entropy tables of one quality."""
        key = (source.sha256, quality)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = weights.load(source, quality)
                if source.content is None:  # what a group carries is known for the length of an operation
                    self._sources[source.digest] = source
            return self._loaded[key]

    def run(self, model: Model, direction: Direction, batch: Array) -> Array:
        """Analysis of images (n, 3, h, w) float32 into symbols int32, or synthesis of symbols into images; waits for it.

        "exact" is the synthesis into levels int32, from 0 to 65535, that are the same on every machine.

        As many images go through the network at once as the settings allow: max_batch, and memory for all that run. Where as
        much waits already, this waits before it adds to that.
        """
        now = model.place.current_settings()
        on_cpu = model.place.device == "cpu"
        height, width = (side if direction == "analysis" else side * STRIDE for side in batch.shape[2:])
        hidden = self.load(model.source, model.quality).hidden
        cost = height * width * pixel_bytes(hidden, model.place.device, exact=direction == "exact")
        limit = 1 if direction == "exact" else min(now.max_batch, now.memory // cost)
        if on_cpu:
            limit = min(limit, CPU_BATCH_PIXELS // (height * width))
        limit = max(1, limit)
        parts = (batch[start : start + limit] for start in range(0, len(batch), limit))
        jobs = [Job(model, direction, part, limit, cost) for part in parts]
        self._pool(model.place.device).submit(jobs, processor.cores() if on_cpu else 1, now.memory)
        try:
            results = [job.result.result() for job in jobs]
        except BaseException:  # an error of one part, or an interrupt: nobody waits for the others
            for job in jobs:
                job.result.cancel()
            raise
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _pool(self, device: str) -> Pool:
        with self._lock:
            if device not in self._pools:
                limit_cores = processor.limit_cores if device == "cpu" else None
                self._pools[device] = Pool(f"caecodec-{device}", Networks(self.load).run, limit_cores)
            return self._pools[device]

    def line(self, place: Place) -> Line | None:
        """What takes whole chunks on a CUDA device where Triton is installed, in which its coder is written; else None."""
        if place.device == "cpu" or not device_entropy.available():
            return None
        with self._lock:
            if place.device not in self._lines:
                self._lines[place.device] = Line(place.device, self.load)
            return self._lines[place.device]


_engine = Engine()


def engine() -> Engine:
    """The engine of this process."""
    return _engine


def _reset() -> None:
    global _engine
    _engine = Engine()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
