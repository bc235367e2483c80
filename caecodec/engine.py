"""One process-wide engine: lazy networks, and a thread per device that batches concurrent requests.

Zarr asks for one chunk at a time, from many threads; the engine runs whatever requests wait for the same network and size
as one batch. All PyTorch work happens on the engine's own threads, and a forked child starts with a fresh engine.
"""

import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from . import settings, weights, weights_file
from .errors import ParameterError
from .models.exact import ExactSynthesis
from .models.factorized import FactorizedPrior
from .models.registry import FAMILIES

Direction = Literal["analysis", "synthesis", "exact"]
Array = npt.NDArray[Any]
EXACT_LEVELS = 65535


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


class Model(NamedTuple):
    """Which network: one quality of a weights file, on a device."""

    source: weights.Source
    quality: int
    place: Place


@dataclass
class _Job:
    model: Model
    direction: Direction
    batch: Array
    limit: int
    result: "Future[Array]" = field(default_factory=Future)

    def fits(self, other: "_Job") -> bool:
        """Whether both can be one batch."""
        same = self.model == other.model and self.direction == other.direction
        return same and self.batch.shape[1:] == other.batch.shape[1:]


class Engine:
    """Networks that are loaded, and the threads that run them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], weights_file.Network] = {}
        self._sources: dict[bytes, weights.Source] = {}
        self._workers: dict[str, _Worker] = {}

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
                self._sources[source.digest] = source
            return self._loaded[key]

    def run(self, model: Model, direction: Direction, batch: Array, limit: int) -> Array:
        """Analysis of images (n, 3, h, w) float32 into symbols int32, or synthesis of symbols into images; waits for it.

        "exact" is the synthesis into levels int32, from 0 to 65535, that are the same on every machine.

        No more than `limit` images go through the network at once.
        """
        with self._lock:
            worker = self._workers.get(model.place.device)
            if worker is None:
                worker = self._workers[model.place.device] = _Worker(self, model.place.device)
        job = _Job(model, direction, batch, limit)
        worker.put(job)
        return job.result.result()


class _Worker:
    """A thread that runs the jobs of one device, batching those that fit together.

    Networks are built on it too: PyTorch's thread pools belong to the thread that first used them, and would hang in a
    forked child if that were the caller's.
    """

    def __init__(self, engine: Engine, device: str) -> None:
        self._engine = engine
        self._networks: dict[Model, FactorizedPrior] = {}
        self._exacts: dict[Model, ExactSynthesis] = {}
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
                results = self._execute(jobs)
            except Exception as error:  # of any kind: raised in the callers that wait, while the thread serves the others
                for job in jobs:
                    job.result.set_exception(error)
            else:
                for job, result in zip(jobs, results, strict=True):
                    job.result.set_result(result)
            del jobs

    def _take(self) -> list[_Job]:
        """The oldest job, and those behind it that fit it and a batch."""
        first = self._waiting.popleft()
        jobs, images = [first], len(first.batch)
        for job in list(self._waiting):
            if job.fits(first) and images + len(job.batch) <= first.limit:
                self._waiting.remove(job)
                jobs.append(job)
                images += len(job.batch)
        return jobs

    @torch.inference_mode()
    def _execute(self, jobs: list[_Job]) -> list[Array]:
        first = jobs[0]
        threads = settings.current().threads
        if threads and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        batch = first.batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs])
        ends = np.cumsum([len(job.batch) for job in jobs])
        if first.direction == "exact":
            levels = self._exact(first.model).run(batch, EXACT_LEVELS, settings.current().memory)
            return list(np.split(levels, ends[:-1]))
        run = getattr(self._network(first.model), first.direction)
        parts = []
        for start in range(0, len(batch), first.limit):
            tensor = torch.from_numpy(batch[start : start + first.limit]).to(first.model.place.device)
            parts.append(run(tensor.contiguous(memory_format=torch.channels_last)).cpu().numpy())
        out = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return list(np.split(out, ends[:-1]))

    def _exact(self, model: Model) -> ExactSynthesis:
        if model not in self._exacts:
            loaded = self._engine.load(model.source, model.quality)
            self._exacts[model] = ExactSynthesis.build(loaded.tensors, model.place.device)
        return self._exacts[model]

    def _network(self, model: Model) -> FactorizedPrior:
        if model not in self._networks:
            loaded = self._engine.load(model.source, model.quality)
            network = FAMILIES[loaded.family].build(loaded.tensors)
            if model.place.precision == "bf16":
                network.reduce_precision()
            self._networks[model] = network.to(model.place.device)
        return self._networks[model]


_engine = Engine()


def engine() -> Engine:
    """The engine of this process."""
    return _engine


def _reset() -> None:
    global _engine
    _engine = Engine()


os.register_at_fork(after_in_child=_reset)
