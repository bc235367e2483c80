"""Jobs for a pool: the interface of a request, who waits for it, and requests that go through a network."""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .place import PlacedNetwork

Direction = Literal["analysis", "synthesis", "exact"]
Array = npt.NDArray[Any]


class Waiter(NamedTuple):
    """Who waits for a job.

    daemon : whether the thread ends with the main thread
    loop : whether an event loop runs on the thread; other threads may wait for that loop
    """

    daemon: bool
    loop: bool

    @classmethod
    def current(cls) -> "Waiter":
        """The calling thread, and whether an event loop runs on it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return cls(threading.current_thread().daemon, False)
        return cls(threading.current_thread().daemon, True)


class Request(Protocol):
    """What a pool needs to know of a job.

    limit : the most images in a batch of several jobs
    cost : about how many bytes each image takes while it runs
    waiter : who waits for it
    """

    limit: int
    cost: int
    result: Any
    waiter: Waiter

    @property
    def images(self) -> int:
        """The number of images."""

    @property
    def nbytes(self) -> int:
        """The number of bytes that the job takes while it waits."""

    def fits(self, other: Any) -> bool:
        """Whether both jobs can share a batch."""

    def together(self, jobs: Any) -> Any:
        """Join jobs that fit this one into a batch."""

    def split(self, out: Any, jobs: Any) -> Any:
        """Split the result of a batch into the parts of its jobs."""


@dataclass(eq=False)
class NetworkJob:
    """A part of a request that goes through a network in one pass, alone or with similar jobs.

    batch : images (n, 3, h, w) float32, or symbols (n, M, h, w) int32
    limit : the most images in a batch of several jobs
    cost : about how many bytes each image takes while it runs
    waiter : who waits for it
    """

    network: PlacedNetwork
    direction: Direction
    batch: Array
    limit: int
    cost: int
    result: "Future[Array]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.batch)

    @property
    def nbytes(self) -> int:
        """The number of bytes that the job takes while it waits."""
        return self.batch.nbytes

    def fits(self, other: "NetworkJob") -> bool:
        """Whether both jobs can share a batch."""
        same = self.network == other.network and self.direction == other.direction
        return same and self.batch.shape[1:] == other.batch.shape[1:]

    def together(self, jobs: "list[NetworkJob]") -> Array:
        """Join the batches of jobs that fit this one."""
        return self.batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs])

    def split(self, out: Array, jobs: "list[NetworkJob]") -> list[Array]:
        """Split the result of a joined batch into the parts of its jobs."""
        return np.split(out, np.cumsum([len(job.batch) for job in jobs])[:-1])


def run_together(jobs: list[Any], run: Any) -> None:
    """Run jobs as one batch and give each its part of the result; if that fails, run each job alone."""
    try:
        first = jobs[0]
        out = run(first, first.together(jobs))
        for job, result in zip(jobs, first.split(out, jobs), strict=True):
            job.result.set_result(result)
    except BaseException as error:  # any error is raised in the caller that waits, and this thread goes on
        if len(jobs) == 1:
            jobs[0].result.set_exception(error)
            return
        for job in jobs:
            run_together([job], run)
