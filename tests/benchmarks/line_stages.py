"""Each stage of the line of a CUDA device: its time by the device and by the host, and what it does, counted without a device.

A stage is a range of `record_function` in the line. To time stages, the ranges record events of the device. To count, the line
runs on PyTorch's meta device, whose tensors have shapes but no values, and every operation, copy and launch is noted.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import caecodec
from caecodec import settings
from caecodec.bitstream import autoencoder
from caecodec.chunks import transfers
from caecodec.chunks.axes import check_chunk
from caecodec.chunks.planes import Layout
from caecodec.chunks.spec import ChunkSpec
from caecodec.codecs.autoencoder.parameters import AutoencoderParameters
from caecodec.engine import ChunkTask, DevicePlacement, PlacedNetwork, cuda, engine
from caecodec.engine.cuda import ChunkJob, CudaLine
from caecodec.entropy import device as device_entropy
from caecodec.entropy import device_context, device_lists
from caecodec.entropy.streams import CodedSymbols
from caecodec.models.factorized import fused

from .images import Pixels, chunks
from .speed import DIRECTIONS, Say

MOST_PIXELS = 2**24  # in a batch
ROUNDS = 5
OUTSIDE = "between stages"
NOTHING = (torch.ops.aten.detach.default, torch.ops.aten._unsafe_view.default)  # although they are no views
WITH_STAGES = (cuda, device_entropy, device_lists, transfers)


@dataclass(frozen=True)
class LargeDevice(DevicePlacement):
    """A place for which PyTorch cannot be asked how much memory it has."""

    def current_settings(self) -> settings.Settings:
        """The settings on a device of 64 GiB."""
        return settings.on_cuda(2**36)


class Held:
    """Stands in for the line's pool, and holds the jobs, so that a batch has as many as are wanted."""

    def __init__(self) -> None:
        self.jobs: list[ChunkJob] = []

    def submit(self, jobs: Sequence[ChunkJob], cores: int, memory: int) -> None:
        """Hold jobs."""
        self.jobs += jobs


class Batches:
    """Batches of chunks (side, side, 3) of one kind, for the line of a device."""

    def __init__(self, parts: list[Pixels], quality: int, device: str, weights: str | Path | None = None) -> None:
        named = {} if weights is None else {"weights": weights}
        parameters = AutoencoderParameters.parse(quality=quality, **named)
        source = parameters.sources()[quality]
        model = engine().load(source, quality).writing_model(None)
        placement = DevicePlacement.choose(True) if device == "cuda" else LargeDevice(device, "bf16")
        axes = check_chunk(parts[0].shape, parts[0].dtype, -1)
        spec = ChunkSpec(parts[0].shape, "uint8", axes, Layout.of(parts[0], axes))
        self.task = ChunkTask(PlacedNetwork(source, quality, placement), model, spec)
        self.line = CudaLine(device, engine().load, engine().cpu)
        self.parts = parts
        payloads = [autoencoder.parse(caecodec.encode(part, quality=quality, gpu=False, **named)) for part in parts]
        self.coded = [CodedSymbols(each.streams, each.escapes) for each in payloads]

    def of(self, direction: str, count: int) -> Callable[[], Sequence[Any]]:
        """What runs a batch of so many chunks."""
        held = Held()
        with mock.patch.object(self.line, "_pool", held):
            for i in range(count):
                if direction == "encode":
                    self.line.encode(self.task, self.parts[i % len(self.parts)])
                else:
                    self.line.decode(self.task, self.coded[i % len(self.coded)])
        assert len(held.jobs) == count, "the line of the CPU takes these chunks"
        return lambda: self.line.run(held.jobs[0], held.jobs)


@contextmanager
def stages_as(observe: Callable[[str], Any]) -> Iterator[None]:
    """Have `observe` make the context of each stage."""
    with ExitStack() as stack:
        for module in WITH_STAGES:
            stack.enter_context(mock.patch.object(module, "record_function", observe))
        yield


class Clock:
    """The milliseconds of each stage on the device, and on the host until it has launched the stage's work."""

    def __init__(self, on_device: bool) -> None:
        self._on_device = on_device
        self._taken: list[tuple[str, float, Any, Any]] = []

    def _event(self) -> Any:
        if not self._on_device:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start, first = time.perf_counter(), self._event()
        yield
        last = self._event()
        self._taken.append((name, 1000 * (time.perf_counter() - start), first, last))

    def read(self) -> dict[str, tuple[float, float]]:
        """Milliseconds by stage: of the device, and of the host. All must be done."""
        found: dict[str, tuple[float, float]] = {}
        for name, host, first, last in self._taken:
            device = first.elapsed_time(last) if self._on_device else 1000 * (last - first)
            before = found.get(name, (0.0, 0.0))
            found[name] = (before[0] + device, before[1] + host)
        return found


