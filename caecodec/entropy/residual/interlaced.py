"""Integer planes coded lattice by lattice, from coarse to fine (FORMAT.md, 11: Residuals).

    planes ── predictions from known values ── errors in steps of 2 bound + 1 ── class ── table ── ANS ── bytes
                  └─────────────────────────────────── decoded values ◀──┘

In: planes as int64 (n, c, height, width): n images of c channels, each predicted by those before it. Out: bytes.
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
# Numbers of the groups of values that share a table; those below are classes, those above the channels' coarsest lattices.
CLASSES = 128
_COEFFICIENTS, _WEIGHTS, _COARSEST = CLASSES, CLASSES + 1, CLASSES + 2


class Range(NamedTuple):
    """The values that planes may have, and how far off each may be.

    low, high : smallest and largest value, less than 2^36 apart
    bound : largest difference of a decoded value, at most high - low
    """

    low: int
    high: int
    bound: int

    @property
    def span(self) -> int:
        """Difference between the largest and the smallest value."""
        return self.high - self.low

    @property
    def step(self) -> int:
        """Difference between neighbouring quantised errors."""
        return 2 * self.bound + 1

    @property
    def largest(self) -> int:
        """Of the magnitudes of quantised errors, of the differences of two, and of coefficients."""
        return max(2 * (self.span // self.step + 1), lattice.MAX_COEFFICIENT)

    @property
    def escape_bytes(self) -> int:
        """Length of an escaped value."""
        return -(-(2 * self.largest).bit_length() // 8)


class _Coder(Protocol):
    """What writes or reads values in the order of coding."""

    def parameters(self, job: Pass) -> tuple[Planes, Planes]:
        """Coefficients and weights of a pass."""

    def coarsest(self, channel: int, predicted: Planes) -> Planes:
        """Quantised errors (n, rows, columns) of the coarsest lattice of a channel, as differences."""

    def errors(self, job: Pass, predicted: Planes, classes: npt.NDArray[np.uint8]) -> Planes:
        """Quantised errors (n, rows, columns) of a pass."""


def encode(planes: Planes, prediction: Planes | None, limits: Range) -> bytes:
    """Code planes (n, c, height, width); a prediction of the same shape helps where it is near."""
    writer = _Writer(planes.transpose(1, 0, 2, 3) - limits.low, limits)
    _walk(planes.shape, prediction, limits, writer)
    return writer.finish()


def decode(data: bytes | memoryview, shape: tuple[int, int, int, int], prediction: Planes | None, limits: Range) -> Planes:
    """The planes (n, c, height, width) in the data; CorruptionError when it does not hold just them."""
    reader = _Reader(data, shape[1], limits)
    planes = _walk(shape, prediction, limits, reader)
    reader.finish()
    return planes


def _walk(shape: tuple[int, ...], prediction: Planes | None, limits: Range, coder: _Coder) -> Planes:
    """Go through all positions in the order of coding; the decoded planes."""
    n, channels, height, width = shape
    dtype = lattice.precision(limits.span)
    values, errors = (np.zeros((channels, n, height, width), dtype) for _ in range(2))
    given = None if prediction is None else (prediction.transpose(1, 0, 2, 3) - limits.low).clip(0, limits.span).astype(dtype)
    depth = lattice.depth(height, width)
    before: list[list[tuple[PhaseGrid, PhaseGrid]]] = []  # of channels, the last first, at levels: values, errors
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
    """Code one pass, into its grids."""
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
    """The encoder: quantises errors as it goes, and codes them when all are known and their tables are chosen."""

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
        """The bytes of all."""
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
    """The decoder; every value is checked when it is read."""

    def __init__(self, data: bytes | memoryview, channels: int, limits: Range) -> None:
        """Read the tables, and find stream and escapes; CorruptionError when they are not there."""
        self._limits = limits
        position = 0

        def number() -> int:
            nonlocal position
            value, position = varint.unpack(data, position)
            return value

        first, count = number(), number()
        if first + count > CLASSES:
            raise CorruptionError(f"payload has tables of {first + count} classes but at most {CLASSES}: it is damaged")
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
        """CorruptionError unless all has been read."""
        streams.finish(self._coder)
        if len(self._escapes):
            raise CorruptionError("payload holds more escapes than values escape: it is damaged")

    def _take(self, groups: list[tuple[int, int]]) -> Planes:
        """The next values, in runs of (group, how many)."""
        for group, _ in groups:
            if group not in self._tables:
                raise CorruptionError(f"payload has no table of class {group}: it is damaged")
        values, escaped = scales.join(self._coder, [(count, self._tables[group]) for group, count in groups])
        if len(escaped):
            length = self._limits.escape_bytes
            if len(escaped) * length > len(self._escapes):
                raise CorruptionError("payload holds fewer escapes than values escape: it is damaged")
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
    """The positions in order of their classes, and how many each class has."""
    flat = classes.reshape(-1)
    return np.argsort(flat, kind="stable"), np.bincount(flat)
