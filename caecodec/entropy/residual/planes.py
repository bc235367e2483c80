"""Integer planes <-> bytes in three kinds of coding, with a bound on the error of every value (FORMAT.md, 11: Residuals).

    planes ┬── interlaced, from a prediction of the planes ──┐
           ├── interlaced, from themselves alone ────────────┼── bytes
           └── zstd ─────────────────────────────────────────┘

In: planes as int64 (n, c, height, width): n images of c channels. A bound of 0 is lossless.
"""

import numpy as np
from numcodecs import Shuffle, Zstd

from ...errors import CorruptionError, ParameterError
from . import interlaced
from .interlaced import Planes, Range
from .lattice import MAX_RANGE

_PREDICTED, _ZSTD = "predicted", "zstd"
KINDS = (_PREDICTED, "plain", _ZSTD)
_ZSTD_LEVEL = 9
_MAGIC, _SIZES = b"\x28\xb5\x2f\xfd", (0, 2, 4, 8)  # magic bytes of a Zstandard frame, and lengths of its size field


def limits(low: int, high: int, bound: int) -> Range:
    """The limits of planes whose values lie from low to high and may each change by at most `bound`.

    Raises
    ------
    ParameterError
        high is not from low to low + 2^36 - 1, or bound is negative.
    """
    if not 0 <= high - low < MAX_RANGE:
        raise ParameterError(f"values from {low} to {high} have a range of {high - low} but it must be 0 to {MAX_RANGE - 1}")
    if bound < 0:
        raise ParameterError(f"bound is {bound} but must be at least 0")
    return Range(low, high, min(bound, high - low))


def encode(planes: Planes, kind: str, within: Range, prediction: Planes | None = None) -> bytes:
    """Code planes in one of KINDS.

    Parameters
    ----------
    planes
        int64 (n, c, height, width), every value from within.low to within.high.
    kind
        "predicted" (from `prediction`), "plain" or "zstd".
    within
        What `limits` returned.
    prediction
        int64, of the same shape: values near those of planes; `decode` needs the same ones. Only for "predicted".
    """
    if kind == _ZSTD:
        last = planes.transpose(0, 2, 3, 1)  # colours repeat more than rows do
        quantised = np.ascontiguousarray((last - within.low) // within.step, _dtype(within))
        return bytes(Zstd(_ZSTD_LEVEL).encode(_shuffle(quantised).encode(quantised)))
    return interlaced.encode(planes, prediction if kind == _PREDICTED else None, within)


def decode(
    data: bytes | memoryview, kind: str, shape: tuple[int, int, int, int], within: Range, prediction: Planes | None = None
) -> Planes:
    """Decode int64 planes of this shape; every value is within the range, and at most within.bound from the original.

    Parameters are those of `encode`.

    Raises
    ------
    CorruptionError
        The data does not hold exactly these planes.
    """
    if kind == _ZSTD:
        return _decode_zstd(bytes(data), shape, within)
    return interlaced.decode(data, shape, prediction if kind == _PREDICTED else None, within)


def _decode_zstd(data: bytes, shape: tuple[int, int, int, int], within: Range) -> Planes:
    dtype = _dtype(within)
    raw = np.zeros(int(np.prod(shape)), dtype)
    size = _frame_size(data)
    if size != raw.nbytes:
        raise CorruptionError(
            f"Zstandard frame holds {size} bytes but planes of shape {shape} need {raw.nbytes}: it is damaged"
        )
    try:
        Zstd().decode(data, out=raw)
    except (RuntimeError, ValueError) as error:
        raise CorruptionError(f"payload holds no valid Zstandard frame ({error}): it is damaged") from error
    quantised = np.frombuffer(_shuffle(raw).decode(raw), dtype).astype(np.int64)
    if quantised.max() > within.span // within.step:
        raise CorruptionError(f"payload holds a value beyond {within.high}: it is damaged")
    values = (quantised * within.step + within.bound).clip(0, within.span) + within.low
    n, c, height, width = shape
    return np.ascontiguousarray(values.reshape(n, height, width, c).transpose(0, 3, 1, 2))


def _frame_size(data: bytes) -> int | None:
    """The content size that a Zstandard frame declares, or None (RFC 8878, 3.1.1.1)."""
    if len(data) < 6 or data[:4] != _MAGIC:
        return None
    single, dictionary = data[4] >> 5 & 1, (0, 1, 2, 4)[data[4] & 3]
    length = _SIZES[data[4] >> 6] or single
    start = 5 + (not single) + dictionary
    field = data[start : start + length]
    return int.from_bytes(field, "little") + (256 if length == 2 else 0) if field else None


def _dtype(within: Range) -> np.dtype[np.unsignedinteger]:
    """The narrowest little-endian integer dtype that holds the quantised values."""
    return np.min_scalar_type(within.span // within.step).newbyteorder("<")


def _shuffle(values: np.ndarray) -> Shuffle:
    """The filter that puts all first bytes first, then all second bytes, and so on."""
    return Shuffle(values.itemsize)
