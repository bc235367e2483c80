"""The line of one CUDA device: it codes many chunks at once, from symbols to pixels, without leaving the device's memory.

    words ── symbols ── images ── chunks     and back

LANES batches run at a time, each on its own thread and stream. While one batch copies its input, decodes its streams (which
takes long but uses little of the device) or copies its results, the network of another batch runs. The line of the CPU handles
the rest: chunks without images or with too many for the memory, entropy models without a coder for the device, and payloads in
which the device found damage, because the CPU's coder can say what is wrong.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from ..chunks import device_planes
from ..chunks.pending import Pending
from ..chunks.transfers import fetch, stack
from ..entropy import device as device_entropy
from ..entropy.model import DeviceCoder, Prepared, Shape
from ..entropy.streams import CodedSymbols
from ..models.family import InferenceNetwork
from .cpu import CpuLine
from .jobs import Array, Waiter
from .line import ChunkTask, Line
from .networks import Load, Networks
from .place import PlacedNetwork
from .pool import Pool

LANES = 3


@dataclass(eq=False)
class ChunkJob(ABC):
    """A chunk on its way through the line.

    coder : the device coder of its entropy model
    shape : the shape (m, M, rows, columns) of its symbols
    limit, cost : the most images in a batch, and about how many bytes each image takes
    """

    task: ChunkTask
    coder: DeviceCoder[Any]
    shape: Shape
    limit: int
    cost: int

    @property
    def images(self) -> int:
        """The number of images."""
        return self.shape[0]

    def fits(self, other: Any) -> bool:
        """Whether both jobs can share a batch."""
        if type(self) is not type(other):
            return False
        one, two = self.task, other.task
        same = one.network == two.network and one.entropy is two.entropy and self.shape == other.shape
        return same and self.chunk_device == other.chunk_device and one.spec.alike(two.spec)

    @property
    @abstractmethod
    def chunk_device(self) -> str:
        """The device that holds the chunk, before encoding or after decoding."""

    def together(self, jobs: "list[ChunkJob]") -> "list[ChunkJob]":
        """Join jobs that fit this one into a batch."""
        return jobs

    def split(self, out: Sequence[Any], jobs: "list[ChunkJob]") -> Sequence[Any]:
        """Split the result of a batch into the parts of its jobs."""
        return out


@dataclass(eq=False)
class DecodeJob(ChunkJob):
    """A payload to decode; `keep` leaves the chunk on the device. The result is None if the payload is damaged."""

    prepared: Prepared
    keep: bool
    result: "Future[Tensor | None]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def nbytes(self) -> int:
        """The number of bytes that the job takes while it waits."""
        return self.prepared.nbytes

    @property
    def chunk_device(self) -> str:
        """See `ChunkJob.chunk_device`."""
        return self.task.network.placement.device if self.keep else "cpu"


@dataclass(eq=False)
class EncodeJob(ChunkJob):
    """A chunk to encode; `ready` is the event after which a chunk on the device is complete."""

    chunk: Tensor
    ready: torch.cuda.Event | None
    result: "Future[CodedSymbols]" = field(default_factory=Future)
    waiter: Waiter = field(default_factory=Waiter.current)

    @property
    def nbytes(self) -> int:
        """The number of bytes that the job takes while it waits."""
        return self.chunk.nbytes

    @property
    def chunk_device(self) -> str:
        """See `ChunkJob.chunk_device`."""
        return str(self.chunk.device)


class CudaLine(Line):
    """Encodes and decodes whole chunks on one CUDA device.

    Parameters
    ----------
    device
        The device's name in PyTorch.
    load
        Returns the network and tables of a quality.
    cpu
        The line that handles what this one cannot.
    """

    def __init__(self, device: str, load: Load, cpu: CpuLine) -> None:
        self._device = torch.device(device)
        self._load, self._networks, self._cpu = load, Networks(load), cpu
        self._lock = threading.Lock()
        self._tables: dict[tuple[PlacedNetwork, str], Any] = {}
        self._pool = Pool(f"caecodec-{device}-line", self.run, None)
        self._streams: queue.SimpleQueue[torch.cuda.Stream] = queue.SimpleQueue()
        if self._device.type == "cuda":
            for _ in range(LANES):
                self._streams.put(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]  # torch.cuda.Stream.__new__ has no annotations

    @property
    def batches(self) -> bool:
        """See `Line.batches`: true if Triton, which the coders need, is installed."""
        return device_entropy.available()

    def decode(self, task: ChunkTask, coded: CodedSymbols, keep: bool = False) -> Pending[Array | Tensor]:
        """See `Line.decode`; the array is in pinned memory."""
        coder, shape, limit, cost, memory = self._judge(task)
        if coder is None:
            return self._cpu.decode(task, coded, keep)
        job = DecodeJob(task, coder, shape, limit, cost, coder.prepare(coded, shape), keep)
        self._pool.submit([job], LANES, memory)
        return Pending(partial(self._finish, job, coded), job.result)

    def encode(self, task: ChunkTask, chunk: Array | Tensor) -> Pending[CodedSymbols]:
        """See `Line.encode`."""
        coder, shape, limit, cost, memory = self._judge(task)
        if coder is None:
            return self._cpu.encode(task, chunk)
        ready = None
        if isinstance(chunk, np.ndarray):
            chunk = torch.from_numpy(np.require(chunk, requirements=["C", "W"]))
        elif self._device.type == "cuda":
            chunk = chunk.to(self._device)
            ready = torch.cuda.current_stream(self._device).record_event()
        job = EncodeJob(task, coder, shape, limit, cost, chunk, ready)
        self._pool.submit([job], LANES, memory)
        return Pending(job.result.result, job.result)

    def _finish(self, job: DecodeJob, coded: CodedSymbols) -> Array | Tensor:
        """The chunk of a job; if the device found damage, the line of the CPU decides."""
        chunk = job.result.result()
        if chunk is None:
            return self._cpu.decode(job.task, coded, job.keep).result()
        return chunk if job.keep else chunk.numpy()

    def _judge(self, task: ChunkTask) -> tuple[DeviceCoder[Any] | None, Shape, int, int, int]:
        """The coder of a chunk, or None if this line cannot handle the chunk, and its limits.

        These are the shape of the symbols, the most images in a batch, the bytes that each image takes, and the bytes that all
        running jobs may take.
        """
        now = task.network.placement.current_settings()
        loaded = self._load(task.network.source, task.network.quality)
        shape, family = task.symbols_shape(loaded), loaded.family
        cost = shape[2] * shape[3] * family.stride**2 * family.pixel_bytes(loaded.network.tensors, str(self._device))
        limit = max(1, min(now.max_batch, now.memory // cost))
        takes = 0 < shape[0] <= limit and shape[0] * cost <= now.memory
        return task.entropy.on_device() if takes else None, shape, limit, cost, now.memory

    @torch.inference_mode()
    def run(self, first: ChunkJob, jobs: list[Any]) -> Sequence[Any]:
        """Run jobs that fit together as one batch; a result for each."""
        with self._stream():
            network, tables = self._parts(first)
            if isinstance(first, DecodeJob):
                return _decode(jobs, network, tables)
            stride = self._load(first.task.network.source, first.task.network.quality).family.stride
            return _encode(jobs, network, tables, stride, self._device)

    def _parts(self, job: ChunkJob) -> tuple[InferenceNetwork, Any]:
        """The network and tables of a job, completely copied to the device."""
        placed, entropy = job.task.network, job.task.entropy
        with self._lock:
            network = self._networks.network(placed)
            if (placed, entropy.name) not in self._tables:
                tables = self._load(placed.source, placed.quality).tables_of(entropy)
                self._tables[placed, entropy.name] = job.coder.place(tables, self._device)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)  # other streams use them too
            return network, self._tables[placed, entropy.name]

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """Run on a stream that nothing else uses."""
        if self._device.type != "cuda":
            yield
            return
        stream = self._streams.get()
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)


def _decode(jobs: list[DecodeJob], network: InferenceNetwork, tables: Any) -> list[Tensor | None]:
    symbols, damaged = jobs[0].coder.decode([job.prepared for job in jobs], tables, jobs[0].shape)
    with record_function("network"):
        images = network.synthesis(symbols)
    with record_function("pixels"):
        damaged |= device_planes.implausible(images, len(jobs))
        chunks = device_planes.to_chunks(images, [job.task.spec for job in jobs])
    if jobs[0].keep:
        (flags,) = fetch(damaged)
    else:
        flags, chunks = fetch(damaged, chunks)
    return [None if flag else chunk for chunk, flag in zip(chunks.unbind(0), flags.tolist(), strict=True)]


def _encode(
    jobs: list[EncodeJob], network: InferenceNetwork, tables: Any, stride: int, device: torch.device
) -> list[CodedSymbols]:
    for job in jobs:
        if job.ready is not None:
            job.ready.wait()
    chunks = [job.chunk for job in jobs]
    batch = torch.stack(chunks) if chunks[0].is_cuda else stack(chunks, device)
    with record_function("pixels"):
        images = device_planes.to_images(batch, [job.task.spec for job in jobs], stride)
    with record_function("network"):
        symbols = network.analysis(images)
    return jobs[0].coder.encode(symbols, tables, jobs[0].images)
