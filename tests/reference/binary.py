"""The synthesis of the family binary in plain numpy, from caecodec/FORMAT.md, section 23, alone.

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

    def layer(name, x):  # x [channel][row][column]
        kernel = tensor(f"{name}.weight")
        rows, columns = x.shape[1:]
        out = np.zeros((kernel.shape[1], 2 * rows + 3, 2 * columns + 3))
        for i in range(5):
            for j in range(5):
                out[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] += np.einsum("cyx,co->oyx", x, kernel[:, :, i, j])
        out = out[:, 2 : 2 + 2 * rows, 2 : 2 + 2 * columns]
        if f"{name}.mean" in entries:
            mean, variance = (tensor(f"{name}.{part}")[:, None, None] for part in ("mean", "variance"))
            out = (out - mean) / np.sqrt(variance + 1e-5)
        scale, shift = (tensor(f"q{quality}.{name}.{part}")[:, None, None] for part in ("scale", "shift"))
        return out * scale + shift

    x = []
    for channel in np.array(symbols):
        x += [np.sign(channel), 2 * channel - 3 * np.sign(channel)]
    x = np.array(x, float) * tensor(f"q{quality}.latent_scale")[:, None, None]
    x = np.maximum(layer("g_s.0", x), 0)
    return layer("g_s.2", np.maximum(layer("g_s.1", x), 0))
