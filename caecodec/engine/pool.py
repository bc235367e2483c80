"""A queue of jobs, and the threads that run them on one device.

    callers ── submit ──▶ waiting ── batches of jobs that fit together ──▶ threads ── results ──▶ callers

A job that is alone gets all of the processor; as soon as others wait they share it, at best one core each, which is quicker
than one after the other on all cores. Threads start when there is work and end when there has been none for a moment, so
that an idle process, one that forks or one that ends has none.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .jobs import Request, run_together

LINGER = 0.1  # seconds that an idle thread waits for work


@dataclass(eq=False)
class _Task:
    """Jobs that run as one batch, on `cores` cores, taking `cost` bytes."""

    jobs: list[Any]
    cores: int
    cost: int


class _Idle:
    """A thread that waits for a task."""

    def __init__(self, lock: threading.Lock) -> None:
        self.task: _Task | None = None
        self._change = threading.Condition(lock)

    def give(self, task: _Task) -> None:
        """Have it go on with this; holding the lock."""
        self.task = task
        self._change.notify()

    def wait(self) -> None:
        """Until there is a task, for a moment at most; holding the lock."""
        self._change.wait_for(lambda: self.task, LINGER)


class Pool:
    """Threads that run jobs.

    Parameters
    ----------
    name
        Of the threads.
    run
        Runs a batch for the first of its jobs.
    limit_cores
        Called by a thread before it runs a batch, with the number of cores that it may use; None where each takes one.
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
        """Queue jobs; waits while those that wait already hold half of `memory`.

        cores, memory : how many cores and about how many bytes all running jobs together may take
        """
        with self._room:
            self._room.wait_for(lambda: sum(job.nbytes for job in self._waiting) <= memory // 2)
            self._waiting.extend(jobs)
            self._limits = cores, memory
            self._start()

    def _start(self) -> None:
        """Start what there are cores and memory for; holding the lock."""
        cores, memory = self._limits
        if not threading.main_thread().is_alive():  # threads that are daemons would keep the process from ending
            self._drop([job for job in self._waiting if job.waiter.daemon])
        while self._waiting and self._cores < cores:
            first = self._waiting[0]
            if self._running and self._cost + first.cost * first.images > memory:
                return
            share = -(-(cores - self._cores) // len(self._waiting)) if self._limit_cores else 1
            self._assign(self._take(share, memory - self._cost))
            self._room.notify_all()

    def _drop(self, jobs: list[Any]) -> None:
        """Run these jobs never. An event loop is told, because a thread that is no daemon may wait for it; holding the lock."""
        for job in jobs:
            self._waiting.remove(job)
            if job.waiter.loop:
                job.result.cancel()
        self._room.notify_all()

    def _take(self, cores: int, memory: int) -> _Task:
        """The oldest job, and those behind it that fit it, its batch and the memory."""
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
        """Have a thread run the task, the one that ran last where there is one."""
        self._running += 1
        self._cores += task.cores
        self._cost += task.cost
        if self._idle:
            self._idle.pop().give(task)
            return
        try:
            threading.Thread(target=self._work, args=(task,), name=self._name, daemon=False).start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self._finish(task)
            for job in task.jobs:
                job.result.set_exception(error)

    def _finish(self, task: _Task) -> None:
        self._running -= 1
        self._cores -= task.cores
        self._cost -= task.cost

    def _work(self, task: _Task) -> None:
        """Run tasks until none comes for a while."""
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