def timed(run: Callable[[], Any], on_device: bool, rounds: int) -> dict[str, Any]:
    """Run a batch once, and then `rounds` times: milliseconds of the first, of a typical one, and of its stages.

    `pinned` says how many of these rounds' allocations of pinned memory went to the driver.
    """
    start = time.perf_counter()
    run()
    first, found, whole = time.perf_counter() - start, [], []
    pinned = _pinned_allocations(on_device)
    for _ in range(rounds):
        clock = Clock(on_device)
        start = time.perf_counter()
        with stages_as(clock.stage):
            run()
        whole.append(1000 * (time.perf_counter() - start))
        if on_device:
            torch.cuda.synchronize()
        found.append(clock.read())
    stages = {name: tuple(median(each[name][i] for each in found) for i in range(2)) for name in found[0]}
    between = median(whole) - sum(host for _, host in stages.values())
    return {
        "first_ms": 1000 * first, "ms": median(whole), "pinned": _pinned_allocations(on_device) - pinned,
        "stages": {
            **{name: {"device_ms": device, "host_ms": host} for name, (device, host) in stages.items()},
            OUTSIDE: {"device_ms": None, "host_ms": between},
        },
    }  # fmt: skip


def _pinned_allocations(on_device: bool) -> int:
    """How often the driver was asked for pinned memory, which takes it long; PyTorch keeps what it got."""
    return torch.cuda.host_memory_stats().get("num_host_alloc", 0) if on_device else 0


def trace(run: Callable[[], Any], path: Path) -> None:
    """Write a trace of one batch, for https://ui.perfetto.dev."""
    with torch.profiler.profile() as profile:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    path.parent.mkdir(parents=True, exist_ok=True)
    profile.export_chrome_trace(str(path))


@dataclass
class Work:
    """What a stage does: operations of PyTorch and launches of kernels, bytes read and written, arithmetic operations."""

    launches: int = 0
    bytes: int = 0
    operations: int = 0
    copied: int = 0


class Count(TorchDispatchMode):
    """Counts the work of each stage on the meta device, as a CUDA device would do it.

    `waits` counts how often the host waits for the device: by `fetch`, and by whatever else asks for values. Values are zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages: dict[str, Work] = {OUTSIDE: Work()}
        self.waits = {"fetch": 0, "others": 0}
        self._stage = OUTSIDE
        self._fetching = False

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count for a stage."""
        before, self._stage = self._stage, name
        self.stages.setdefault(name, Work())
        yield
        self._stage = before

    @property
    def work(self) -> Work:
        """The work of the present stage."""
        return self.stages[self._stage]

    def fetch(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Stands in for `transfers.fetch`."""
        with self.stage("hand-over"):
            self.waits["fetch"] += 1
            self.work.launches += len(tensors)
            self.work.copied += sum(tensor.nbytes for tensor in tensors)
            return [torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in tensors]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it if it is one of the device."""
        kwargs = kwargs or {}
        with self:  # in inference mode, operations that are made of others come whole
            result = function.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        given = {name: value for name, value in kwargs.items() if name != "out"}
        read = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, torch.Tensor)]
        if function is torch.ops.aten._local_scalar_dense.default and read[0].is_meta:
            self.waits["others"] += 1
            return 0
        if function is torch.ops.aten._to_copy.default and read[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            self.waits["others"] += 1
            return torch.zeros(read[0].shape, dtype=kwargs.get("dtype") or read[0].dtype)
        result = function(*args, **kwargs)
        if function is torch.ops.aten.convolution.default:
            if any(_channels_last(tensor) for tensor in read[:2]):
                result = result.contiguous(memory_format=torch.channels_last)  # as cuDNN returns it
            if len(read) == 3:  # PyTorch adds the bias to what cuDNN returns
                self.work.launches += 1
                self.work.bytes += 2 * result.nbytes
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_meta]
        if not written or function.is_view or "empty" in function.__name__ or function in NOTHING:
            return result
        self.work.launches += 1
        if read and not any(tensor.is_meta for tensor in read):
            self.work.copied += sum(tensor.nbytes for tensor in written)
            return result
        different = {id(tensor): tensor for tensor in read}.values()  # a square reads its operand once
        self.work.bytes += sum(tensor.nbytes for tensor in (*different, *written))
        flops = flop_registry.get(function._overloadpacket)
        self.work.operations += flops(*args, **kwargs, out_val=result) if flops else sum(tensor.numel() for tensor in written)
        return result


def _channels_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


