"""A queue of jobs, and the threads that run them on one device.

    callers ── submit ──▶ waiting ── batches of jobs that fit together ──▶ threads ── results ──▶ callers

A lone job gets all cores. As soon as others wait, they share the cores, at best one each, which is faster than one job after
the other on all cores. Threads start when there is work and end soon after it, so an idle, forking or ending process has none.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .jobs import Request, run_together

LINGER = 0.1  # seconds for which an idle thread waits for work


@dataclass(eq=False)
class _Task:
    """Jobs that run as one batch on `cores` cores and take `cost` bytes."""

    jobs: list[Any]
    cores: int
    cost: int


class _Idle:
    """A thread that waits for a task."""

    def __init__(self, lock: threading.Lock) -> None:
        self.task: _Task | None = None
        self._change = threading.Condition(lock)

    def give(self, task: _Task) -> None:
        """Give the thread a task; the caller holds the lock."""
        self.task = task
        self._change.notify()

    def wait(self) -> None:
        """Wait up to LINGER seconds for a task; the caller holds the lock."""
        self._change.wait_for(lambda: self.task, LINGER)


class Pool:
    """Threads that run jobs.

    Parameters
    ----------
    name
        The name of the threads.
    run
        Runs a batch for the first of its jobs.
    limit_cores
        A thread calls it before a batch with the number of cores that it may use; None: each batch counts as one core.
    """

    def __init__(self, name: str, run: Callable[[Any, Any], Any], limit_cores: Callable[[int], None] | None) -> None:
        self._name, self._run, self._limit_cores = name, run, limit_cores
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: deque[Any] = deque()
        self._idle: list[_Idle] = []
        self._running = 0
        self._cores = 0
        self._cost = 0
        self._limits = (1, 1)

    def submit(self, jobs: Sequence[Request], cores: int, memory: int) -> None:
        """Queue jobs, after waiting until the jobs in the queue hold at most half of `memory`.

        cores, memory : the cores, and about how many bytes, that all running jobs together may take
        """
        with self._room:
            self._room.wait_for(lambda: sum(job.nbytes for job in self._waiting) <= memory // 2)
            self._waiting.extend(jobs)
            self._limits = cores, memory
            self._start()

    def _start(self) -> None:
        """Start as many jobs as cores and memory allow; the caller holds the lock."""
        cores, memory = self._limits
        if not threading.main_thread().is_alive():  # jobs of daemon threads would keep the process alive
            self._drop([job for job in self._waiting if job.waiter.daemon])
        while self._waiting and self._cores < cores:
            first = self._waiting[0]
            if self._running and self._cost + first.cost * first.images > memory:
                return
            share = -(-(cores - self._cores) // len(self._waiting)) if self._limit_cores else 1
            self._assign(self._take(share, memory - self._cost))
            self._room.notify_all()

    def _drop(self, jobs: list[Any]) -> None:
        """Drop jobs, and tell event loops, because a non-daemon thread may wait for one; the caller holds the lock."""
        for job in jobs:
            self._waiting.remove(job)
            if job.waiter.loop:
                job.result.cancel()
        self._room.notify_all()

    def _take(self, cores: int, memory: int) -> _Task:
        """Take the oldest job, and later ones that fit it, the batch limit and the memory."""
        first = self._waiting.popleft()
        jobs, images = [first], first.images
        most = min(first.limit, memory // first.cost)
        for job in list(self._waiting):
            if images + job.images <= most and job.fits(first):
                self._waiting.remove(job)
                jobs.append(job)
                images += job.images
        return _Task(jobs, cores, images * first.cost)

    def _assign(self, task: _Task) -> None:
        """Give the task to the most recently idle thread, or to a new one."""
        self._running += 1
        self._cores += task.cores
        self._cost += task.cost
        if self._idle:
            self._idle.pop().give(task)
            return
        try:
            threading.Thread(target=self._work, args=(task,), name=self._name, daemon=False).start()
        except RuntimeError as error:  # there can be no more threads, or the interpreter is ending
            self._finish(task)
            for job in task.jobs:
                job.result.set_exception(error)

    def _finish(self, task: _Task) -> None:
        self._running -= 1
        self._cores -= task.cores
        self._cost -= task.cost

    def _work(self, task: _Task) -> None:
        """Run tasks until none comes for LINGER seconds."""
        next_task: _Task | None = task
        while next_task:
            task, next_task = next_task, None
            if self._limit_cores:
                self._limit_cores(task.cores)
            wanted = [job for job in task.jobs if job.result.set_running_or_notify_cancel()]
            if wanted:
                run_together(wanted, self._run)
            with self._lock:
                self._finish(task)
                del task, wanted
                idle = _Idle(self._lock)
                self._idle.append(idle)
                self._start()
                idle.wait()
                if idle.task is None:
                    self._idle.remove(idle)
                next_task = idle.task
