"""Codes integer planes lattice by lattice, from coarse to fine (FORMAT.md, 11: Residuals).

    planes ── predictions from known values ── errors in steps of 2 bound + 1 ── class ── table ── ANS ── bytes
                  └─────────────────────────────────── decoded values ◀──┘

In: planes as int64 (n, c, height, width): n images of c channels, each predicted from the channels before it. Out: bytes.
"""

from typing import Any, NamedTuple, Protocol

import constriction
import numpy as np
import numpy.typing as npt

from ...bitstream import varint
from ...errors import CorruptionError
from .. import streams
from . import fit, lattice, scales
from .lattice import Pass, PhaseGrid

Planes = npt.NDArray[np.int64]
# Groups of values that share a table are numbered: first the classes, then these, then the channels' coarsest lattices.
CLASSES = 128
_COEFFICIENTS, _WEIGHTS, _COARSEST = CLASSES, CLASSES + 1, CLASSES + 2


class Range(NamedTuple):
    """The values that planes may have, and the error that each may have.

    low, high : the smallest and largest value, less than 2^36 apart
    bound : the largest error of a decoded value, at most high - low
    """

    low: int
    high: int
    bound: int

    @property
    def span(self) -> int:
        """The difference between the largest and the smallest value."""
        return self.high - self.low

    @property
    def step(self) -> int:
        """The difference between neighbouring quantised errors."""
        return 2 * self.bound + 1

    @property
    def largest(self) -> int:
        """The largest magnitude of quantised errors, of their differences and of coefficients."""
        return max(2 * (self.span // self.step + 1), lattice.MAX_COEFFICIENT)

    @property
    def escape_bytes(self) -> int:
        """The number of bytes of an escaped value."""
        return -(-(2 * self.largest).bit_length() // 8)


class _Coder(Protocol):
    """Writes or reads values in coding order."""

    def parameters(self, job: Pass) -> tuple[Planes, Planes]:
        """The coefficients and weights of a pass."""

    def coarsest(self, channel: int, predicted: Planes) -> Planes:
        """The quantised errors (n, rows, columns) of a channel's coarsest lattice, coded as differences."""

    def errors(self, job: Pass, predicted: Planes, classes: npt.NDArray[np.uint8]) -> Planes:
        """The quantised errors (n, rows, columns) of a pass."""


def encode(planes: Planes, prediction: Planes | None, limits: Range) -> bytes:
    """Code planes (n, c, height, width); a good prediction of the same shape saves bytes."""
    writer = _Writer(planes.transpose(1, 0, 2, 3) - limits.low, limits)
    _walk(planes.shape, prediction, limits, writer)
    return writer.finish()


def decode(data: bytes | memoryview, shape: tuple[int, int, int, int], prediction: Planes | None, limits: Range) -> Planes:
    """Decode planes (n, c, height, width); CorruptionError unless the data holds exactly these planes."""
    reader = _Reader(data, shape[1], limits)
    planes = _walk(shape, prediction, limits, reader)
    reader.finish()
    return planes


def _walk(shape: tuple[int, ...], prediction: Planes | None, limits: Range, coder: _Coder) -> Planes:
    """Visit all positions in coding order, and return the decoded planes."""
    n, channels, height, width = shape
    dtype = lattice.precision(limits.span)
    values, errors = (np.zeros((channels, n, height, width), dtype) for _ in range(2))
    given = None if prediction is None else (prediction.transpose(1, 0, 2, 3) - limits.low).clip(0, limits.span).astype(dtype)
    depth = lattice.depth(height, width)
    before: list[list[tuple[PhaseGrid, PhaseGrid]]] = []  # values and errors of channels, the last one first, at each level
    for channel in range(channels):
        start = np.s_[:, :: 2**depth, :: 2**depth]
        source = given[channel] if given is not None else values[channel - 1] if channel else values[0]
        predicted = source[start].astype(np.int64)
        decoded = predicted + limits.step * coder.coarsest(channel, predicted)
        values[channel][start] = decoded.clip(0, limits.span)
        grids = []
        for level in range(depth):
            spacing = 2 ** (depth - 1 - level)
            at = np.s_[:, ::spacing, ::spacing]
            own, magnitudes = PhaseGrid(values[channel][at]), PhaseGrid(errors[channel][at])
            near = None if given is None else PhaseGrid(given[channel][at])
            known = tuple(other[level] for other in before)
            own.spread()
            for phase in lattice.PASSES:
                job = Pass(channel, spacing, phase, own, magnitudes, known, near)
                if job.size:
                    _pass(job, limits, coder)
            grids.append((own, magnitudes))
        before = [grids, *before[:1]]
    return values.transpose(1, 0, 2, 3).astype(np.int64) + limits.low


def _pass(job: Pass, limits: Range, coder: _Coder) -> None:
    """Code one pass, and fill its grids."""
    coefficients, weights = (parameter.astype(job.own.values.dtype) for parameter in coder.parameters(job))
    predicted, classes = np.empty(job.shape, np.int64), np.empty(job.shape, np.uint8)
    for block in job.blocks():
        part = predicted[block.images, block.rows]
        found, kinds = job.predict(block, coefficients, weights, limits.step)
        part[...] = found.reshape(part.shape).clip(0, limits.span)
        classes[block.images, block.rows] = kinds.reshape(part.shape)
    decoded = (predicted + limits.step * coder.errors(job, predicted, classes)).clip(0, limits.span)
    job.own.put(job.phase, decoded)
    job.errors.put(job.phase, abs(decoded - predicted))


class _Writer:
    """The encoder; quantises errors during the walk, then chooses their tables and codes them."""

    def __init__(self, planes: Planes, limits: Range) -> None:
        """Take planes (c, n, height, width) from 0 to limits.span."""
        self._planes, self._limits = planes, limits
        self._groups: list[tuple[int, Planes]] = []

    def parameters(self, job: Pass) -> tuple[Planes, Planes]:
        coefficients, weights = fit.fit(job, job.of(self._planes[job.channel]), self._limits.step)
        self._groups += [(_COEFFICIENTS, coefficients), (_WEIGHTS, weights)]
        return coefficients, weights

    def coarsest(self, channel: int, predicted: Planes) -> Planes:
        s = 2 ** lattice.depth(*self._planes.shape[2:])
        quantised = self._quantise(self._planes[channel, :, ::s, ::s] - predicted)
        differences = quantised.copy()
        differences[:, :, 1:] -= quantised[:, :, :-1]
        differences[:, 1:, 0] -= quantised[:, :-1, 0]
        self._groups.append((_COARSEST + channel, differences.reshape(-1)))
        return quantised

    def errors(self, job: Pass, predicted: Planes, classes: npt.NDArray[np.uint8]) -> Planes:
        quantised = self._quantise(job.of(self._planes[job.channel]) - predicted)
        order, counts = _sorted(classes)
        parts = np.split(quantised.reshape(-1)[order], np.cumsum(counts)[:-1])
        self._groups += list(enumerate(parts))
        return quantised

    def finish(self) -> bytes:
        """Code everything, and return the bytes."""
        length = self._limits.escape_bytes
        members: dict[int, list[Planes]] = {}
        groups = [(group, part) for group, part in self._groups if len(part)]
        for group, part in groups:
            members.setdefault(group, []).append(part)
        tables = {g: scales.choose(abs(np.concatenate(parts)), 8 * length) for g, parts in members.items()}
        used = sorted(group for group in tables if group < CLASSES)
        first, last = (used[0], used[-1] + 1) if used else (0, 0)
        listed = [*range(first, last), _COEFFICIENTS, _WEIGHTS, *range(_COARSEST, _COARSEST + len(self._planes))]
        jobs, escapes = [], []
        for group, part in groups:
            coded, escaped = scales.split(part, tables[group])
            jobs += coded
            escapes.append(np.where(escaped > 0, 2 * escaped - 1, -2 * escaped))
        coder = constriction.stream.stack.AnsCoder()
        for entries, model in reversed(jobs):
            coder.encode_reverse(entries, model)
        words: bytes = coder.get_compressed().astype("<u4").tobytes()
        raw = np.concatenate(escapes).astype("<u8").view(np.uint8).reshape(-1, 8)[:, :length]
        numbers = [first, last - first, *(tables.get(group, 0) for group in listed), len(words) // 4]
        return b"".join(map(varint.pack, numbers)) + words + raw.tobytes()

    def _quantise(self, errors: Planes) -> Planes:
        quantised: Planes = (errors + self._limits.bound) // self._limits.step
        return quantised


class _Reader:
    """The decoder; checks every value that it reads."""

    def __init__(self, data: bytes | memoryview, channels: int, limits: Range) -> None:
        """Read the tables, and locate the stream and the escapes; CorruptionError if one is missing."""
        self._limits = limits
        position = 0

        def number() -> int:
            nonlocal position
            value, position = varint.unpack(data, position)
            return value

        first, count = number(), number()
        if first + count > CLASSES:
            raise CorruptionError(f"payload has tables for {first + count} classes but at most {CLASSES} exist: it is damaged")
        listed = [*range(first, first + count), _COEFFICIENTS, _WEIGHTS, *range(_COARSEST, _COARSEST + channels)]
        self._tables = {group: scales.parse(number()) for group in listed}
        end = 4 * number() + position
        if end > len(data):
            raise CorruptionError(f"stream ends at byte {end} of {len(data)}: the payload is cut short; restore it from a copy")
        self._coder = streams.start(bytes(data[position:end]))
        self._escapes = np.frombuffer(data, np.uint8, offset=end)

    def parameters(self, job: Pass) -> tuple[Planes, Planes]:
        coefficients, weights = (self._take([group]) for group in ((_COEFFICIENTS, job.coefficients), (_WEIGHTS, job.weights)))
        most = lattice.MAX_COEFFICIENT
        if max(abs(coefficients).max(initial=0), weights.max()) > most or weights.min() < 0:
            raise CorruptionError(f"payload has a coefficient beyond {most}: it is damaged")
        return coefficients, weights

    def coarsest(self, channel: int, predicted: Planes) -> Planes:
        quantised = self._take([(_COARSEST + channel, predicted.size)]).reshape(predicted.shape)
        quantised[:, :, 0] = quantised[:, :, 0].cumsum(axis=1)
        quantised = quantised.cumsum(axis=2)
        self._check(quantised)
        return quantised

    def errors(self, job: Pass, predicted: Planes, classes: npt.NDArray[np.uint8]) -> Planes:
        order, counts = _sorted(classes)
        quantised = np.empty(predicted.size, np.int64)
        quantised[order] = self._take([(group, count) for group, count in enumerate(counts.tolist()) if count])
        return quantised.reshape(predicted.shape)

    def finish(self) -> None:
        """Raise CorruptionError unless everything has been read."""
        streams.finish(self._coder)
        if len(self._escapes):
            raise CorruptionError("payload holds more escapes than escaped values: it is damaged")

    def _take(self, groups: list[tuple[int, int]]) -> Planes:
        """Read the next values, in runs of (group, count)."""
        for group, _ in groups:
            if group not in self._tables:
                raise CorruptionError(f"payload has no table for class {group}: it is damaged")
        values, escaped = scales.join(self._coder, [(count, self._tables[group]) for group, count in groups])
        if len(escaped):
            length = self._limits.escape_bytes
            if len(escaped) * length > len(self._escapes):
                raise CorruptionError("payload holds fewer escapes than escaped values: it is damaged")
            raw = np.zeros((len(escaped), 8), np.uint8)
            raw[:, :length] = self._escapes[: len(escaped) * length].reshape(-1, length)
            self._escapes = self._escapes[len(escaped) * length :]
            folded = raw.view("<u8").reshape(-1).astype(np.int64)
            values[escaped] = np.where(folded & 1, (folded + 1) // 2, -(folded // 2))
        self._check(values)
        return values

    def _check(self, values: Planes) -> None:
        most = self._limits.largest
        if len(values) and max(values.max(), -values.min()) > most:
            raise CorruptionError(f"payload has an error beyond {most} steps: it is damaged")


def _sorted(classes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], npt.NDArray[Any]]:
    """The positions sorted by class, and how many each class has."""
    flat = classes.reshape(-1)
    return np.argsort(flat, kind="stable"), np.bincount(flat)
