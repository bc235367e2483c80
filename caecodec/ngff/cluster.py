"""Blocks of arrays -> processes of dask.distributed that write them: some of this machine, or those of a scheduler.

A task is a block of whole chunks, or shards. Two for each thread of the workers are under way at a time, so that an image of
any size takes little memory. A worker that is lost loses what it was writing: another one writes that block again.
"""

import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import zarr
from zarr.storage import LocalStore

from .. import settings, weights
from ..errors import ParameterError
from ..storage.locations import Place
from .blocks import BlockWriter, Region
from .chunk_runner import GRACE, ChunkRunner, Interrupted, Written, interruptible, raise_if_stopped

PATIENCE = 60  # seconds without any worker after which there will be none
_AHEAD = 2  # tasks under way for each thread of a worker
_POLL = 0.5  # seconds
_TOKEN = ".partial"  # as files that zarr has not yet renamed, which are removed when a conversion is resumed
_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL  # on Windows any signal ends a process at once
_VISIBLE = "CUDA_VISIBLE_DEVICES"

_LOGGERS = [logging.getLogger(name) for name in ("distributed", "distributed.client")]  # those with a level of their own


class Cluster:
    """Processes that write blocks, started, or connected to, when there are the first ones to write.

    Parameters
    ----------
    scheduler
        The address of the scheduler of dask.distributed whose workers do the work; None: processes of this machine do.
    workers
        How many processes, if there is no scheduler; each has a GPU of its own, if there are some and they are to be used.
    gpu
        As of the codecs.
    """

    def __init__(self, scheduler: str | None, workers: int, gpu: bool | None) -> None:
        self._scheduler, self._workers, self._gpu = scheduler, workers, gpu
        self._lock = threading.Lock()
        self._client: Any = None
        self._processes: Any = None
        self._seen = 0.0  # when there were workers
        self._levels: dict[logging.Logger, int] = {}  # of loggers, before

    def write(self, writer: BlockWriter, regions: Iterable[Region], runner: ChunkRunner) -> None:
        """Write blocks of an array in a folder, which all workers must see, and let `runner` count their chunks.

        Raises
        ------
        ConnectionError
            The scheduler cannot be reached or is lost, there are no workers any more, or several died of one block.
        ParameterError
            distributed is not installed.
        """
        client = self._connected()
        store = writer.array.store
        assert isinstance(store, LocalStore)
        token = Path(store.root).absolute() / f"writing-{uuid.uuid4().hex}{_TOKEN}"
        job = pickle.dumps(_Job(writer, runner.slow, runner.channels, runner.carriers))
        under_way: set[Any] = set()
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        rest = iter(regions)
        try:
            token.touch()
            threads = self._threads(client)
            while True:
                raise_if_stopped()
                for region in islice(rest, max(0, max(1, _AHEAD * threads) - len(under_way))):
                    future = client.submit(_write, job, region, str(token), pure=False)
                    under_way.add(future)
                    future.add_done_callback(ended.put)
                if not under_way:
                    break
                try:
                    future = ended.get(timeout=_POLL)
                except queue.Empty:
                    threads = self._threads(client)
                else:
                    under_way.remove(future)
                    runner.count(self._result(client, future))
        except BaseException as error:
            token.unlink(missing_ok=True)  # tasks that have not begun do nothing, and the others end soon
            interrupted = not isinstance(error, Exception) or isinstance(error, Interrupted)
            if interrupted:
                self._kill()
            self._settle(under_way, ended, GRACE if interrupted or isinstance(error, ConnectionError) else PATIENCE)
            raise
        finally:
            token.unlink(missing_ok=True)

    def close(self) -> None:
        """End the processes of this machine, and the connection."""
        with self._lock:
            client, processes = self._client, self._processes
            self._client = self._processes = None
            levels, self._levels = self._levels, {}
        with suppress(TimeoutError):  # on a busy machine; processes without this one end by themselves
            if client is not None:
                client.close(timeout=GRACE)
            if processes is not None:
                processes.close(timeout=GRACE)
        for logger, level in levels.items():
            logger.setLevel(level)

    def _kill(self) -> None:
        """End the processes of this machine at once."""
        with self._lock:
            for nanny in self._processes.workers.values() if self._processes else ():
                nanny.auto_restart = False
                if nanny.pid is not None:
                    os.kill(nanny.pid, _KILL)

    def _connected(self) -> Any:
        """The client, of a scheduler that has workers."""
        with self._lock:
            if self._client is None:
                try:
                    import distributed
                except ImportError as error:
                    raise ParameterError(
                        "images larger than memory are written by several processes with distributed, which is not installed: "
                        "pip install 'caecodec[cluster]', or leave workers and scheduler out"
                    ) from error
                for logger in _LOGGERS:  # what goes wrong is said in one sentence, by an error
                    self._levels[logger] = logger.level
                    logger.setLevel(logging.CRITICAL)
                self._seen = time.monotonic()
                if self._scheduler is None:
                    self._processes = _processes(self._workers, self._gpu)
                try:
                    if self._scheduler and not self._scheduler.startswith("inproc:"):
                        # Of what is no address: a client that has begun with it takes a minute to end.
                        distributed.comm.addressing.get_address_host_port(self._scheduler)
                    kind: Any = distributed.Client
                    self._client = kind(self._processes or self._scheduler, set_as_default=False)
                except (OSError, ValueError, TypeError) as error:
                    raise ConnectionError(f"the scheduler at {self._scheduler} cannot be reached: {error}") from error
            return self._client

    def _threads(self, client: Any) -> int:
        """How many threads the workers have; ConnectionError if there have been no workers for a while."""
        try:
            threads: int = sum(client.nthreads().values())
        except Exception as error:  # a client that is closed or not connected raises several kinds
            raise ConnectionError(self._lost()) from error
        if threads:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > PATIENCE:
            raise ConnectionError(f"{self._name()} has had no workers for {PATIENCE} seconds")
        return threads

    def _result(self, client: Any, future: Any) -> Written:
        """What a task that has ended has written; raises what it raised.

        If its worker is lost before the result is fetched, another one does the task again, as soon as there is one.
        """
        from distributed import KilledWorker

        while future.status != "error":
            try:
                written: Written = future.result(timeout=_POLL)
            except TimeoutError:
                raise_if_stopped()
                self._threads(client)
            except Exception as error:  # distributed raises errors of several kinds when it cannot fetch a result
                if future.status != "error":
                    raise ConnectionError(self._lost()) from error
            else:
                return written
        failure = future.exception()
        if not isinstance(failure, KilledWorker):
            raise failure
        raise ConnectionError(
            f"{failure.allowed_failures + 1} times a worker of {self._name()} died while it wrote one block; it may need "
            "more memory"
        ) from failure

    def _settle(self, under_way: set[Any], ended: "queue.SimpleQueue[Any]", seconds: float) -> None:
        """Wait until tasks write no more, but no longer than this."""
        deadline = time.monotonic() + seconds
        while under_way and time.monotonic() < deadline:
            try:
                under_way.discard(ended.get(timeout=_POLL))
            except queue.Empty:
                continue

    def _name(self) -> str:
        return f"the scheduler at {self._scheduler}" if self._scheduler else "this conversion"

    def _lost(self) -> str:
        return f"the connection to {self._name()} is lost"


