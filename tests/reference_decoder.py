"""A decoder of the symbols of a payload in pure Python, from caecodec/FORMAT.md alone: it shares no code with the package."""

import bisect
import itertools
import json
import struct
import zlib
from typing import NamedTuple


class Reference(NamedTuple):
    """What the payload holds; symbols are indexed [image][channel][row][column]."""

    quality: int
    metric: int
    digest: bytes
    shape: tuple
    channel_axis: int
    fortran: bool
    colour: bytes
    symbols: list


def weights_tables(data, quality):
    """[(offset, masses)] of the channels, from the bytes of a weights file."""
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])

    def integers(part):
        entry = header[f"q{quality}.static.{part}"]
        assert entry["dtype"] == "I32"
        start, stop = entry["data_offsets"]
        return [value for (value,) in struct.iter_unpack("<i", data[8 + size + start : 8 + size + stop])]

    mass, tables = iter(integers("mass")), []
    for length, offset in zip(integers("length"), integers("offset"), strict=True):
        tables.append((offset, list(itertools.islice(mass, length))))
    return tables


def varint(data, position):
    """Section 2."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def decode(data, weights):
    """The contents of a payload, given the bytes of its weights file."""
    assert data[:3] == b"\xca\xec\x01"  # section 3
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    assert data[3] == 1
    assert data[5] >> 4 == 0
    quality, metric, coding = data[4] & 15, data[4] >> 4, data[5] & 15
    axes, channel_axis, fortran = (data[6] & 7) + 1, data[6] >> 3 & 15, bool(data[6] >> 7)
    position, shape = 11, []
    for _ in range(axes):
        length, position = varint(data, position)
        shape.append(length)
    about = (quality, metric, data[7:11], tuple(shape), channel_axis, fortran)
    if coding == 15:  # section 4
        return Reference(*about, colour=data[position:-4], symbols=[])
    assert coding == 0
    count, position = varint(data, position)
    lengths = []
    for _ in range(count):
        length, position = varint(data, position)
        lengths.append(length)
    escape_length, position = varint(data, position)
    tables = weights_tables(weights, quality)
    *leading, height, width = [length for axis, length in enumerate(shape) if axis != channel_axis]
    images, h, w, m = 1, -(-height // 16), -(-width // 16), len(tables)
    for length in leading:
        images *= length
    rows = images * h
    bands = min(rows, max(1, rows * w * m // 32768))  # section 5
    assert count == bands
    latent = [[[None] * w for _ in range(rows)] for _ in range(m)]
    escaped = []
    for band, length in enumerate(lengths):
        words = list(struct.unpack_from(f"<{length}I", data, position))
        position += 4 * length
        assert not words or words[-1] != 0
        state = 0
        while state < 2**32 and words:
            state = state << 32 | words.pop()
        for channel, (offset, masses) in enumerate(tables):
            starts = [0, *itertools.accumulate(masses)]
            for row in range(rows * band // bands, rows * (band + 1) // bands):
                for column in range(w):
                    remainder = state % 2**24
                    entry = bisect.bisect_right(starts, remainder) - 1
                    state = masses[entry] * (state >> 24) + remainder - starts[entry]
                    if state < 2**32 and words:
                        state = state << 32 | words.pop()
                    latent[channel][row][column] = offset + entry
                    if entry == len(masses) - 1:
                        escaped.append((channel, row, column))
        assert state == 0
        assert not words
    end = position + escape_length
    for channel, row, column in escaped:  # section 6
        value, position = varint(data, position)
        offset, masses = tables[channel]
        symbol = offset - (value + 1) // 2 if value % 2 else offset + len(masses) - 1 + value // 2
        latent[channel][row][column] = symbol
    assert position == end == len(data) - 4
    symbols = [[latent[channel][i * h : (i + 1) * h] for channel in range(m)] for i in range(images)]
    return Reference(*about, colour=b"", symbols=symbols)
