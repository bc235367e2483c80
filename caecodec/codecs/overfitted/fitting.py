"""Runs concurrent fits: on the CPU each on a core of its own, on CUDA all chunks of one shape as one batch.

So a payload that the CPU makes depends neither on what else is encoded nor on the number of cores. Sums over a batch, or by
several threads, would be rounded in another order.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import settings
from ...engine import processor
from ...engine.forks import OnePerProcess
from ...engine.jobs import Waiter
from ...engine.pool import Pool
from . import fit
from .architecture import Decoder
from .fit import Fitted
from .network import Network
from .reports import Listener, listening

CUDA_CHUNKS = 64


@dataclass(frozen=True, eq=False)
class Task:
    """The arguments of `fit.fit`, without the pictures."""

    decoder: Decoder
    lmbda: float
    preset: str
    seed: int
    network: Network | None
    device: str
    raw_bits: float


@dataclass(eq=False)
class _FitRequest:
    """A request to fit the pictures (m, C, height, width) of one chunk; `engine.jobs` explains requests."""

    task: Task
    pictures: npt.NDArray[np.float32]
    limit: int
    cost: int
    listener: Listener | None
    images: int = 1
    result: "Future[Fitted | None]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def nbytes(self) -> int:
        return self.pictures.nbytes

    @property
    def _kind(self) -> tuple[Any, ...]:
        task = self.task
        numbers = task.lmbda, task.preset, task.seed, task.raw_bits
        return task.decoder, numbers, id(task.network), self.listener, self.pictures.shape

    def fits(self, other: "_FitRequest") -> bool:
        return self._kind == other._kind

    def together(self, jobs: "list[_FitRequest]") -> npt.NDArray[np.float32]:
        return np.stack([job.pictures for job in jobs])

    def split(self, out: list[Fitted | None], jobs: "list[_FitRequest]") -> list[Fitted | None]:
        return out


class _Fitter:
    """Pools of threads, one for each device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def run(self, task: Task, pictures: npt.NDArray[np.float32]) -> Fitted | None:
        """See `fitted`."""
        on_cpu = task.device == "cpu"
        pixels = pictures[:, 0].size
        job = _FitRequest(task, pictures, 1 if on_cpu else CUDA_CHUNKS, fit.memory(task.decoder, pixels), listening())
        with self._lock:
            if task.device not in self._pools:
                self._pools[task.device] = Pool(f"caecodec-fit-{task.device}", _run, None)
            pool = self._pools[task.device]
        pool.submit([job], processor.cores() if on_cpu else 1, settings.current().memory)
        try:
            return job.result.result()
        except BaseException:  # after an interrupt, nobody waits for the result
            job.result.cancel()
            raise


def _run(job: _FitRequest, batch: npt.NDArray[np.float32]) -> list[Fitted | None]:
    task = job.task
    if task.device == "cpu":
        processor.limit_cores(1)
    return fit.fit(
        batch, task.decoder, task.lmbda, task.preset, task.seed, task.network, task.device, job.listener, task.raw_bits
    )


_fitter = OnePerProcess(_Fitter)


def fitted(task: Task, pictures: npt.NDArray[np.float32]) -> Fitted | None:
    """Fit one chunk's pictures (m, C, height, width) in [0, 1], and wait for the result, which is that of `fit.fit`."""
    return _fitter().run(task, pictures)
