"""The synthesis of the family residual-attention in plain numpy, from caecodec/FORMAT.md, section 22, alone.

It reads a weights file and shares no code with the package.
"""

import json
import struct

import numpy as np

KINDS = {"F16": "<f2", "F32": "<f4"}
STAGES = ("attention", "residual", "up", "residual", "attention", "up", "residual", "up")


def synthesis(data, quality, symbols):
    """Symbols [channel][row][column] -> x [colour][row][column], float64, given the bytes of a weights file."""
    size = struct.unpack_from("<Q", data)[0]
    entries = json.loads(data[8 : 8 + size])

    def tensor(name):
        start, stop = entries[name]["data_offsets"]
        values = np.frombuffer(data[8 + size + start : 8 + size + stop], KINDS[entries[name]["dtype"]])
        return values.reshape(entries[name]["shape"]).astype(float)

    def across(values):  # one for each channel
        return values[:, None, None]

    def pointwise(name, x):
        return np.einsum("oc,cyx->oyx", tensor(f"{name}.weight"), x) + across(tensor(f"{name}.bias"))

    def convolution(name, x):
        padded, (_, height, width) = np.pad(x, ((0, 0), (1, 1), (1, 1))), x.shape
        kernel = tensor(f"{name}.weight")
        return sum(
            np.einsum("oc,cyx->oyx", kernel[:, :, i, j], padded[:, i : i + height, j : j + width])
            for i in range(3)
            for j in range(3)
        )

    def doubled(x):
        out = np.empty((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]))
        for i in range(2):
            for j in range(2):
                out[:, i::2, j::2] = x[2 * i + j :: 4]
        return out

    def residual(name, x, up=False):
        finish = doubled if up else lambda values: values
        u = finish(convolution(f"{name}.conv_in", x) + across(tensor(f"{name}.conv_in.bias")))
        u = np.where(u < 0, u / 5, u)
        scale, shift = (tensor(f"q{quality}.{name}.conv_out.{part}") for part in ("scale", "shift"))
        v = convolution(f"{name}.conv_out", u) * across(scale) + across(shift)
        gamma, beta = tensor(f"{name}.norm.gamma"), tensor(f"{name}.norm.beta")
        v = v * np.sqrt(across(beta) + np.einsum("ij,jyx->iyx", gamma, v * v))
        return v + finish(pointwise(f"{name}.shortcut", x))

    def branch(name, x):
        for i in range(3):
            x = residual(f"{name}.{i}", x)
        return x

    def attention(name, x):
        gate = 1 / (1 + np.exp(-pointwise(f"{name}.gate", branch(f"{name}.mask", x))))
        return gate * branch(f"{name}.trunk", x) + pointwise(f"{name}.shortcut", x)

    x = np.array(symbols, float) * across(tensor(f"q{quality}.latent_scale"))
    x = doubled(convolution("g_s.latent", x) + across(tensor("g_s.latent.bias")))
    for number, stage in enumerate(STAGES):
        name = f"g_s.{number}"
        x = attention(name, x) if stage == "attention" else residual(name, x, up=stage == "up")
    return x
