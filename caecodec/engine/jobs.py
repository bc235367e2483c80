"""What the engine is asked for: which network, where, and on what."""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from .. import settings, weights
from ..errors import ParameterError

Direction = Literal["analysis", "synthesis", "exact"]
Array = npt.NDArray[Any]
Gpu = bool | str | None


@dataclass(frozen=True)
class Place:
    """Where and how a network runs: a device of PyTorch's, and a precision of the settings'."""

    device: str
    precision: str

    @classmethod
    def choose(cls, gpu: Gpu) -> "Place":
        """By argument: True is CUDA where present, False the CPU, None what the settings say, a string as in the settings.

        ParameterError for another device, or a CUDA device that is not there.
        """
        now = settings.current()
        if isinstance(gpu, str):
            wanted = settings.parse_device(gpu, "device")
        else:
            wanted = now.device if gpu is None else "auto" if gpu else "cpu"
        if wanted == "auto":
            wanted = "cuda" if _cuda_devices() else "cpu"
        if wanted != "cpu" and (torch.device(wanted).index or 0) >= _cuda_devices():
            name = "device" if isinstance(gpu, str) else "CAECODEC_DEVICE"
            raise ParameterError(f"{name} is {wanted!r} but PyTorch finds no such device; set it to cpu or auto")
        return cls(wanted, now.precision)

    def current_settings(self) -> settings.Settings:
        """The settings in force on this device."""
        if self.device == "cpu":
            return settings.current()
        return settings.on_cuda(torch.cuda.get_device_properties(self.device).total_memory)


@cache
def _cuda_devices() -> int:
    """How many there are; asked once, because each chunk would ask again."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class Model(NamedTuple):
    """Which network: one quality of a weights file, on a device."""

    source: weights.Source
    quality: int
    place: Place


class Waiter(NamedTuple):
    """Who waits for a job.

    daemon : a thread that ends with the main thread
    loop : an event loop on that thread, for which any other thread may wait
    """

    daemon: bool
    loop: bool

    @classmethod
    def current(cls) -> "Waiter":
        """The calling thread, or the loop that runs on it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return cls(threading.current_thread().daemon, False)
        return cls(threading.current_thread().daemon, True)


class Request(Protocol):
    """What a pool asks of a job.

    limit : how many images a batch of several jobs may have
    cost : bytes that one of its images takes while it runs, about
    waiter : who waits for it
    """

    limit: int
    cost: int
    result: Any
    waiter: Waiter

    @property
    def images(self) -> int:
        """How many images it has."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it waits."""

    def fits(self, other: Any) -> bool:
        """Whether both can be one batch."""

    def together(self, jobs: Any) -> Any:
        """Jobs that fit this one as what is run."""

    def split(self, out: Any, jobs: Any) -> Any:
        """The part of each job of what came of them."""


@dataclass(eq=False)
class Job:
    """A part of a request that goes through a network at once, alone or with others like it.

    batch : images (n, 3, h, w) float32, or symbols (n, M, h, w) int32
    limit : how many images a batch of several jobs may have
    cost : bytes that one of its images takes while it runs, about
    waiter : who waits for it
    """

    model: Model
    direction: Direction
    batch: Array
    limit: int
    cost: int
    result: "Future[Array]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def images(self) -> int:
        """How many images it has."""
        return len(self.batch)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it waits."""
        return self.batch.nbytes

    def fits(self, other: "Job") -> bool:
        """Whether both can be one batch."""
        same = self.model == other.model and self.direction == other.direction
        return same and self.batch.shape[1:] == other.batch.shape[1:]

    def together(self, jobs: "list[Job]") -> Array:
        """The batches of jobs that fit this one as one."""
        return self.batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs])

    def split(self, out: Array, jobs: "list[Job]") -> list[Array]:
        """The part of each job of what came of their batches."""
        return np.split(out, np.cumsum([len(job.batch) for job in jobs])[:-1])


def run_together(jobs: list[Any], run: Any) -> None:
    """Give each job its part of what `run` makes of all their images; where that fails, its own result or error."""
    try:
        first = jobs[0]
        out = run(first, first.together(jobs))
        for job, result in zip(jobs, first.split(out, jobs), strict=True):
            job.result.set_result(result)
    except BaseException as error:  # of any kind: it is raised in the caller that waits, and the thread goes on
        if len(jobs) == 1:
            jobs[0].result.set_exception(error)
            return
        for job in jobs:
            run_together([job], run)
