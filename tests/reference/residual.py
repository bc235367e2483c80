"""A decoder of residuals in pure Python, from caecodec/FORMAT.md, section 11, alone: it shares no code with the package."""

import itertools
import math

from .decoder import Stream, varint

AXIAL = [(-1, 0), (0, -1), (0, 1), (1, 0)]
DIAGONAL = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
WIDE = [(-3, -1), (-3, 1), (-1, -3), (-1, 3), (1, -3), (1, 3), (3, -1), (3, 1)]
KNIGHT = [(-2, -1), (-2, 1), (-1, -2), (-1, 2), (1, -2), (1, 2), (2, -1), (2, 1)]
TAPS = {(1, 1): DIAGONAL + WIDE, (1, 0): AXIAL + KNIGHT, (0, 1): AXIAL + DIAGONAL}


def masses(table):
    """The masses of a table, and its number of low bits."""
    j, v = divmod(table, 4)
    b = max(0, j // 4 - 5)
    r, s = [2, 3, 5, 8][v], math.isqrt(2 ** (j - 4 * b + 16))
    w = [2**64 * s**r // (s + 4096 * t * t) ** r for t in range(128)]
    u = 254 * w[127] // (2 * r - 1)
    y = w[0] + 2 * sum(w[1:]) + u
    half = [1 + w[t] * (2**24 - 256) // y for t in range(1, 128)]
    escape = 1 + u * (2**24 - 256) // y
    return [*reversed(half), 2**24 - 2 * sum(half) - escape, *half, escape], b


class Bits(Stream):
    """Section 5's coder, with uniform numbers beside tables."""

    def entry_of_bits(self, k):
        r = self.state % 2**24
        entry = r >> (24 - k)
        self.state = 2 ** (24 - k) * (self.state >> 24) + r % 2 ** (24 - k)
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return entry


class Runs:
    """The runs of values of the bytes."""

    def __init__(self, data, channels, limit):
        first, position = varint(data, 0)
        count, position = varint(data, position)
        self.tables = {}
        for name in [*range(first, first + count), "C", "W", *((c, "coarsest") for c in range(channels))]:
            self.tables[name], position = varint(data, position)
        words, position = varint(data, position)
        end = position + 4 * words
        self.stream = Bits([int.from_bytes(data[i : i + 4], "little") for i in range(position, end, 4)])
        self.escapes, self.limit = data[end:], limit
        self.bytes = -(-(2 * limit).bit_length() // 8)

    def take(self, name, count):
        if not count:
            return []
        mass, b = masses(self.tables[name])
        entries = [self.stream.entry(mass) for _ in range(count)]
        low = [0] * count
        for first in range(0, b, 16):
            k = min(16, b - first)
            low = [value + (self.stream.entry_of_bits(k) << first) for value in low]
        values = []
        for entry, bits in zip(entries, low, strict=True):
            value = ((entry - 127) << b) + bits - (2 ** (b - 1) if b else 0)
            if entry == 255:
                folded = int.from_bytes(self.escapes[: self.bytes], "little")
                self.escapes = self.escapes[self.bytes :]
                value = (folded + 1) // 2 if folded % 2 else -folded // 2
            assert abs(value) <= self.limit
            values.append(value)
        return values


def decode(data, shape, low, high, bound, prediction=None):
    """Planes [image][channel][row][column]."""
    n, channels, height, width = shape
    span, step = high - low, 2 * bound + 1
    runs = Runs(data, channels, max(2 * (span // step + 1), 255))

    def limited(value):
        return min(max(value, 0), span)

    x = [[[[None] * width for _ in range(height)] for _ in range(channels)] for _ in range(n)]
    error = [[[[0] * width for _ in range(height)] for _ in range(channels)] for _ in range(n)]
    guide = prediction and [[[[limited(v - low) for v in row] for row in p] for p in image] for image in prediction]
    depth = 0
    while -(-height // 2**depth) * -(-width // 2**depth) > 256:
        depth += 1
    for c in range(channels):
        s = 2**depth
        rows, columns = range(0, height, s), range(0, width, s)
        found = iter(runs.take((c, "coarsest"), n * len(rows) * len(columns)))
        for image in range(n):
            q = {}
            for i, k in itertools.product(rows, columns):
                q[i, k] = next(found) + (q[i, k - s] if k else q[i - s, 0] if i else 0)
                assert abs(q[i, k]) <= runs.limit
                p = guide[image][c][i][k] if guide else x[image][c - 1][i][k] if c else 0
                x[image][c][i][k] = limited(p + step * q[i, k])
        for d in range(depth - 1, -1, -1):
            for phase in TAPS:
                code_pass(runs, x, error, guide, c, 2**d, phase, span, step)
    runs.stream.end()
    assert not runs.escapes
    return [[[[v + low for v in row] for row in plane] for plane in image] for image in x]


def code_pass(runs, x, error, guide, c, s, phase, span, step):
    """One pass."""
    height, width = len(x[0][0]), len(x[0][0][0])
    m = [-(-height // s), -(-width // s)]
    places = list(itertools.product(range(len(x)), range(phase[0], m[0], 2), range(phase[1], m[1], 2)))
    if not places:
        return

    def inside(i, size):
        while size > 1 and not 0 <= i < size:
            i = -i if i < 0 else 2 * (size - 1) - i
        return i if size > 1 else 0

    def at(planes, channel, image, i, k, tap):
        y, z = inside(i + tap[0], m[0]), inside(k + tap[1], m[1])
        value = planes[image][channel][y * s][z * s]
        return planes[image][channel][(y - y % 2) * s][(z - z % 2) * s] if value is None else value

    taps, short = TAPS[phase], len(places) < 2048
    before = [other for other in (c - 1, c - 2) if other >= 0]
    classes = {}
    predicted = {}
    first = True
    for image, i, k in places:

        def mean(planes, channel, image=image, i=i, k=k):
            return sum(at(planes, channel, image, i, k, tap) for tap in taps[:4]) // 4

        a = mean(x, c)
        f = [] if short else [at(x, c, image, i, k, tap) - a for tap in taps]
        for number, other in enumerate(before):
            offsets = [(0, 0)] + ([] if short else AXIAL if number else AXIAL + DIAGONAL)
            f += [at(x, other, image, i, k, tap) - mean(x, other) for tap in offsets]
        if guide:
            f.append(mean(guide, c) - a)
            f += [at(guide, c, image, i, k, tap) - mean(guide, c) for tap in [(0, 0)] + ([] if short else AXIAL + DIAGONAL)]
        g = [step, sum(abs(at(x, c, image, i, k, tap) - a) for tap in taps[:4])]
        g.append(sum(at(error, c, image, i, k, tap) for tap in taps))
        for other in before:
            g.append(at(error, other, image, i, k, (0, 0)))
            g.append(sum(at(error, other, image, i, k, tap) for tap in AXIAL + DIAGONAL))
        if guide:
            centre = at(guide, c, image, i, k, (0, 0))
            g.append(sum(abs(at(guide, c, image, i, k, tap) - centre) for tap in AXIAL + DIAGONAL))
        if first:
            coefficients, weights = runs.take("C", len(f)), runs.take("W", len(g))
            assert all(abs(value) <= 255 for value in coefficients)
            assert all(0 <= value <= 255 for value in weights)
            first = False
        p = a + (sum(u * v for u, v in zip(coefficients, f, strict=True)) + 64) // 128
        predicted[image, i, k] = min(max(p, 0), span)
        v = 16 + sum(u * v for u, v in zip(weights, g, strict=True))
        z = v.bit_length() - 1
        classes.setdefault(2 * z + (2 * v >= 3 * 2**z), []).append((image, i, k))
    for name in sorted(classes):
        for place, q in zip(classes[name], runs.take(name, len(classes[name])), strict=True):
            image, i, k = place
            value = min(max(predicted[place] + step * q, 0), span)
            x[image][c][i * s][k * s] = value
            error[image][c][i * s][k * s] = abs(value - predicted[place])
