"""A decoder of the symbols of a payload in pure Python, from caecodec/FORMAT.md alone: it shares no code with the package."""

import bisect
import itertools
import json
import struct
import zlib
from typing import NamedTuple


class Reference(NamedTuple):
    """What the payload holds; symbols are indexed [image][channel][row][column], ranges are (power, low, high)."""

    quality: int
    metric: int
    digest: bytes
    shape: tuple
    channel_axis: int
    fortran: bool
    dtype: str
    big_endian: bool
    colour: tuple = ()
    symbols: tuple = ()
    separate: bool = False
    ranges: tuple = ()
    bound: bytes = b""


DTYPES = "BHhfd"
FORMATS = {"I32": "i", "I16": "h", "U8": "B", "I8": "b"}


def weights_tensor(data, name, dtype="I32"):
    """A flat list of the integers of one tensor of a weights file, and its shape."""
    size = struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8 : 8 + size])[name]
    assert entry["dtype"] == dtype
    start, stop = entry["data_offsets"]
    values = struct.iter_unpack("<" + FORMATS[dtype], data[8 + size + start : 8 + size + stop])
    return [value for (value,) in values], entry["shape"]


def static_tables(data, quality):
    """[(offset, masses)] of the channels, from the bytes of a weights file."""
    mass, length, offset = (weights_tensor(data, f"q{quality}.static.{part}")[0] for part in ("mass", "length", "offset"))
    masses = iter(mass)
    return [(first, list(itertools.islice(masses, n))) for n, first in zip(length, offset, strict=True)]


