"""Codes integers by integer tables of Laplace distributions (FORMAT.md, 15: Values).

    (mu, scale) ── table, base, number of low bits ──▶ entries ── ANS ──▶ stream
                                                        escapes ─────────▶ varints
                                                        low bits ────────▶ raw

mu is in sixteenths; scale is an index: 0 to 60 for scales of 2^(index / 4 - 5).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import constriction
import numpy as np
import numpy.typing as npt

from ...bitstream import varint
from ...entropy import streams
from ...entropy.tables import PRECISION, TOTAL
from ...errors import CorruptionError

FRACTIONS = 16  # mu is in units of 1 / FRACTIONS
SCALES = 61
REACH = 24  # entries of a table on each side of its middle
ENTRIES = 2 * REACH + 2
ESCAPE = ENTRIES - 1
TABLES = 29  # scales that have tables; larger ones use one of the last four, and low bits
# floor(2^32 exp(-1 / (16 b))) for b = 2^(j / 4 - 5)
DECAYS = (
    581260615, 799036310, 1044178423, 1307656790, 1580030168, 1852521206, 2117713904, 2369882518, 2605029347, 2820730046,
    3015876648, 3190386796, 3344923893, 3480652712, 3599040368, 3701703250, 3790295335, 3866431115, 3931635878, 3987316691,
    4034748382, 4075069961, 4109287957, 4138284039, 4162825044, 4183574095, 4201101925, 4215897841, 4228379999,
)  # fmt: skip
_FAMILY = constriction.stream.model.Categorical(perfect=False)
_BLOCK = 2**14  # values that are encoded at once
_WINDOW = 8  # the most low bits
_INDEX = np.arange(SCALES)
_LOW = np.maximum(0, -(-(_INDEX - (TABLES - 1)) // 4))
_ROW = FRACTIONS * (_INDEX - 4 * _LOW)  # the number of a scale's table at fraction 0
_ROUND = np.where(_LOW > 0, FRACTIONS // 2, 0)
_KEEP = np.where(_LOW > 0, -FRACTIONS, -1)

Integers = npt.NDArray[np.int64]


class Coded(NamedTuple):
    """Coded values: 32-bit little-endian words, varints, and bits, from the highest of each byte on."""

    stream: bytes
    escapes: bytes
    raw: bytes


class Places(NamedTuple):
    """How values are coded: the table's number, the value that its middle stands for, and the number of raw low bits."""

    row: Integers
    base: Integers
    low: Integers


class _Split(NamedTuple):
    """The parts of each value: table, entry, value in the escape list, low bits and their number."""

    row: Integers
    entry: Integers
    escape: Integers
    bits: Integers
    low: Integers


@cache
def masses() -> Integers:
    """The tables (29 x 16, 50) of each scale and fraction: masses of at least 1 that sum to 2^24, the last for the escape."""
    decay = np.array(DECAYS, np.uint64)
    tail = np.empty((FRACTIONS * REACH + 2 * FRACTIONS, TABLES), np.uint64)  # 2^32 exp(-x / (16 b))
    tail[0] = 2**32
    for x in range(1, len(tail)):
        tail[x] = tail[x - 1] * decay >> np.uint64(32)
    exact = tail.astype(np.int64)
    half = FRACTIONS // 2
    edge = FRACTIONS * np.arange(-REACH, REACH + 2) - half - np.arange(FRACTIONS)[:, None]
    below = np.where(edge[..., None] >= 0, 2**33 - exact[abs(edge)], exact[abs(edge)]).transpose(2, 0, 1)
    weight = np.diff(below)
    weight = np.concatenate([weight, 2**33 - weight.sum(axis=2, keepdims=True)], axis=2)
    mass: Integers = 1 + (weight * (TOTAL - ENTRIES) >> 33)
    missing = TOTAL - mass.sum(axis=2)
    mass[:, : half + 1, REACH] += missing[:, : half + 1]
    mass[:, half + 1 :, REACH + 1] += missing[:, half + 1 :]
    return mass.reshape(-1, ENTRIES)


@cache
def _rows() -> npt.NDArray[np.float32]:
    """The tables in the form from which constriction reproduces exactly these masses."""
    return (masses() - 1).astype(np.float32)


@cache
def _bits() -> npt.NDArray[np.float64]:
    """Ideal code length of each entry, in bits."""
    return PRECISION - np.log2(masses())


def place(mu: Integers, scale: Integers) -> Places:
    """How values of these parameters, which have one shape, are coded."""
    rounded = (mu + _ROUND[scale]) & _KEEP[scale]
    return Places(_ROW[scale] + (rounded & (FRACTIONS - 1)), rounded >> 4, _LOW[scale])


def _split(values: npt.NDArray[np.signedinteger[Any]], mu: Integers, scale: Integers) -> _Split:
    row, base, low = place(mu, scale)
    from_base = values.astype(np.int64) - base + (1 << low >> 1)
    t = from_base >> low
    beyond = abs(t) - (REACH + 1)
    entry = np.where(beyond < 0, t + REACH, ESCAPE)
    return _Split(row, entry, 2 * beyond + (t < 0), from_base & ((1 << low) - 1), low)


