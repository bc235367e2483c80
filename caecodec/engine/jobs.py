"""What a pool is asked for: a request, who waits for it, and the requests that go through a network."""

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
class NetworkJob:
    """A part of a request that goes through a network at once, alone or with others like it.

    batch : images (n, 3, h, w) float32, or symbols (n, M, h, w) int32
    limit : how many images a batch of several jobs may have
    cost : bytes that one of its images takes while it runs, about
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
        """How many images it has."""
        return len(self.batch)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it waits."""
        return self.batch.nbytes

    def fits(self, other: "NetworkJob") -> bool:
        """Whether both can be one batch."""
        same = self.network == other.network and self.direction == other.direction
        return same and self.batch.shape[1:] == other.batch.shape[1:]

    def together(self, jobs: "list[NetworkJob]") -> Array:
        """The batches of jobs that fit this one as one."""
        return self.batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs])

    def split(self, out: Array, jobs: "list[NetworkJob]") -> list[Array]:
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
