"""Decodes the pictures of concurrent requests together.

Zarr asks for one chunk at a time, from many threads. A step of the wavefront costs about the same for one payload as for ten,
so waiting requests for payloads of one shape and decoder are decoded as one batch. There are no threads besides the callers':
one of those that wait runs the next batch for all of them. Batches run one after the other, because most of the work is short
operations that hold Python's lock or hand it over, and two threads that do so take longer than one.
"""

import os
import threading
from collections import deque
from dataclasses import dataclass

from ... import settings
from . import wavefront
from .laplace import Coded
from .network import Network
from .synthesis import Floats, synthesise

_PIXEL_BYTES = 64  # about how much memory a batch takes for each pixel


@dataclass(eq=False)
class _DecodeRequest:
    network: Network
    coded: Coded
    pictures: int
    height: int
    width: int
    images: Floats | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.images is not None or self.error is not None

    @property
    def kind(self) -> tuple[object, ...]:
        """What the requests of a batch have in common."""
        return self.network.decoder, self.pictures, self.height, self.width


class Batches:
    """The waiting requests, which are decoded in batches."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[_DecodeRequest] = deque()
        self._running = False

    def decode(self, network: Network, coded: Coded, pictures: int, height: int, width: int) -> Floats:
        """The pictures (m, C, height, width) of a payload. Raises the errors of `wavefront.decode`."""
        job = _DecodeRequest(network, coded, pictures, height, width)
        with self._change:
            self._waiting.append(job)
        while True:
            with self._change:
                self._change.wait_for(lambda: job.done or (self._waiting and not self._running))
                if job.done:
                    break
                jobs = self._take()
                self._running = True
            try:
                _run(jobs)
            finally:
                with self._change:
                    self._running = False
                    self._waiting.extendleft(
                        other for other in jobs if not other.done and other is not job
                    )  # after an interrupt
                    self._change.notify_all()
        if job.error is not None:
            raise job.error
        assert job.images is not None
        return job.images

    def _take(self) -> list[_DecodeRequest]:
        """Take the oldest request, and those like it that memory has room for. The caller holds the lock."""
        first = self._waiting[0]
        like = [job for job in self._waiting if job.kind == first.kind]
        room = settings.current().memory // (_PIXEL_BYTES * first.pictures * first.height * first.width)
        jobs = like[: max(1, room)]
        taken = set(map(id, jobs))
        self._waiting = deque(job for job in self._waiting if id(job) not in taken)
        return jobs


def _run(jobs: list[_DecodeRequest]) -> None:
    """Decode a batch. If that fails, decode each payload by itself, so that each request has its own result or error."""
    first = jobs[0]
    shared = all(job.network is first.network for job in jobs)
    networks = [first.network] if shared else [job.network for job in jobs]
    try:
        levels = wavefront.decode(networks, [job.coded for job in jobs], first.pictures, first.height, first.width)
    # The error is raised in the thread that asked for this payload, because this thread must go on to serve the others.
    except Exception as error:
        if len(jobs) == 1:
            first.error = error
            return
        for job in jobs:
            _run([job])
        return
    for i, job in enumerate(jobs):
        job.images = synthesise(job.network, [level[i] for level in levels])


_batches = Batches()


def batches() -> Batches:
    """The requests and batches of this process."""
    return _batches


def _reset() -> None:
    global _batches
    _batches = Batches()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
