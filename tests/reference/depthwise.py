"""The synthesis of the family depthwise-residual in plain numpy, from caecodec/FORMAT.md, section 20, alone.

It reads a weights file and shares no code with the package.
"""

import json
import struct

import numpy as np

KINDS = {"F16": "<f2", "F32": "<f4"}


def synthesis(data, quality, symbols):
    """Symbols [channel][row][column] -> x [colour][row][column], float64, given the bytes of a weights file."""
    size = struct.unpack_from("<Q", data)[0]
    entries = json.loads(data[8 : 8 + size])

    def tensor(name):
        start, stop = entries[name]["data_offsets"]
        values = np.frombuffer(data[8 + size + start : 8 + size + stop], KINDS[entries[name]["dtype"]])
        return values.reshape(entries[name]["shape"]).astype(float)

    def linear(name, x):  # x [row][column][channel]
        scale, shift = (tensor(f"q{quality}.{name}.{part}") for part in ("scale", "shift"))
        return x @ tensor(f"{name}.weight").T * scale + shift

    def active(x):
        return np.where(x < 0, x / 10, x)

    def blocks(name, x):
        number = 0
        while f"{name}.{number}.depthwise.weight" in entries:
            block = f"{name}.{number}"
            u = np.pad(active(linear(f"{block}.spatial_in", x)), ((1, 1), (1, 1), (0, 0)))
            kernel = tensor(f"{block}.depthwise.weight")
            height, width = x.shape[:2]
            v = sum(kernel[:, i, j] * u[i : i + height, j : j + width] for i in range(3) for j in range(3))
            x = x + v @ tensor(f"{block}.spatial_out.weight").T
            x = x + active(linear(f"{block}.channel_in", x)) @ tensor(f"{block}.channel_out.weight").T
            number += 1
        return x

    x = np.array(symbols, float).transpose(1, 2, 0) * tensor(f"q{quality}.latent_scale")
    x = blocks("g_s.coarse", linear("g_s.latent", x))
    x = linear("g_s.split", x)
    rows, columns, channels = x.shape
    fine = np.empty((2 * rows, 2 * columns, channels // 4))
    for i in range(2):
        for j in range(2):
            first = (2 * i + j) * (channels // 4)
            fine[i::2, j::2] = x[..., first : first + channels // 4]
    x = linear("g_s.patch", blocks("g_s.fine", fine))
    image = np.empty((3, 16 * rows, 16 * columns))
    for colour in range(3):
        for i in range(8):
            for j in range(8):
                image[colour, i::8, j::8] = x[..., 64 * colour + 8 * i + j]
    return image