def dtype_of(number):
    """The letter of a dtype (section 3) in Python's struct, and whether the array was big-endian."""
    assert number in (0, 1, 2, 3, 4, 9, 10, 11, 12)
    return DTYPES[number & 7], number > 8


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
    assert data[:2] == b"\xca\xec"  # section 3
    version = data[2]
    assert version in (1, 2)
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    assert data[3] in (1, 2, 4, 5)
    stride = 8 if data[3] == 5 else 16
    dtype, big_endian = dtype_of(data[5] >> 4)
    quality, metric, coding = data[4] & 15, data[4] >> 4, data[5] & 15
    axes, channel_axis, fortran = (data[6] & 7) + 1, data[6] >> 3 & 15, bool(data[6] >> 7)
    position, shape = 11, []
    for _ in range(axes):
        length, position = varint(data, position)
        shape.append(length)
    channel_axis = None if channel_axis == 15 else channel_axis
    channels = 1 if channel_axis is None else shape[channel_axis]
    assert version == (1 if dtype == "B" and channels == 3 and channel_axis is not None and coding in (0, 1, 15) else 2)
    about = (quality, metric, data[7:11], tuple(shape), channel_axis, fortran, dtype, big_endian)
    if coding == 15:  # section 4
        return Reference(*about, colour=struct.unpack(f"<{channels}{dtype}", data[position:-4]))
    assert coding in (0, 1, 2, 3)
    bound = b""
    if coding == 2:  # section 12
        length, position = varint(data, position)
        bound, position = data[position : position + length], position + length
        if bound[0] > 1:
            assert data[position:-4] == b"\0\0\0"
            return Reference(*about, bound=bound)
        coding = bound[0]
    *leading, height, width = [length for axis, length in enumerate(shape) if axis != channel_axis]
    images, h, w = 1, -(-height // stride), -(-width // stride)
    for length in leading:
        images *= length
    separate, ranges = False, []
    if version == 2:
        length, position = varint(data, position)
        separate, ranges, images = planes(data[position : position + length], dtype, images, channels)
        position += length
    count, position = varint(data, position)
    lengths = []
    for _ in range(count):
        length, position = varint(data, position)
        lengths.append(length)
    escape_length, position = varint(data, position)
    streams = []
    for length in lengths:
        streams.append(struct.unpack_from(f"<{length}I", data, position))
        position += 4 * length
    assert position + escape_length == len(data) - 4
    escapes = data[position:-4]
    if not images:  # all planes have one value
        assert not streams
        assert not escapes
        return Reference(*about, separate=separate, ranges=ranges, bound=bound)
    body = {0: static_body, 1: context_body, 3: bits_body}[coding]
    latent = body(weights, quality, streams, escapes, images, h, w)
    symbols = [[channel[i * h : (i + 1) * h] for channel in latent] for i in range(images)]
    return Reference(*about, symbols=symbols, separate=separate, ranges=ranges, bound=bound)


def planes(data, dtype, images, channels):
    """The planes of section 4: whether they are separate, the range of each, and how many images the network has."""
    kind, packed = data[0], data[1:]
    assert kind < 4
    ranges = list(struct.iter_unpack(f"<B2{dtype}", packed)) if kind & 2 else []
    assert len(ranges) == (images * channels if kind & 2 else 0)
    if kind & 1:
        images = sum(power > 0 for power, _, _ in ranges) if kind & 2 else images * channels
    return bool(kind & 1), ranges, images


def bands(m, rows, w):
    """The rows of each stream (section 5)."""
    count = min(rows, max(1, rows * w * m // 32768))
    return [range(rows * band // count, rows * (band + 1) // count) for band in range(count)]


class Stream:
    """The coder of section 5."""

    def __init__(self, words):
        self.words, self.state = list(words), 0
        assert not words or words[-1] != 0
        while self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def entry(self, masses):
        starts = [0, *itertools.accumulate(masses)]
        remainder = self.state % 2**24
        entry = bisect.bisect_right(starts, remainder) - 1
        self.state = masses[entry] * (self.state >> 24) + remainder - starts[entry]
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return entry

    def end(self):
        assert self.state == 0
        assert not self.words


def static_body(weights, quality, streams, escapes, images, h, w):
    """Coding 0: rows [channel][row][column] (sections 5 and 6)."""
    tables = static_tables(weights, quality)
    layout = bands(len(tables), images * h, w)
    latent = [[[None] * w for _ in range(images * h)] for _ in tables]
    position = 0
    for rows, words in zip(layout, streams, strict=True):
        stream, escaped = Stream(words), []
        for channel, (offset, masses) in enumerate(tables):
            for row, column in itertools.product(rows, range(w)):
                entry = stream.entry(masses)
                latent[channel][row][column] = offset + entry
                if entry == len(masses) - 1:
                    escaped.append((channel, row, column))
        stream.end()
        for channel, row, column in escaped:
            value, position = varint(escapes, position)
            offset, masses = tables[channel]
            latent[channel][row][column] = unescape(value, offset, len(masses))
    assert position == len(escapes)
    return latent


def unescape(value, offset, entries):
    """Section 6."""
    return offset - (value + 1) // 2 if value % 2 else offset + entries - 1 + value // 2


def context_body(weights, quality, streams, escapes, images, h, w, tables="context"):
    """Coding 1: rows [channel][row][column] (section 7)."""

    def tensor(part, dtype):
        return weights_tensor(weights, f"q{quality}.{tables}.{part}", dtype)

    order, (m,) = tensor("order", "I16")
    differences, radii = tensor("difference", "U8")[0], tensor("radius", "U8")[0]
    pairs = iter(tensor("weight", "I8")[0])
    thresholds, (_, limits) = tensor("threshold", "I32")
    table, (_, classes) = tensor("table", "U8")
    masses, (_, width) = tensor("mass", "I32")
    layout = bands(m, images * h, w)
    assert len(layout) == len(streams)
    coders = [Stream(words) for words in streams]
    coded, position = varint(escapes, 0)
    assert coded <= m
    a, b, escaped = [], [], [[] for _ in layout]
    values = [[[0] * w for _ in range(images * h)] for _ in range(m)]
    for c in range(coded):
        weight = [(next(pairs), next(pairs)) for _ in range(c)]
        limit = thresholds[c * limits : (c + 1) * limits]
        r = radii[c]
        magnitude = [[0] * w for _ in range(images * h)]
        for band, (rows, coder) in enumerate(zip(layout, coders, strict=True)):
            for row, column in itertools.product(rows, range(w)):
                p = sum(8 * u * a[j][row][column] + v * b[j][row][column] for j, (u, v) in enumerate(weight))
                k = sum(h <= p for h in limit)
                x = table[c * classes + k]
                mass = [masses[x * width + (t + 1) // 2] for t in range(2 * r + 1)]
                t = coder.entry([*mass, 2**24 - sum(mass)])
                if t == 2 * r + 1:
                    escaped[band].append((c, row, column))
                values[c][row][column] = (t + 1) // 2 if t % 2 else -t // 2
                magnitude[row][column] = min((t + 1) // 2, 8)
        a.append(magnitude)
        b.append([[around(magnitude, h, w, row, column) for column in range(w)] for row in range(images * h)])
    for coder in coders:
        coder.end()
    for places in escaped:
        for c, row, column in places:
            value, position = varint(escapes, position)
            values[c][row][column] = unescape(value, -radii[c], 2 * radii[c] + 2)
    assert position == len(escapes)
    latent = [None] * m
    for c, rows in enumerate(values):
        for row, column in itertools.product(range(images * h), range(w)):
            i = row % h
            if (differences[c] == 1 and column) or (differences[c] == 2 and not i and column):
                rows[row][column] += rows[row][column - 1]
            elif (differences[c] == 2 and i) or (differences[c] == 1 and i):
                rows[row][column] += rows[row - 1][column]
        latent[order[c]] = rows
    return latent


def bits_body(weights, quality, streams, escapes, images, h, w):
    """Coding 3: rows [channel][row][column] (section 24)."""

    def tensor(part, dtype):
        values, shape = weights_tensor(weights, f"q{quality}.binary-context.{part}", dtype)
        return values if len(shape) == 1 else [values[i : i + shape[1]] for i in range(0, len(values), shape[1])]

    coded, biases, masses = tensor("coded", "U8"), tensor("bias", "I32"), tensor("mass", "I32")
    taps = [
        [(j, z // 5 - 2, z % 5 - 2, u) for j, z, u in zip(*rows, strict=True)]
        for rows in zip(tensor("channel", "I16"), tensor("place", "U8"), tensor("weight", "I16"), strict=True)
    ]
    bits = {}
    every = itertools.product(range(len(taps)), range(h), range(images), range(w))
    coders, number = [Stream(words) for words in streams], len(taps) * images * h * w
    assert len(coders) == max(1, number // 2**18)
    before, step = 0, 0
    for x, (c, i, image, k) in enumerate(sorted(every, key=lambda place: 2 * place[1] + place[3] + 4 * place[0])):
        if 2 * i + k + 4 * c > step:
            before, step = x, 2 * i + k + 4 * c
        s = biases[c] + sum(u * bits.get((image, j, i + dy, k + dx), 0) for j, dy, dx, u in taps[c])
        mass = masses[c][min(max(s // 128 + len(masses[c]) // 2, 0), len(masses[c]) - 1)]
        bits[image, c, i, k] = 2 * coders[len(coders) * before // number].entry([2**24 - mass, mass]) - 1
    for coder in coders:
        coder.end()
    latent = [[[0] * w for _ in range(images * h)] for _ in coded]
    used = [m for m, flag in enumerate(coded) if flag]
    for (number, m), image, i, k in itertools.product(enumerate(used), range(images), range(h), range(w)):
        a, b = bits[image, 2 * number, i, k], bits[image, 2 * number + 1, i, k]
        latent[m][image * h + i][k] = (3 * a + b) // 2
    position, place = 0, -1
    while position < len(escapes):
        g, position = varint(escapes, position)
        value, position = varint(escapes, position)
        place += g + 1
        rest, k = divmod(place, w)
        rest, i = divmod(rest, h)
        image, m = divmod(rest, len(coded))
        latent[m][image * h + i][k] = -(value + 1) // 2 if value % 2 else value // 2
    return latent


def around(magnitude, h, w, row, column):
    """The 3x3 sum at a position of one of the images that lie one below the other."""
    top = row - row % h
    rows = [min(max(row + step, top), top + h - 1) for step in (-1, 0, 1)]
    columns = [min(max(column + step, 0), w - 1) for step in (-1, 0, 1)]
    return sum(magnitude[i][k] for i in rows for k in columns)
