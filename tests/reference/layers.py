"""A decoder of layers in plain Python and numpy, from caecodec/FORMAT.md, section Layers, alone: no code of the package.

Its networks are those of the family depthwise-residual.
"""

import itertools
import struct
from typing import NamedTuple

import numpy as np

from . import depthwise, sections
from .decoder import Stream, around, context_body, planes, varint, weights_tensor

HEAD, PADDING, COLOUR = 1, 2, 3


class Reference(NamedTuple):
    """What a payload holds: symbols [image][channel][row][column] of each layer, and the values that are stored as such."""

    digest: bytes
    layers: tuple
    separate: bool
    ranges: tuple
    shape: tuple
    content: tuple
    channel_axis: int
    dtype: str
    value: float
    colour: tuple


def decode(data, weights):
    """The contents of a payload, or of its first layers, given the bytes of its weights file."""
    parts = sections.decode(data)
    assert parts.family == 6
    ids = [number for number, _ in parts.sections]
    assert ids == sorted(set(ids))
    section = dict(parts.sections)
    head = section[HEAD]
    metric, family, digest = head[0], head[1], head[2:6]
    assert metric in (0, 1)
    assert family in (1, 2, 4)
    padding, content, value = section.get(PADDING), [], 0
    dtype = parts.dtype
    position = 0
    for length in parts.shape:
        margin, position = varint(padding, position) if padding else (0, 0)
        content.append(length - margin)
    assert min(content) > 0
    if padding:
        assert tuple(content) != parts.shape
        (value,) = struct.unpack("<" + dtype, padding[position:] or bytes(struct.calcsize(dtype)))
    about = (parts.shape, tuple(content), parts.channel_axis, dtype, value)
    *leading, height, width = [length for axis, length in enumerate(content) if axis != parts.channel_axis]
    images, channels = int(np.prod(leading)), 1 if parts.channel_axis is None else content[parts.channel_axis]
    if COLOUR in section:
        assert ids == [number for number in (HEAD, PADDING, COLOUR) if number in section]
        assert len(head) == 6
        return Reference(digest, (), False, (), *about, struct.unpack(f"<{channels}{dtype}", section[COLOUR]))
    listed = [section[number] for number in ids if number > COLOUR]
    assert [number for number in ids if number > COLOUR] == list(range(16, 16 + len(listed)))
    separate, ranges, images = planes(head[6:], dtype, images, channels)
    if not images:
        assert listed == [b"\0"] + [b""] * (len(listed) - 1)
        return Reference(digest, (), separate, tuple(ranges), *about, ())
    h, w = -(-height // 16), -(-width // 16)
    symbols = [base(weights, listed[0], images, h, w)]
    for number, layer in enumerate(listed[1:], 2):
        symbols.append(refined(weights, number, layer, symbols[-1], h))
    stacked = [np.array(one).reshape(len(one), images, h, w).swapaxes(0, 1) for one in symbols]
    for number, one in enumerate(stacked, 1):
        assert abs(one).max() <= 2 ** (24 - layers_of(weights) + number)
    return Reference(digest, tuple(stacked), separate, tuple(ranges), *about, ())


def layers_of(weights):
    """L."""
    return next(number for number in range(9) if f'"q{number + 1}.layers.order"'.encode() not in weights)


def base(weights, data, images, h, w):
    """Layer 1: rows [channel][row][column] of all images, one below the other."""
    count, position = varint(data, 0)
    lengths, streams = [], []
    for _ in range(count):
        length, position = varint(data, position)
        lengths.append(length)
    for length in lengths:
        streams.append(struct.unpack_from(f"<{length}I", data, position))
        position += 4 * length
    return context_body(weights, 1, streams, data[position:], images, h, w, tables="layers")


def features(rows, h):
    """The magnitude and the 3x3 sum at each position of a channel."""
    a = [[min(abs(s), 8) for s in row] for row in rows]
    w = len(a[0])
    return a, [[around(a, h, w, row, column) for column in range(w)] for row in range(len(a))]


def refined(weights, number, data, lower, h):
    """Layer `number`, given the rows [channel][row][column] of the layer below it."""

    def tensor(part, dtype="I16"):
        return weights_tensor(weights, f"q{number}.layers.{part}", dtype)

    order, (m,) = tensor("order")
    group = tensor("group")[0]
    below, before = np.reshape(tensor("below")[0], (m, m, 2)).tolist(), iter(tensor("before")[0])
    thresholds, (_, limits) = tensor("threshold", "I32")
    zero, steady, mass = tensor("zero", "U8")[0], tensor("steady", "U8")[0], tensor("mass", "I32")[0]
    classes = limits + 1
    coded, position = varint(data, 0)
    assert coded <= m
    assert (len(data) - position) % 4 == 0
    stream = Stream(struct.unpack(f"<{(len(data) - position) // 4}I", data[position:]))
    rows, w = len(lower[0]), len(lower[0][0])
    lower = [lower[channel] for channel in order]
    known = [features(channel, h) for channel in lower]
    assert not np.any(lower[coded:])
    found, own = [[[0] * w for _ in range(rows)] for _ in range(m)], []
    for c in range(coded):
        first = max(start for start in group if start <= c)
        pairs = [(next(before), next(before)) for _ in range(first)]
        for i, k in itertools.product(range(rows), range(w)):
            p = sum(8 * u * a[i][k] + v * b[i][k] for (u, v), (a, b) in zip(below[c], known, strict=True))
            p += sum(8 * u * a[i][k] + v * b[i][k] for (u, v), (a, b) in zip(pairs, own[:first], strict=True))
            s = lower[c][i][k]
            if s == 0:
                z = mass[zero[c * classes + sum(t <= p for t in thresholds[c * limits : (c + 1) * limits])]]
                found[c][i][k] = (0, 1, -1)[stream.entry([z, (2**24 - z) // 2, (2**24 - z) // 2])]
            else:
                z = mass[steady[3 * c + min(abs(s), 3) - 1]]
                entry = stream.entry([z, 2**24 - z - 1, 1])
                assert entry < 2
                found[c][i][k] = (2 * abs(s) + entry) * (1 if s > 0 else -1)
        own.append(features(found[c], h))
    stream.end()
    return [found[order.index(channel)] for channel in range(m)]


def pixels(reference, weights, layer):
    """The values of the whole chunk at a layer, as float64 that are not rounded."""
    content = reference.content
    axes = [axis for axis in range(len(content)) if axis != reference.channel_axis]
    channels = 1 if reference.channel_axis is None else content[reference.channel_axis]
    *leading, height, width = [content[axis] for axis in axes]
    count = int(np.prod(leading))
    if reference.colour:
        values = np.tile(np.array(reference.colour, float)[:, None, None], (count, 1, height, width))
    else:
        values = from_layer(reference, weights, layer, count * channels, height, width)
    values = values.reshape(*leading, channels, height, width)
    values = values[..., 0, :, :] if reference.channel_axis is None else np.moveaxis(values, -3, reference.channel_axis)
    whole = np.full(reference.shape, reference.value, float)
    whole[tuple(slice(length) for length in content)] = values
    return whole


def from_layer(reference, weights, layer, number, height, width):
    """The planes (number, height, width)."""
    images = []
    for symbols in reference.layers[layer - 1] if reference.layers else ():
        half = layers_of(weights) - layer
        middles = np.sign(symbols) * (2 ** (half + 1) * abs(symbols) + 2**half - 1)
        images.append(depthwise.synthesis(weights, layer, middles)[:, :height, :width])
    if reference.separate:
        coded = iter([image.mean(axis=0) for image in images])
        constant = [bool(reference.ranges) and reference.ranges[i][0] == 0 for i in range(number)]
        x = [np.zeros((height, width)) if same else next(coded) for same in constant]
    else:
        x = [plane for image in images for plane in image]
    if not reference.ranges:
        return np.clip(255 * np.array(x), 0, 255)
    out = []
    for plane, (power, low, high) in zip(x, reference.ranges, strict=True):
        t = np.clip(plane, 0, 1) ** power
        out.append(low * (1 - t) + high * t)
    return np.array(out)