class _Job(NamedTuple):
    """What the blocks of an array have in common: how they are written, and the groups whose weights they need."""

    writer: BlockWriter
    slow: bool
    channels: int
    carriers: "tuple[Place | zarr.Group, ...]"


class _Token(threading.Event):
    """Is set as soon as a file is gone, which the conversion removes when it stops."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def is_set(self) -> bool:
        return not self._path.exists()


def _write(job: bytes, region: Region, token: str) -> Written:
    """Write a block, in a worker."""
    path = Path(token)
    if not path.exists():
        raise ConnectionError(
            f"{path.parent} is not being written, or a worker cannot see it: every machine must have the folders of input and "
            "output at the same place"
        )
    writer, slow, channels, carriers = _unpickled(job)
    with interruptible(_Token(path)), ExitStack() as stack:
        for group in carriers:
            stack.enter_context(weights.using(group))
        runner = ChunkRunner(slow=slow)
        runner.channels = channels
        writer.write(region, runner)
        return runner.written


@lru_cache(maxsize=4)
def _unpickled(job: bytes) -> _Job:
    """A job with its source opened; those of the last arrays stay open."""
    found = pickle.loads(job)
    assert isinstance(found, _Job)
    return found


def _processes(count: int, gpu: bool | None) -> Any:
    """Processes of this machine that share its cores, each with a GPU of its own if there are some to use."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    kind: Any = SpecCluster
    threads = {} if settings.current().threads else {"CAECODEC_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    gpus = _gpus() if gpu or settings.current().device != "cpu" else []
    common = {
        "nthreads": 1,
        "memory_limit": None,
        "dashboard": False,
        "preload": [f"{__package__}.undisturbed"],
        "silence_logs": logging.CRITICAL,
    }
    environments = [{**threads, **({_VISIBLE: gpus[i % len(gpus)]} if gpus else {})} for i in range(count)]
    # Its own environment makes malloc give memory back at once, which costs the networks a third of their speed.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        return kind(
            scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
            workers={i: {"cls": Nanny, "options": {**common, "env": one}} for i, one in enumerate(environments)},
            silence_logs=logging.CRITICAL,
        )


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]