def lengths(values: npt.NDArray[np.signedinteger[Any]], mu: Integers, scale: Integers) -> npt.NDArray[np.float64]:
    """Ideal code length of each value, in bits, escapes and low bits included; all of one shape."""
    parts = _split(values, mu, scale)
    bits: npt.NDArray[np.float64] = _bits()[parts.row, parts.entry] + parts.low
    escaped = parts.entry == ESCAPE
    bits[escaped] += 8 * (1 + sum((parts.escape[escaped] >= 1 << 7 * i).astype(np.int64) for i in range(1, varint.MAX_BYTES)))
    return bits


def encode(values: npt.NDArray[np.signedinteger[Any]], mu: Integers, scale: Integers) -> Coded:
    """Code values (n,) in the order in which they will be decoded."""
    parts = _split(values, mu, scale)
    coder = constriction.stream.stack.AnsCoder()
    entries, rows = parts.entry.astype(np.int32), _rows()
    for start in reversed(range(0, len(entries), _BLOCK)):
        part = slice(start, start + _BLOCK)
        coder.encode_reverse(entries[part], _FAMILY, rows[parts.row[part]])
    escapes = varint.pack_many(parts.escape[parts.entry == ESCAPE].astype(np.uint32))
    some = parts.low > 0
    shift = parts.low[some, None] - 1 - np.arange(_WINDOW)
    bits = parts.bits[some, None] >> np.maximum(shift, 0) & 1
    raw = np.packbits(bits[shift >= 0].astype(np.uint8))
    return Coded(coder.get_compressed().astype("<u4").tobytes(), escapes, raw.tobytes())


class Reader:
    """Decodes values of several payloads, the same number of each at a time; `finish` checks that nothing is left."""

    def __init__(self, parts: Sequence[Coded]) -> None:
        """Start to read coded values; CorruptionError if they cannot be valid."""
        self._coders = [streams.start(part.stream) for part in parts]
        self._decode = [coder.decode for coder in self._coders]
        self._rows = _rows()
        self._escapes = [_unpack(part.escapes) for part in parts]
        self._used = [0] * len(parts)
        sizes = 8 * np.array([len(part.raw) for part in parts])
        self._end = np.cumsum(sizes + _WINDOW) - _WINDOW
        self._next = self._end - sizes
        bits = np.unpackbits(np.frombuffer(b"".join(part.raw + b"\0" for part in parts), np.uint8))
        self._windows = np.zeros(len(bits), np.int64)  # at each bit, the number that the next eight bits make
        for i in range(_WINDOW):
            self._windows[: len(bits) - i] |= bits[i:].astype(np.int64) << (_WINDOW - 1 - i)

    def read(self, mu: Integers, scale: Integers) -> Integers:
        """The next values (payloads, n), of these parameters; CorruptionError if there are none."""
        wide = scale.max() >= TABLES
        if wide:
            row, base, low = place(mu, scale)
        else:
            row, base = (scale << 4) + (mu & (FRACTIONS - 1)), mu >> 4
        rows = self._rows.take(row, axis=0)
        entries = np.concatenate([decode(_FAMILY, tables) for decode, tables in zip(self._decode, rows, strict=True)])
        t = entries.reshape(row.shape) - np.int64(REACH)
        if entries.max() == ESCAPE:
            self._unescape(t)
        return base + (self._widen(t, low) if wide else t)

    def finish(self) -> None:
        """Raise CorruptionError unless everything has been read."""
        for coder in self._coders:
            streams.finish(coder)
        if any(used != len(listed) for used, listed in zip(self._used, self._escapes, strict=True)):
            raise CorruptionError("payload holds more escapes than values escape: it is damaged")
        left = self._end - self._next
        if (left >= 8).any() or self._windows[self._next[left > 0]].any():
            raise CorruptionError("payload holds more low bits than its values have: it is damaged")

    def _unescape(self, t: Integers) -> None:
        """Put escaped values in their places."""
        escaped = t == ESCAPE - REACH
        for i, count in enumerate(np.count_nonzero(escaped, axis=1).tolist()):
            if count:
                listed = self._escapes[i][self._used[i] :][:count]
                if len(listed) < count:
                    raise CorruptionError("payload holds fewer escapes than values escape: it is damaged")
                self._used[i] += count
                beyond = listed >> 1
                t[i, escaped[i]] = np.where(listed & 1, -beyond, beyond) + np.where(listed & 1, -(REACH + 1), REACH + 1)

    def _widen(self, t: Integers, low: Integers) -> Integers:
        """Values with their low bits, from the bits above these."""
        ends = self._next[:, None] + low.cumsum(axis=1)
        self._next = ends[:, -1]
        if (self._next > self._end).any():
            raise CorruptionError("payload holds fewer low bits than its values have: it is damaged")
        bits = np.zeros_like(t)
        some = low > 0
        bits[some] = self._windows[(ends - low)[some]] >> (_WINDOW - low[some])
        return (t << low) + bits - (1 << low >> 1)


def _unpack(escapes: bytes) -> Integers:
    """The values of an escape list."""
    count = int(np.count_nonzero(np.frombuffer(escapes, np.uint8) < 0x80))
    return varint.unpack_many(escapes, count).astype(np.int64)
