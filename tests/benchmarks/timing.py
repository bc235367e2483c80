"""Times tasks that take turns in one process, round by round, and computes ratios pair by pair."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any, TypeVar

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
Key = TypeVar("Key")
ROUNDS = 7  # the most rounds


@contextmanager
def callers(concurrency: int) -> Iterator[Map]:
    """A map that runs on `concurrency` threads at once, like zarr's calls of codecs; on the calling thread if that is 1."""
    if concurrency == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ThreadPoolExecutor(concurrency) as pool:
        yield lambda function, items: list(pool.map(function, items))


def in_turn(tasks: dict[Key, Callable[[], Any]], seconds: float) -> dict[Key, list[float]]:
    """The seconds of each task in each round; a task runs once, and leaves when it has taken `seconds` in total."""
    taken: dict[Key, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            if sum(taken[name]) < seconds or not taken[name]:
                start = time.perf_counter()
                task()
                taken[name].append(time.perf_counter() - start)
    return taken


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """How many times as long the others took: the median over the rounds in which both ran."""
    return median(b / a for a, b in zip(times, others, strict=False))
