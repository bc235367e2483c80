"""What the engine is asked for: which network, where, and on what."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .. import settings, weights
from ..errors import ParameterError

Direction = Literal["analysis", "synthesis", "exact"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where and how a network runs: a device of PyTorch's, and a precision of the settings'."""

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
        return cls(wanted, now.precision)


class Model(NamedTuple):
    """Which network: one quality of a weights file, on a device."""

    source: weights.Source
    quality: int
    place: Place


@dataclass(eq=False)
class Job:
    """A part of a request that goes through a network at once, alone or with others like it.

    batch : images (n, 3, h, w) float32, or symbols (n, M, h, w) int32
    limit : how many images a batch of several jobs may have
    cost : bytes that one of its images takes while it runs, about
    daemon : whether the thread that waits for it ends with the main thread
    """

    model: Model
    direction: Direction
    batch: Array
    limit: int
    cost: int
    result: "Future[Array]" = field(default_factory=Future)
    daemon: bool = field(default_factory=lambda: threading.current_thread().daemon)

    def fits(self, other: "Job") -> bool:
        """Whether both can be one batch."""
        same = self.model == other.model and self.direction == other.direction
        return same and self.batch.shape[1:] == other.batch.shape[1:]


def run_together(jobs: list[Job], run: Any) -> None:
    """Give each job its part of what `run` makes of all their images; where that fails, its own result or error."""
    try:
        out = run(jobs[0], jobs[0].batch if len(jobs) == 1 else np.concatenate([job.batch for job in jobs]))
        ends = np.cumsum([len(job.batch) for job in jobs])
        for job, result in zip(jobs, np.split(out, ends[:-1]), strict=True):
            job.result.set_result(result)
    except BaseException as error:  # of any kind: it is raised in the caller that waits, and the thread goes on
        if len(jobs) == 1:
            jobs[0].result.set_exception(error)
            return
        for job in jobs:
            run_together([job], run)
