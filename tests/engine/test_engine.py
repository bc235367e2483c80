"""The engine's pool: cores, memory and batches shared among requests, errors, and threads that end."""

import os
import threading
import time

import numpy as np
import pytest
from helpers import processes
from helpers.images import random_image

import caecodec
from caecodec.engine.jobs import NetworkJob
from caecodec.engine.place import DevicePlacement, PlacedNetwork
from caecodec.engine.pool import LINGER, Pool

NETWORK = PlacedNetwork(None, 4, DevicePlacement("cpu", "fp32"))
PLENTY = 2**30
WAIT = processes.PATIENCE


class Recorder:
    """Runs batches by adding one; those of value 100 wait for the gate, and negative ones fail."""

    def __init__(self):
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches, self.cores, self.together, self.most = [], [], 0, 0
        self.lock = threading.Lock()
        self.pool = Pool("caecodec-test", self.run, self.cores.append)

    def run(self, job, batch):
        with self.lock:
            self.batches.append(batch[:, 0, 0, 0].tolist())
            self.together += 1
            self.most = max(self.most, self.together)
        self.started.release()
        if (batch >= 100).any():
            assert self.gate.wait(WAIT)
        with self.lock:
            self.together -= 1
        if (batch < 0).any():
            raise ValueError("negative")
        return batch + 1

    def submit(self, *values, cores=1, memory=PLENTY, limit=1, cost=1):
        jobs = [NetworkJob(NETWORK, "synthesis", np.full((1, 1, 1, 1), value), limit, cost) for value in values]
        self.pool.submit(jobs, cores, memory)
        return [job.result for job in jobs]


@pytest.fixture
def recorder():
    recorder = Recorder()
    yield recorder
    recorder.gate.set()


def values(results):
    return [int(result.result(WAIT)[0, 0, 0, 0]) for result in results]


def test_a_lone_job_has_all_cores(recorder):
    assert values(recorder.submit(1, cores=8)) == [2]
    assert recorder.cores == [8]


@pytest.mark.parametrize(("jobs", "cores", "shares"), [(2, 2, [1, 1]), (3, 8, [3, 3, 2]), (5, 4, [1, 1, 1, 1])])
def test_jobs_share_the_cores(recorder, jobs, cores, shares):
    results = recorder.submit(*[100] * jobs, cores=cores)
    for _ in shares:
        assert recorder.started.acquire(timeout=WAIT)
    assert recorder.together == len(shares)
    assert sorted(recorder.cores, reverse=True) == shares
    recorder.gate.set()
    assert values(results) == [101] * jobs


def test_jobs_that_come_later_wait_for_cores(recorder):
    first = recorder.submit(100, cores=4)
    assert recorder.started.acquire(timeout=WAIT)
    later = recorder.submit(1, 2, cores=4)
    assert not recorder.started.acquire(timeout=0.05)
    recorder.gate.set()
    assert values(first + later) == [101, 2, 3]
    assert recorder.cores == [4, 2, 2]


def test_memory_is_shared(recorder):
    """Jobs that together would take more run one after the other; one that takes more by itself runs alone."""
    results = recorder.submit(100, 101, 102, cores=3, memory=100, cost=60)
    results += recorder.submit(103, cores=3, memory=100, cost=200)
    assert recorder.started.acquire(timeout=WAIT)
    recorder.gate.set()
    assert values(results) == [101, 102, 103, 104]
    assert recorder.most == 1


def test_small_jobs_are_batched(recorder):
    first = recorder.submit(100)
    assert recorder.started.acquire(timeout=WAIT)
    later = recorder.submit(*range(7), limit=4)
    recorder.gate.set()
    assert values(first + later) == [101, *range(1, 8)]
    assert recorder.batches == [[100], [0, 1, 2, 3], [4, 5, 6]]


def test_callers_wait_while_much_is_queued(recorder):
    recorder.submit(100)
    assert recorder.started.acquire(timeout=WAIT)
    memory = 10 * np.zeros((1, 1, 1, 1), int).nbytes
    done = []

    def call():
        for value in range(100):
            done.extend(recorder.submit(value, memory=memory))

    caller = threading.Thread(target=call)
    caller.start()
    while len(done) < 6:  # more than half of the memory
        assert caller.is_alive()
        caller.join(0.01)
    caller.join(0.2)
    assert caller.is_alive()
    assert len(done) == 6
    recorder.gate.set()
    caller.join(WAIT)
    assert values(done) == list(range(1, 101))


def test_an_error_reaches_its_caller_alone(recorder):
    first = recorder.submit(100)
    assert recorder.started.acquire(timeout=WAIT)
    good, bad, other = recorder.submit(1, -1, 2, limit=3)
    recorder.gate.set()
    with pytest.raises(ValueError, match="negative"):
        bad.result(WAIT)
    assert values([*first, good, other]) == [101, 2, 3]
    assert [1, -1, 2] in recorder.batches
    assert values(recorder.submit(5)) == [6]


def test_what_nobody_waits_for_is_not_run(recorder):
    first = recorder.submit(100)
    assert recorder.started.acquire(timeout=WAIT)
    dropped, wanted = recorder.submit(7, 8)
    assert dropped.cancel()
    recorder.gate.set()
    assert values([*first, wanted]) == [101, 9]
    assert [7] not in recorder.batches


