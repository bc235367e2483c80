"""One process-wide engine: lazy networks, and a thread per device that batches concurrent requests.

Zarr asks for one chunk at a time, from many threads; the engine runs whatever requests wait for the same network and size
as one batch. All PyTorch work happens on the engine's own threads, and a forked child starts with a fresh engine.
"""

import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from . import settings, weights
from .entropy.tables import Tables
from .errors import ParameterError
from .models.factorized import FactorizedPrior
from .models.registry import FAMILIES

Direction = Literal["analysis", "synthesis"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where and how a network runs."""

    device: str
    precision: str

    @classmethod
    def choose(cls, gpu: bool | None) -> "Place":
        """By argument: True is CUDA where present, False the CPU, None what the settings say.

        ParameterError when the settings name a CUDA device that is not there.
        """
        now = settings.current()
        wanted = now.device if gpu is None else "auto" if gpu else "cpu"
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted != "cpu" and (
            not torch.cuda.is_available() or (torch.device(wanted).index or 0) >= torch.cuda.device_count()
        ):
            raise ParameterError(f"CAECODEC_DEVICE is {wanted!r} but PyTorch finds no such device; set it to cpu or auto")
        return cls(wanted, "fp32" if now.precision == "auto" else now.precision)


@dataclass
class _Job:
    direction: Direction
    network: FactorizedPrior
    place: Place
    batch: Array
    result: "Future[Array]" = field(default_factory=Future)

    def fits(self, other: "_Job") -> bool:
        """Whether both can be one batch."""
        same = self.direction == other.direction and self.network is other.network
        return same and self.batch.shape[1:] == other.batch.shape[1:]


class Engine:
    """Networks that are loaded, and the threads that run them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], weights.Network] = {}
        self._networks: dict[tuple[str, int, Place], FactorizedPrior] = {}
        self._sources: dict[bytes, weights.Source] = {}
        self._workers: dict[str, _Worker] = {}

    def source(self, digest: bytes, spec: weights.Spec | None, metric: str, quality: int) -> weights.Source:
        """The weights of this digest: used before in this process, or found by `weights.find`."""
        known = self._sources.get(digest)
        return known if known and quality in known.qualities else weights.find(digest, spec, metric, quality)

    def tables(self, source: weights.Source, quality: int) -> Tables:
        """The entropy tables of one quality."""
        return self._load(source, quality).tables

    def network(self, source: weights.Source, quality: int, place: Place) -> FactorizedPrior:
        """The network of one quality, on its device."""
        key = (source.sha256, quality, place)
        if key not in self._networks:
            loaded = self._load(source, quality)
            with self._lock:
                if key not in self._networks:
                    network = FAMILIES[loaded.family].build(loaded.tensors)
                    if place.precision == "bf16":
                        network.reduce_precision()
                    self._networks[key] = network.to(place.device)
        return self._networks[key]

    def run(self, direction: Direction, network: FactorizedPrior, place: Place, batch: Array) -> Array:
        """Analysis of images (n, 3, h, w) float32 into symbols int32, or synthesis of symbols into images; waits for it."""
        with self._lock:
            worker = self._workers.get(place.device)
            if worker is None:
                worker = self._workers[place.device] = _Worker(place.device)
        job = _Job(direction, network, place, batch)
        worker.put(job)
        return job.result.result()

    def _load(self, source: weights.Source, quality: int) -> weights.Network:
        key = (source.sha256, quality)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = weights.load(source, quality)
                self._sources[source.digest] = source
            return self._loaded[key]


class _Worker:
    """A thread that runs the jobs of one device, batching those that fit together."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._waiting: deque[_Job] = deque()
        self._change = threading.Condition()
        threading.Thread(target=self._work, name=f"caecodec-{device}", daemon=True).start()

    def put(self, job: _Job) -> None:
        with self._change:
            self._waiting.append(job)
            self._change.notify()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting)
                jobs = self._take()
            try:
                results = _execute(jobs)
            except Exception as error:  # handed to those who wait; the thread must outlive it
                for job in jobs:
                    job.result.set_exception(error)
            else:
                for job, result in zip(jobs, results, strict=True):
                    job.result.set_result(result)
            del jobs

    def _take(self) -> list[_Job]:
        """The oldest job, and those behind it that fit it and a batch."""
        first = self._waiting.popleft()
        jobs, images, limit = [first], len(first.batch), batch_limit(first.network, first.batch.shape, first.direction)
        for job in list(self._waiting):
            if job.fits(first) and images + len(job.batch) <= limit:
                self._waiting.remove(job)
                jobs.append(job)
                images += len(job.batch)
        return jobs


def batch_limit(network: FactorizedPrior, shape: tuple[int, ...], direction: Direction) -> int:
    """Images of this size that one pass may hold."""
    now = settings.current()
    scale = network.stride if direction == "synthesis" else 1
    pixels = shape[2] * shape[3] * scale**2
    return max(1, min(now.max_batch, now.memory // (pixels * network.pixel_bytes)))


@torch.inference_mode()
def _execute(jobs: list[_Job]) -> list[Array]:
    first = jobs[0]
    threads = settings.current().threads
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    batch = first.batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs])
    limit = batch_limit(first.network, batch.shape, first.direction)
    run = getattr(first.network, first.direction)
    parts = []
    for start in range(0, len(batch), limit):
        tensor = torch.from_numpy(batch[start : start + limit]).to(first.place.device)
        parts.append(run(tensor.contiguous(memory_format=torch.channels_last)).cpu().numpy())
    out = parts[0] if len(parts) == 1 else np.concatenate(parts)
    ends = np.cumsum([len(job.batch) for job in jobs])
    return list(np.split(out, ends[:-1]))


_engine = Engine()


def engine() -> Engine:
    """The engine of this process."""
    return _engine


def _reset() -> None:
    global _engine
    _engine = Engine()


os.register_at_fork(after_in_child=_reset)
