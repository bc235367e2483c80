"""A decoder of overfitted payloads in pure Python, from caecodec/FORMAT.md alone: it shares no code with the package."""

import functools
import itertools
import math
import re
import struct
import zlib
from typing import NamedTuple

from helpers.paths import FORMAT

from .decoder import Stream, dtype_of, varint


class Reference(NamedTuple):
    """What the payload holds; latents are indexed [level][picture][row][column], pictures [picture][channel][row][column]."""

    decoder: int
    coding: int
    digest: bytes
    shape: tuple
    channel_axis: int
    fortran: bool
    dtype: str
    big_endian: bool
    colour: tuple = ()
    separate: bool = False
    ranges: tuple = ()
    parameters: dict | None = None
    latents: tuple = ()
    pictures: tuple = ()


SIZES = {0: (6, 2, 7, 8, 1), 1: (10, 3, 11, 16, 2), 2: (14, 3, 15, 48, 2)}  # section 14
OFFSETS = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2),
           (0, -3), (-3, 0)]  # fmt: skip


def decode(data, shared=b""):
    """The contents of a payload, given the network section that it may share."""
    assert data[:2] == b"\xca\xec"  # section 13
    assert data[2:4] == b"\3\3"
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    assert data[4] in SIZES
    decoder, coding, (dtype, big_endian) = data[4], data[5] & 15, dtype_of(data[5] >> 4)
    axes, channel_axis, fortran = (data[6] & 7) + 1, data[6] >> 3 & 15, bool(data[6] >> 7)
    digest = data[7:11] if coding == 1 else b""
    position, shape = 7 + len(digest), []
    for _ in range(axes):
        length, position = varint(data, position)
        shape.append(length)
    channel_axis = None if channel_axis == 15 else channel_axis
    channels = 1 if channel_axis is None else shape[channel_axis]
    about = (decoder, coding, digest, tuple(shape), channel_axis, fortran, dtype, big_endian)
    if coding == 15:
        return Reference(*about, colour=struct.unpack(f"<{channels}{dtype}", data[position:-4]))
    assert coding in (0, 1)
    *leading, height, width = [length for axis, length in enumerate(shape) if axis != channel_axis]
    planes, position = section(data, position)
    separate = bool(planes[0] & 1)
    ranges = list(struct.iter_unpack(f"<B2{dtype}", planes[1:])) if planes[0] & 2 else []
    count = math.prod(leading)
    assert len(ranges) == (count * channels if planes[0] & 2 else 0)
    if separate:
        count = sum(power > 0 for power, _, _ in ranges) if ranges else count * channels
    network = shared
    if coding == 0:
        network, position = section(data, position)
    coded = data[position:-4]
    if not count:
        assert (network if coding == 0 else b"", coded) == (b"", b"\0\0")
        return Reference(*about, separate=separate, ranges=ranges)
    c = 1 if separate else 3
    stored, steps = parameters(network, decoder, c)
    latents = decode_latents(coded, decoder, stored, steps, count, height, width)
    floats = scaled(stored, steps)
    pictures = [picture(floats, decoder, c, [level[i] for level in latents]) for i in range(count)]
    return Reference(*about, separate=separate, ranges=ranges, parameters=floats, latents=latents, pictures=pictures)


def section(data, position):
    length, position = varint(data, position)
    return data[position : position + length], position + length


