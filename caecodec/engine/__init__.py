"""The engine of a process: it loads networks on first use, and runs concurrent requests on its own threads.

    Engine.run ── parts ──▶ Pool (one per device) ── batches ──▶ Networks.run
    Engine.line ──▶ Line (one for the CPU, one per CUDA device), which encodes and decodes whole chunks

Zarr asks for one chunk at a time, from many threads. Waiting small requests for the same network and size run as one batch;
large requests run side by side. All PyTorch work happens on the engine's own threads. A forked child starts with a new engine.
"""

import threading

import numpy as np

from .. import weights
from ..weights.file import QualityWeights
from . import processor
from .cpu import CpuLine
from .cuda import CudaLine
from .forks import OnePerProcess
from .jobs import Array, Direction, NetworkJob
from .line import ChunkTask, Line
from .networks import EXACT_LEVELS, Networks
from .place import DevicePlacement, Gpu, PlacedNetwork
from .pool import Pool

__all__ = [
    "EXACT_LEVELS",
    "ChunkTask",
    "CpuLine",
    "DevicePlacement",
    "Direction",
    "Engine",
    "Gpu",
    "Line",
    "PlacedNetwork",
    "engine",
]

CPU_BATCH_PIXELS = 2**16  # pixels per batch on one core; larger batches are slower because they wait for new memory


class Engine:
    """The loaded networks, and the threads that run them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], QualityWeights] = {}
        self._sources: dict[bytes, weights.Source] = {}
        self._pools: dict[str, Pool] = {}
        self.cpu = CpuLine(self.load, self.run)
        self._lines: dict[str, Line] = {"cpu": self.cpu}

    def source(self, digest: bytes, spec: weights.Spec | None, metric: str, quality: int) -> weights.Source:
        """The weights of this digest, from an earlier use in this process or from `weights.find`."""
        known = self._sources.get(digest)
        return known if known and quality in known.qualities else weights.find(digest, spec, metric, quality)

    def load(self, source: weights.Source, quality: int) -> QualityWeights:
        """The tensors and entropy tables of one quality."""
        key = (source.sha256, quality)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = weights.load(source, quality)
                if source.content is None:  # weights that a group carries are known only during an operation
                    self._sources[source.digest] = source
            return self._loaded[key]

    def run(self, network: PlacedNetwork, direction: Direction, batch: Array) -> Array:
        """Run analysis of images (n, 3, h, w) float32 into symbols int32, or synthesis of symbols into images, and wait for it.

        The direction "exact" is the synthesis into int32 levels from 0 to 65535, which are the same on every machine.

        The settings limit how many images go through the network at once (max_batch), and the memory of all running jobs. If
        too many jobs wait already, this waits before it adds its own.
        """
        placement, loaded = network.placement, self.load(network.source, network.quality)
        now, family, device = placement.current_settings(), loaded.family, placement.device
        height, width = (side if direction == "analysis" else side * family.stride for side in batch.shape[2:])
        cost = height * width * family.pixel_bytes(loaded.network.tensors, device, exact=direction == "exact")
        limit = 1 if direction == "exact" else min(now.max_batch, now.memory // cost)
        if placement.on_cpu:
            limit = min(limit, CPU_BATCH_PIXELS // (height * width))
        limit = max(1, limit)
        parts = (batch[start : start + limit] for start in range(0, len(batch), limit))
        jobs = [NetworkJob(network, direction, part, limit, cost) for part in parts]
        self._pool(device).submit(jobs, processor.cores() if placement.on_cpu else 1, now.memory)
        try:
            results = [job.result.result() for job in jobs]
        except BaseException:  # after an error of one part or an interrupt, nobody waits for the others
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

    def line(self, placement: DevicePlacement) -> Line:
        """The line that encodes and decodes whole chunks on this device."""
        with self._lock:
            if placement.device not in self._lines:
                self._lines[placement.device] = CudaLine(placement.device, self.load, self.cpu)
            return self._lines[placement.device]


engine = OnePerProcess(Engine)
"""The engine of this process."""