class CountedKernels:
    """Stands in for the kernels: counts their launches, and what they read, write and compute."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def __getattr__(self, name: str) -> Any:
        work = getattr(self, f"_{name}_work")

        class Launcher:
            def __getitem__(_, grid: Any) -> Any:  # noqa: N805  # `self` is the kernels
                def launch(*arguments: Any, **options: Any) -> None:
                    moved, computed = work(arguments, options)
                    self._count.work.launches += 1
                    self._count.work.bytes += moved
                    self._count.work.operations += computed

                return launch

        return Launcher()

    @staticmethod
    def _measure_work(arguments: Any, options: Any) -> tuple[int, int]:
        """Nine entries for each, of which the cache holds all but one; two features."""
        symbols = arguments[0].numel()
        return symbols * (arguments[0].element_size() + 2), 20 * symbols

    @staticmethod
    def _choose_work(arguments: Any, options: Any) -> tuple[int, int]:
        index = arguments[0]
        moved, computed = _products(index) if options["context"] else (0, 0)
        return moved + index.numel() * (index.element_size() + 2 * 4 + 2 * 4), computed

    @staticmethod
    def _encode_work(arguments: Any, options: Any) -> tuple[int, int]:
        symbols = arguments[0].numel()
        return 2 * 4 * symbols, 10 * symbols

    @staticmethod
    def _normalise_work(arguments: Any, options: Any) -> tuple[int, int]:
        """A product of all channels with all, of which the cache holds the weights."""
        x, _, gamma, _, out, positions = arguments
        return x.nbytes + out.nbytes, 2 * positions * gamma.numel()

    @staticmethod
    def _decode_work(arguments: Any, options: Any) -> tuple[int, int]:
        """The share of these channels: features and tables, if a context chooses these, and one entry after the other."""
        words, index, (first, last) = arguments[0], arguments[4], arguments[14:16]
        moved, computed = words.nbytes + index.nbytes, 10 * index.numel()
        if options["context"]:
            product = _products(index)
            moved += product[0] + index.numel() * (index.element_size() + 2 + 2 * 4)
            computed += product[1] + 20 * index.numel()
        share = (last - first) / index.shape[1]
        return round(moved * share), round(computed * share)


def _products(index: torch.Tensor) -> tuple[int, int]:
    """Bytes and operations of the predictions: a channel multiplies two features of each earlier channel by weights."""
    payloads, channels, positions = index.shape
    features = payloads * positions * channels * (channels - 1)
    return features, 2 * features


def counted(run: Callable[[], Any]) -> Count:
    """Count a batch of the line of the meta device."""
    count = Count()
    with ExitStack() as stack:
        for module in (cuda, device_lists):
            stack.enter_context(mock.patch.object(module, "fetch", count.fetch))
        for module in (device_entropy, device_context, fused):
            stack.enter_context(mock.patch.object(module, "load_kernels", return_value=CountedKernels(count)))
        stack.enter_context(stages_as(count.stage))
        stack.enter_context(count)
        run()
    return count


def count_all(
    parts: list[Pixels], quality: int, counts: Sequence[int], weights: str | Path | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of what batches of so many chunks do, for both directions."""
    with ExitStack() as stack:
        for module in (device_entropy, fused):
            stack.enter_context(mock.patch.object(module, "available", return_value=True))
        batches = Batches(parts[:1], quality, "meta", weights)
        for direction in DIRECTIONS:
            for number in counts:
                run = batches.of(direction, number)
                counted(run)  # places network and tables
                found = counted(run)
                stages = {name: vars(work) for name, work in found.stages.items() if work.launches}
                yield {"direction": direction, "chunks": number, "waits": found.waits, "work": stages}


def time_all(
    parts: list[Pixels],
    quality: int,
    device: str,
    counts: Sequence[int],
    folder: Path | None,
    rounds: int = ROUNDS,
    weights: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of `timed` batches of so many chunks, for both directions; the largest batches leave traces in a folder."""
    batches = Batches(parts, quality, device, weights)
    for direction in DIRECTIONS:
        for number in counts:
            run = batches.of(direction, number)
            found = timed(run, device == "cuda", rounds)
            if folder and number == max(counts):
                trace(run, folder / f"trace-{direction}-{parts[0].shape[0]}-{device}.json")
            yield {"direction": direction, "chunks": number, "megabytes": number * parts[0].nbytes / 1e6, **found}


def run(
    images: list[Pixels],
    qualities: list[int],
    sides: list[int],
    counts: list[int],
    device: str | None,
    folder: Path | None,
    say: Say,
) -> list[dict[str, Any]]:
    """Rows of counts and, if there is a device, of times, for each quality, side of chunks, direction and chunks in a batch."""
    rows = []
    for quality in qualities:
        for side in sides:
            fitting = [count for count in counts if count * side**2 <= MOST_PIXELS]
            if not fitting:
                continue
            parts = chunks(images, side, min(16, max(fitting)))
            cell = {"quality": quality, "chunk": side}
            say(f"stages of a device: quality {quality}, chunks of {side}")
            rows += [{**cell, **row} for row in count_all(parts, quality, fitting)]
            if device and device_entropy.available():
                rows += [{**cell, **row} for row in time_all(parts, quality, device, fitting, folder)]
    return rows