class Values:
    """Coded values (sections 13 and 15)."""

    def __init__(self, data):
        words, position = varint(data, 0)
        escapes, position = varint(data, position)
        self.stream = Stream(struct.unpack_from(f"<{words}I", data, position))
        middle = position + 4 * words
        self.escapes, self.position = data[middle : middle + escapes], 0
        raw = data[middle + escapes :]
        self.bits = "".join(f"{byte:08b}" for byte in raw)
        self.used = 0

    def next(self, mu, i):
        k = max(0, math.ceil((i - 28) / 4))
        base, f = ((mu + 8) // 16, 0) if k else (mu // 16, mu % 16)
        entry = self.stream.entry(table(i - 4 * k, f))
        t = entry - 24
        if entry == 49:
            value, self.position = varint(self.escapes, self.position)
            t = -(value // 2) - 25 if value % 2 else value // 2 + 25
        low = int(self.bits[self.used : self.used + k] or "0", 2)
        self.used += k
        return base + t * 2**k + low - (2 ** (k - 1) if k else 0)

    def end(self):
        self.stream.end()
        assert self.position == len(self.escapes)
        assert 0 <= len(self.bits) - self.used < 8
        assert "1" not in self.bits[self.used :]


@functools.cache
def decays():
    """The numbers of section 15, as the text has them."""
    lines = FORMAT.read_text().split("\n## 15. Values\n")[1].split("\nlet, rounding down")[0]
    numbers = [int(number) for number in re.findall(r"\b\d{9,10}\b", lines)]
    assert len(numbers) == 29
    return numbers


@functools.cache
def table(j, f):
    """The masses of section 15."""
    e = [2**32]
    for _ in range(500):
        e.append(e[-1] * decays()[j] // 2**32)

    def g(x):
        return 2**33 - e[x] if x >= 0 else e[-x]

    w = [g(16 * t + 8 - f) - g(16 * t - 8 - f) for t in range(-24, 25)]
    masses = [1 + v * (2**24 - 50) // 2**33 for v in [*w, 2**33 - sum(w)]]
    masses[24 if f <= 8 else 25] += 2**24 - sum(masses)
    return masses


def parameters(data, decoder, c):
    """The integers of a network section, in nested lists by name, and k of each group (section 14)."""
    _, _, n, h, r = SIZES[decoder]
    groups = [
        {"arm_w1": (n, n), "arm_w2": (n, n), "arm_w3": (2, n), "arm_ws": (2, n)},
        {"arm_b1": (n,), "arm_b2": (n,), "arm_b3": (2,)},
        {"up": (6, 4)},
        {"syn_w1": (h, 7), "syn_w2": (c, h), "syn_ws": (c, 7)},
        {"res_w": (r, c, c, 3, 3)},
        {"syn_b1": (h,), "syn_b2": (c,), "res_b": (r, c)},
    ]
    steps, scales = data[:12:2], data[1:12:2]
    assert max(steps) <= 12
    assert max(scales) <= 60
    values, found = Values(data[12:]), {}
    for group, k, scale in zip(groups, steps, scales, strict=True):
        for name, shape in group.items():
            flat = [values.next(0, scale) for _ in range(math.prod(shape))]
            assert max(map(abs, flat)) <= 16 * 2**k
            found[name] = nested(flat, shape)
    values.end()
    return found, dict(zip([tuple(group) for group in groups], steps, strict=True))


def nested(flat, shape):
    """A flat list as lists of lists."""
    for size in reversed(shape[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat


def mapped(function, values):
    """A function of all numbers in nested lists."""
    return [mapped(function, value) for value in values] if isinstance(values, list) else function(values)


def scaled(stored, steps):
    """What the integers stand for."""
    found = {}
    for names, k in steps.items():
        for name in names:
            found[name] = mapped(lambda n, k=k: n / 2**k, stored[name])
    found["up"] = [[v + o / 1024 for v, o in zip(row, (-36, -108, 268, 900), strict=True)] for row in found["up"]]
    found["syn_b2"] = [v + 0.5 for v in found["syn_b2"]]
    return found


def decode_latents(data, decoder, stored, steps, count, height, width):
    """Latents [level][picture][row][column] (section 17)."""
    s, slope, n, _, _ = SIZES[decoder]
    units = {}
    for names, k in steps.items():
        for name in names:
            if name.startswith("arm"):
                units[name] = mapped(lambda v, k=k: v * 2 ** (12 - k), stored[name])
    values, levels = Values(data), {}
    for k in range(6, -1, -1):
        rows, columns = -(-height // 2**k), -(-width // 2**k)
        level = levels[k] = [[[0] * columns for _ in range(rows)] for _ in range(count)]
        places = itertools.product(range(count), range(rows), range(columns))
        for p, row, column in sorted(places, key=lambda place: (place[2] + slope * place[1], place[0], place[1])):
            x = []
            for down, right in OFFSETS[:s]:
                inside = row + down >= 0 and 0 <= column + right < columns
                x.append(level[p][row + down][column + right] if inside else 0)
            x.append(abs(levels[k + 1][p][row // 2][column // 2]) if k < 6 else 0)
            level[p][row][column] = value = values.next(*distribution(units, n, x))
            assert abs(value) < 2**15
    values.end()
    return [levels[k] for k in range(7)]


def distribution(p, n, x):
    """The mu and scale for inputs (section 16)."""

    def clip(v, low, high):
        return min(max(v, low), high)

    def layer(w, b, x):
        same = [[2**12 * (i == j) for j in range(n)] for i in range(n)]
        sums = [sum((w[i][j] + same[i][j]) * x[j] for j in range(n)) + 2**8 * b[i] for i in range(n)]
        return [clip((v + 2**11) // 2**12, 0, 2**24) for v in sums]

    big = [2**8 * v for v in x]
    h = layer(p["arm_w2"], p["arm_b2"], layer(p["arm_w1"], p["arm_b1"], big))
    o = [
        sum(p["arm_w3"][i][j] * h[j] + p["arm_ws"][i][j] * big[j] for j in range(n)) + 2**8 * p["arm_b3"][i]
        for i in range(2)
    ]  # fmt: skip
    return clip((o[0] + 2**15) // 2**16, -(2**19), 2**19), clip((o[1] + 2**17) // 2**18 + 20, 0, 60)


def picture(p, decoder, c, latents):
    """Channels [channel][row][column] of one picture (section 18)."""
    _, _, _, _, r = SIZES[decoder]
    s = mapped(lambda v: v / 16, latents)
    x = [s[6]]
    for k in range(5, -1, -1):
        rows, columns = len(s[k]), len(s[k][0])
        larger = []
        for plane in x:
            tall = [list(line) for line in zip(*[upsample(p["up"][k], line) for line in zip(*plane, strict=True)], strict=True)]
            larger.append([upsample(p["up"][k], line)[:columns] for line in tall[:rows]])
        x = [s[k], *larger]
    height, width = len(s[0]), len(s[0][0])
    y = [[[0.0] * width for _ in range(height)] for _ in range(c)]
    for row, column in itertools.product(range(height), range(width)):
        at = [plane[row][column] for plane in x]
        hidden = [max(dot(w, at) + b, 0) for w, b in zip(p["syn_w1"], p["syn_b1"], strict=True)]
        for i in range(c):
            y[i][row][column] = dot(p["syn_w2"][i], hidden) + p["syn_b2"][i] + dot(p["syn_ws"][i], at)
    for layer in range(r):
        before, y = y, []
        for i in range(c):
            y.append([[0.0] * width for _ in range(height)])
            for row, column in itertools.product(range(height), range(width)):
                total = before[i][row][column] + p["res_b"][layer][i]
                for j, u, v in itertools.product(range(c), range(3), range(3)):
                    near = before[j][min(max(row + u - 1, 0), height - 1)][min(max(column + v - 1, 0), width - 1)]
                    total += p["res_w"][layer][i][j][u][v] * near
                y[i][row][column] = max(total, 0) if layer < r - 1 else total
    return y


def upsample(taps, line):
    """A line twice as long."""
    a, b, c, d = taps

    def v(i):
        return line[min(max(i, 0), len(line) - 1)]

    pairs = [
        (a * v(i - 2) + c * v(i - 1) + d * v(i) + b * v(i + 1), b * v(i - 1) + d * v(i) + c * v(i + 1) + a * v(i + 2))
        for i in range(len(line))
    ]
    return [value for pair in pairs for value in pair]


def dot(weights, values):
    return sum(w * v for w, v in zip(weights, values, strict=True))
