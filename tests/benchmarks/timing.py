"""Times tasks that take turns in one process, round by round, and computes ratios pair by pair."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple, TypeVar

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


class Turns(NamedTuple):
    """The seconds of a task: of its first call, which warms it up, and of each round after it."""

    first: float
    rounds: list[float]


def in_turn(tasks: dict[Key, Callable[[], Any]], seconds: float) -> dict[Key, Turns]:
    """Time each task in each round, after a first call of each; a task leaves when its rounds have taken `seconds` in total."""
    taken = {name: Turns(_seconds(task), []) for name, task in tasks.items()}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            rounds = taken[name].rounds
            if sum(rounds) < seconds or not rounds:
                rounds.append(_seconds(task))
    return taken


def _seconds(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """How many times as long the others took: the median over the rounds in which both ran."""
    return median(b / a for a, b in zip(times, others, strict=False))