def test_idle_threads_end(recorder):
    assert values(recorder.submit(*range(6), cores=3)) == [1, 2, 3, 4, 5, 6]
    deadline = time.monotonic() + WAIT
    while any(thread.name == "caecodec-test" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(LINGER / 10)
    assert values(recorder.submit(1)) == [2]


def test_a_failure_in_the_network_reaches_the_caller(tiny, monkeypatch):
    from caecodec.models.factorized.network import FactorizedPrior

    payload = caecodec.encode(random_image(64, 64, 3), quality=4, weights=tiny)

    def fail(self, symbols):
        raise MemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(FactorizedPrior, "synthesis", fail)
        with pytest.raises(MemoryError, match="no memory"):
            caecodec.decode(payload)
    assert caecodec.decode(payload).shape == (64, 64, 3)


def test_threads_of_the_caller_are_left_alone(tiny):
    import torch

    before = torch.get_num_threads()
    with caecodec.settings.using(threads=before + 2):
        caecodec.encode(random_image(4, 64, 64, 3), quality=4, weights=tiny)
    assert torch.get_num_threads() == before


def script(code, tiny):
    """A fresh process that ran this code with the tiny weights."""
    environment = processes.environment(CAECODEC_WEIGHTS=str(tiny.parent))
    start = "import os, threading, time\nimport numpy as np, caecodec\n"
    start += f"weights = {str(tiny)!r}\nimage = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)\n"
    return processes.run("-c", start + code, env=environment)


@pytest.mark.parametrize("daemon", [True, False])
def test_exit_while_requests_wait(tiny, daemon):
    """Neither a hang nor a crash: requests of daemon threads are dropped, those of others answered."""
    code = f"""
done = []
def work():
    for _ in range({"10**6" if daemon else "5"}):
        caecodec.decode(caecodec.encode(image, 4, weights=weights))
    os.write(1, b"done\\n")
caecodec.encode(image, 4, weights=weights)
for _ in range(8):
    threading.Thread(target=work, daemon={daemon}).start()
time.sleep(0.2)
os.write(1, b"end\\n")
"""
    result = script(code, tiny)
    assert result.stderr == ""
    assert sorted(result.stdout.split()) == (["end"] if daemon else ["done"] * 8 + ["end"])


@pytest.mark.parametrize("late", [False, True])
def test_exit_while_an_event_loop_waits(tiny, late):
    """Its thread is a daemon, but another waits for it, which gets an error; whether main ends before the request or after."""
    code = f"""
import asyncio, concurrent.futures
from caecodec.engine.jobs import NetworkJob
from caecodec.engine.pool import Pool

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
go = threading.Event()
pool = Pool("pool", lambda job, batch: go.wait() and batch, None)

async def ask():
    while {late} and threading.main_thread().is_alive():
        await asyncio.sleep(0.01)
    jobs = [NetworkJob(None, "analysis", image[None], 1, 1) for _ in range(3)]
    pool.submit(jobs, 1, 2**30)
    asked.set()
    await asyncio.gather(*(asyncio.wrap_future(job.result) for job in jobs))

asked = threading.Event()
def work():
    future = asyncio.run_coroutine_threadsafe(ask(), loop)
    threading.main_thread().join()
    go.set()
    try:
        future.result(600)
    except concurrent.futures.CancelledError:
        os.write(1, b"cancelled\\n")

threading.Thread(target=work).start()
{late} or asked.wait()
"""
    result = script(code, tiny)
    assert (result.stderr, result.stdout) == ("", "cancelled\n")


def test_no_thread_is_left(tiny):
    code = """
caecodec.decode(caecodec.encode(image, 4, weights=weights))
deadline = time.monotonic() + 600
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
print(threading.active_count())
"""
    result = script(code, tiny)
    assert (result.stdout, result.stderr) == ("1\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks_wait_for_what_would_stay_locked(tiny):
    """Of other threads; and children do not wait for these."""
    code = """
from caecodec.engine.forks import no_fork
inside, events = threading.Event(), []
def work():
    with no_fork(), no_fork():
        inside.set()
        time.sleep(0.5)
        events.append("left")
threading.Thread(target=work).start()
inside.wait()
with no_fork():
    child = os.fork()
    events.append("forked")
with no_fork():
    pass
if child == 0:
    os._exit(0 if events == ["left", "forked"] else 1)
print(os.waitpid(child, 0)[1], *events)
"""
    result = script(code, tiny)
    assert result.stdout.split() == ["0", "left", "forked"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_the_engine_runs(tiny):
    code = """
stop = threading.Event()
def work():
    while not stop.is_set():
        caecodec.encode(image, 4, weights=weights)
payload = caecodec.encode(image, 4, weights=weights)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
time.sleep(0.1)
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if caecodec.decode(payload).shape == (64, 64, 3) else 1)
    print(os.waitpid(child, 0)[1])
stop.set()
"""
    result = script(code, tiny)
    assert result.stdout.split() == ["0", "0", "0"]
