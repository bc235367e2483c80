"""Unsigned LEB128 integers (FORMAT.md, 2: Integers)."""

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError

MAX_BYTES = 5
MAX_VALUE = 2**32 - 1


def pack(value: int) -> bytes:
    """One integer, 0 to 2^32 - 1, in its shortest form: seven bits a byte, lowest first, high bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def unpack(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The integer at `position` of data, and the position behind it; CorruptionError if that is not a varint."""
    value = 0
    for i, byte in enumerate(data[position : position + MAX_BYTES]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value > MAX_VALUE or (byte == 0 and i):
                break
            return value, position + i + 1
    raise CorruptionError(
        f"no valid integer at byte {position} of the payload: it is damaged or cut short; restore it from a copy"
    )


def pack_many(values: npt.NDArray[np.uint32]) -> bytes:
    """A (k,) array of integers, one after the other."""
    wide = values.astype(np.uint64)[:, None] >> (np.arange(MAX_BYTES, dtype=np.uint64) * np.uint64(7))
    used = wide.any(axis=1, keepdims=True) & (wide != 0)
    used[:, 0] = True
    groups = (wide & np.uint64(0x7F)).astype(np.uint8)
    groups[:, :-1] |= used[:, 1:].astype(np.uint8) << 7
    return bytes(groups[used])


def unpack_many(data: bytes | memoryview, count: int) -> npt.NDArray[np.uint32]:
    """Exactly `count` integers that fill data; CorruptionError otherwise."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if len(ends) != count or (count and ends[-1] != len(raw) - 1) or (not count and len(raw)):
        raise CorruptionError(f"escape list holds {len(ends)} values but {count} symbols are escaped: the payload is damaged")
    if not count:
        return np.zeros(0, np.uint32)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    if place.max() >= MAX_BYTES:
        raise CorruptionError("escape list holds a value of more than 32 bits: the payload is damaged")
    values = np.add.reduceat((raw & 0x7F).astype(np.uint64) << (place.astype(np.uint64) * np.uint64(7)), starts)
    if values.max() > MAX_VALUE:
        raise CorruptionError("escape list holds a value of more than 32 bits: the payload is damaged")
    return values.astype(np.uint32)
