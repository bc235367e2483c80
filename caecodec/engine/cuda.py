"""The line of one CUDA device: entropy coding, network and pixels of many chunks at once, without leaving its memory.

    words ── symbols ── images ── chunks     and back

LANES batches run at a time, each on a thread and a stream of its own: while one takes its bytes in, decodes its streams (which
is long but takes little of the device) or hands its results over, the network of another runs.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import weights
from ..chunks import device_planes
from ..chunks.device_planes import ChunkSpec
from ..entropy import device as entropy
from ..entropy.context_tables import ContextTables
from ..entropy.device import DeviceTables, Prepared, Shape
from ..entropy.streams import Coded
from ..entropy.tables import Tables
from ..models.factorized.network import STRIDE, FactorizedPrior, pixel_bytes
from ..weights.file import Network
from .jobs import Array, Model, Waiter
from .networks import Networks
from .pool import Pool

LANES = 3


@dataclass(eq=False)
class DeviceJob(ABC):
    """A chunk on its way through the line.

    coding : name of the entropy model
    shape : (m, M, rows, columns) of its symbols
    limit, cost : how many images a batch may have, and about how many bytes each takes
    """

    model: Model
    coding: str
    shape: Shape
    spec: ChunkSpec
    limit: int
    cost: int

    @property
    def images(self) -> int:
        """How many images it has."""
        return self.shape[0]

    def fits(self, other: Any) -> bool:
        """Whether both can be one batch."""
        if type(self) is not type(other):
            return False
        same = self.model == other.model and self.coding == other.coding and self.shape == other.shape
        return same and self.place == other.place and self.spec.alike(other.spec)

    @property
    @abstractmethod
    def place(self) -> str:
        """The kind of device that what is not coded is on."""

    def together(self, jobs: "list[DeviceJob]") -> "list[DeviceJob]":
        """Jobs that fit this one as what is run."""
        return jobs

    def split(self, out: Sequence[Any], jobs: "list[DeviceJob]") -> Sequence[Any]:
        """The part of each job of what came of them."""
        return out


@dataclass(eq=False)
class DecodeJob(DeviceJob):
    """A payload to decode; `keep` leaves the chunk on the device. The result is None where the payload is damaged."""

    prepared: Prepared
    keep: bool
    result: "Future[Tensor | None]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it waits."""
        return self.prepared.words.nbytes

    @property
    def place(self) -> str:
        """The kind of device that the chunk is to be on."""
        return self.model.place.device if self.keep else "cpu"


@dataclass(eq=False)
class EncodeJob(DeviceJob):
    """A chunk to encode; `ready` is passed when a chunk on the device is complete."""

    chunk: Tensor
    ready: torch.cuda.Event | None
    result: "Future[Coded]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it waits."""
        return self.chunk.nbytes

    @property
    def place(self) -> str:
        """The kind of device that the chunk is on."""
        return str(self.chunk.device)


