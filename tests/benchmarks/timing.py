"""What is compared, in turn, round after round, in one process: seconds of each round, medians, and ratios pair by pair."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any, TypeVar

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
Key = TypeVar("Key")
ROUNDS = 7  # at most


@contextmanager
def callers(concurrency: int) -> Iterator[Map]:
    """A map by so many threads at once, as zarr calls codecs; by the calling thread for one."""
    if concurrency == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ThreadPoolExecutor(concurrency) as pool:
        yield lambda function, items: list(pool.map(function, items))


def in_turn(tasks: dict[Key, Callable[[], Any]], seconds: float) -> dict[Key, list[float]]:
    """Seconds that each task took in each round; a task leaves when it has taken `seconds` in all, but runs once."""
    taken: dict[Key, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            if sum(taken[name]) < seconds or not taken[name]:
                start = time.perf_counter()
                task()
                taken[name].append(time.perf_counter() - start)
    return taken


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """How many times as long the others took: the median of the rounds that both were in, each by itself."""
    return median(b / a for a, b in zip(times, others, strict=False))
