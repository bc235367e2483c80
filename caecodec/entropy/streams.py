"""What entropy models share: bands, the words of a stream, and the list of escaped symbols (FORMAT.md, 5 and 6)."""

from typing import NamedTuple

import constriction
import numpy as np
import numpy.typing as npt

from ..bitstream import varint
from ..errors import CorruptionError

BAND_SYMBOLS = 32768
MAX_SYMBOL = 2**24
Symbols = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
StreamLayout = list[tuple[int, int]]


class CodedSymbols(NamedTuple):
    """Coded symbols: the little-endian 32-bit words of each stream, and the escape list."""

    streams: tuple[bytes, ...]
    escapes: bytes


def narrow(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """Symbols as int16, which takes half the memory; those that do not fit are clipped."""
    return np.clip(symbols, -(2**15), 2**15 - 1).astype(np.int16)


def bands(rows: int, columns: int, channels: int) -> StreamLayout:
    """The [start, stop) latent rows of each stream, counted through all n images, one below the other."""
    count = min(rows, max(1, rows * columns * channels // BAND_SYMBOLS))
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def layout(coded: CodedSymbols, shape: tuple[int, int, int, int]) -> StreamLayout:
    """The bands of symbols (n, M, rows, columns); CorruptionError unless each has a stream."""
    n, channels, height, columns = shape
    found = bands(n * height, columns, channels)
    if len(found) != len(coded.streams):
        raise CorruptionError(
            f"payload has {len(coded.streams)} streams but latents of shape {shape} need {len(found)}: it is damaged"
        )
    return found


def check_words(stream: bytes) -> None:
    """Raise CorruptionError if a stream is not of whole words, or ends in a zero word."""
    if len(stream) % 4:
        raise CorruptionError(f"a stream has {len(stream)} bytes but must have whole words of 4: the payload is damaged")
    if stream and not any(stream[-4:]):
        raise CorruptionError("a stream ends in a zero word, which no encoder writes: the payload is damaged")


def start(stream: bytes) -> constriction.stream.stack.AnsCoder:
    """Start decoding the words of one stream."""
    check_words(stream)
    return constriction.stream.stack.AnsCoder(np.frombuffer(stream, "<u4").astype(np.uint32))


def finish(coder: constriction.stream.stack.AnsCoder) -> None:
    """Raise CorruptionError unless the whole stream has been decoded."""
    if not coder.is_empty():
        raise left_over()


def left_over() -> CorruptionError:
    """The error that a stream goes on behind its last symbol."""
    return CorruptionError("a stream holds more than its symbols: the payload is damaged, or was made with other weights")


def pack_escapes(
    values: npt.NDArray[np.signedinteger], escaped: npt.NDArray[np.bool_], low: Integers, high: Integers, rows: StreamLayout
) -> bytes:
    """Pack the escape list: the values (channels, rows, columns) outside low <= value < high (channels,)."""
    if not escaped.any():
        return b""
    parts = []
    for first, last in rows:
        outside = escaped[:, first:last]
        value, channel = values[:, first:last][outside].astype(np.int64), np.nonzero(outside)[0]
        below = 2 * (low[channel] - value) - 1
        parts.append(np.where(below > 0, below, 2 * (value - high[channel])))
    return varint.pack_many(np.concatenate(parts).astype(np.uint32))


def list_escapes(data: bytes | memoryview, count: int, limit: int = MAX_SYMBOL) -> Integers:
    """The `count` numbers of an escape list; CorruptionError if it holds more or fewer, or one far beyond `limit`."""
    listed = varint.unpack_many(data, count).astype(np.int64)
    if len(listed) and listed.max() > 2 * limit:
        raise CorruptionError(f"escape list holds a symbol beyond +-{limit}: the payload is damaged")
    return listed


def unpack_escapes(
    data: bytes, values: npt.NDArray[np.int32], escaped: npt.NDArray[np.bool_], low: Integers, high: Integers,
    rows: StreamLayout, limit: int = MAX_SYMBOL,
) -> None:  # fmt: skip
    """Write the values of an escape list where `escaped` is true, in place; CorruptionError for one far beyond `limit`."""
    listed = list_escapes(data, int(np.count_nonzero(escaped)), limit)
    if not len(listed):
        return
    used = 0
    for first, last in rows:
        value, outside = values[:, first:last], escaped[:, first:last]
        channel = np.nonzero(outside)[0]
        part = listed[used : used + len(channel)]
        value[outside] = np.where(part & 1, low[channel] - (part + 1) // 2, high[channel] + part // 2)
        used += len(channel)