class Line:
    """What one device does with whole chunks."""

    def __init__(self, device: str, load: Callable[[weights.Source, int], Network]) -> None:
        self._device = torch.device(device)
        self._load, self._networks = load, Networks(load)
        self._lock = threading.Lock()
        self._tables: dict[tuple[Model, str], DeviceTables] = {}
        self._pool = Pool(f"caecodec-{device}-line", self._run, None)
        self._streams: queue.SimpleQueue[torch.cuda.Stream] = queue.SimpleQueue()
        if self._device.type == "cuda":
            for _ in range(LANES):
                self._streams.put(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]  # torch.cuda.Stream.__new__ has no annotations

    def takes(self, model: Model, shape: Shape) -> bool:
        """Whether all images of a chunk whose symbols (m, M, rows, columns) have this shape fit into a batch."""
        limit, cost, memory = self._limits(model, shape)
        return 0 < shape[0] <= limit and shape[0] * cost <= memory

    def decode(
        self, model: Model, coding: str, coded: Coded, shape: Shape, spec: ChunkSpec, keep: bool = False
    ) -> "Future[Tensor | None]":
        """The chunk whose symbols (m, M, rows, columns) are coded, in pinned memory or, with `keep`, on the device.

        The result is None where the device finds damage, of which the CPU's coder says more. CorruptionError at once for
        what is plain to see. Tensors on the device are complete; record the streams that use them.
        """
        prepared = entropy.prepare(coded, shape, isinstance(self._entropy_tables(model, coding), ContextTables))
        limit, cost, memory = self._limits(model, shape)
        job = DecodeJob(model, coding, shape, spec, limit, cost, prepared, keep)
        self._pool.submit([job], LANES, memory)
        return job.result

    def encode(self, model: Model, coding: str, chunk: Array | Tensor, shape: Shape, spec: ChunkSpec) -> "Future[Coded]":
        """The coded symbols (m, M, rows, columns) of a chunk, which is in the memory of the CPU or complete in stream order."""
        ready = None
        if isinstance(chunk, np.ndarray):
            chunk = torch.from_numpy(np.require(chunk, requirements=["C", "W"]))
        elif self._device.type == "cuda":
            chunk = chunk.to(self._device)
            ready = torch.cuda.current_stream(self._device).record_event()
        limit, cost, memory = self._limits(model, shape)
        job = EncodeJob(model, coding, shape, spec, limit, cost, chunk, ready)
        self._pool.submit([job], LANES, memory)
        return job.result

    def _limits(self, model: Model, shape: Shape) -> tuple[int, int, int]:
        """Most images of a batch, bytes that each takes, and bytes that all may take that run."""
        now = model.place.current_settings()
        hidden = self._load(model.source, model.quality).hidden
        cost = shape[2] * shape[3] * STRIDE**2 * pixel_bytes(hidden, str(self._device))
        return max(1, min(now.max_batch, now.memory // cost)), cost, now.memory

    def _entropy_tables(self, model: Model, coding: str) -> Tables | ContextTables:
        return self._load(model.source, model.quality).entropy_tables(coding)

    @torch.inference_mode()
    def _run(self, first: DeviceJob, jobs: list[Any]) -> Sequence[Any]:
        """What comes of jobs that fit together, one by one."""
        with self._stream():
            network, tables = self._parts(first.model, first.coding)
            return (_decode if isinstance(first, DecodeJob) else _encode)(jobs, network, tables)

    def _parts(self, model: Model, coding: str) -> tuple[FactorizedPrior, DeviceTables]:
        """A network and its tables, complete in the device's memory."""
        with self._lock:
            network = self._networks.prior(model)
            if (model, coding) not in self._tables:
                self._tables[model, coding] = DeviceTables.of(self._entropy_tables(model, coding), self._device)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)  # other streams use them too
            return network, self._tables[model, coding]

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """Run on a stream that nothing else runs on."""
        if self._device.type == "cpu":
            yield
            return
        stream = self._streams.get()
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)


def _decode(jobs: list[DecodeJob], network: FactorizedPrior, tables: DeviceTables) -> list[Tensor | None]:
    symbols, damaged = entropy.decode([job.prepared for job in jobs], tables, jobs[0].shape)
    images = network.synthesis(symbols)
    damaged |= device_planes.implausible(images, len(jobs))
    chunks = device_planes.to_chunks(images, [job.spec for job in jobs])
    if not jobs[0].keep:
        chunks = _fetch(chunks)
    flags = _fetch(damaged)
    if damaged.is_cuda:
        torch.cuda.current_stream().synchronize()
    return [None if flag else chunk for chunk, flag in zip(chunks.unbind(0), flags.tolist(), strict=True)]


def _encode(jobs: list[EncodeJob], network: FactorizedPrior, tables: DeviceTables) -> list[Coded]:
    device = tables.row.device
    for job in jobs:
        if job.ready is not None:
            job.ready.wait()
    chunks = [job.chunk for job in jobs]
    if chunks[0].is_cuda:
        batch = torch.stack(chunks)
    else:
        batch = torch.empty((len(jobs), *chunks[0].shape), dtype=chunks[0].dtype, pin_memory=device.type == "cuda")
        batch = torch.stack(chunks, out=batch).to(device, non_blocking=True)
    images = device_planes.to_images(batch, [job.spec for job in jobs], STRIDE)
    return entropy.encode(network.analysis(images), tables, jobs[0].images)


def _fetch(values: Tensor) -> Tensor:
    """A copy in pinned memory, complete when the stream has been waited for."""
    if not values.is_cuda:
        return values
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
