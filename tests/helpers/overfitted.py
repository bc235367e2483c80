"""Networks and latents for tests of the overfitted codec: random ones, and a network made by hand that codes real pictures.

Fitting takes seconds to minutes a chunk; what is tested with these is all around it.
"""

import numpy as np

from caecodec.codecs.overfitted import laplace, wavefront
from caecodec.codecs.overfitted.fit import Fitted
from caecodec.codecs.overfitted.network import Network

STEPS = (8, 8, 10, 8, 8, 8)
# Columns: luma and two differences of colour; rows: red, green and blue.
COLOURS = np.array([[1, 0, 1.4], [1, -0.35, -0.7], [1, 1.8, 0]])


def random_network(decoder, channels=3, seed=0, scale=0.0):
    """Random parameters; `scale` raises the scales of the distributions, by powers of two."""
    rng = np.random.default_rng(seed)
    floats = {name: 0.08 / np.sqrt(shape[-1]) * rng.normal(size=shape) for name, shape in decoder.shapes(channels).items()}
    floats["arm_ws"][0, :3] += (0.3, 0.3, -0.1)
    floats["arm_b3"][1] += scale
    floats["up"] = floats["up"] / 4 + np.array([-36, -108, 268, 900]) / 1024
    floats["syn_b2"] += 0.5
    return Network.quantise(decoder, channels, floats, STEPS)


class Sampler:
    """A reader that draws values from the very distributions that it is asked for."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.below = laplace.masses().cumsum(axis=1)

    def read(self, mu, scale):
        row, base, low = laplace.place(mu, scale)
        entry = (self.rng.integers(0, 2**24, row.shape)[..., None] >= self.below[row]).sum(axis=-1)
        far = self.rng.integers(25, 60, entry.shape) * self.rng.choice([-1, 1], entry.shape)
        t = np.where(entry == laplace.ESCAPE, far, entry - laplace.REACH)
        return base + (t << low) + self.rng.integers(0, 1 << low) - (1 << low >> 1)


def random_latents(networks, pictures, height, width, seed=0):
    """Latents (payloads, pictures, rows, columns) of each level, drawn from the distributions of networks."""
    return wavefront.walk(Sampler(seed), networks, len(networks), pictures, height, width)


def picture_network(decoder, channels):
    """A network by hand: brightness on the finest level; colour, where there is any, on the next two."""
    floats = {name: np.zeros(shape) for name, shape in decoder.shapes(channels).items()}
    floats["up"][:] = np.array([-36, -108, 268, 900]) / 1024
    floats["syn_b2"] += 0.5
    floats["syn_ws"][:, :channels] = 0.25 * (COLOURS if channels == 3 else 1)
    floats["arm_ws"][0, :3] = 0.75, 0.75, -0.5
    floats["arm_b3"][1] = 0.5
    return Network.quantise(decoder, channels, floats, STEPS)


def picture_latents(network, pictures):
    """Latents for pictures (m, C, height, width) in [0, 1]."""
    _, channels, height, width = pictures.shape
    planes = 64 * (pictures - 0.5)
    if channels == 3:
        planes = np.einsum("ij,mjyx->miyx", np.linalg.inv(COLOURS), planes)
    levels = []
    for level in range(7):
        rows, columns = -(-height >> level), -(-width >> level)
        values = np.zeros((len(pictures), rows, columns))
        if level < channels:
            at = [
                np.minimum(2**level * np.arange(n) + 2**level // 2, side - 1) for n, side in ((rows, height), (columns, width))
            ]
            values = planes[:, level][:, at[0]][:, :, at[1]]
        levels.append(np.rint(values).astype(np.int32))
    return levels


def fit_by_hand(pictures, raw_bits, decoder, parameters, shared, gpu):
    """What stands in for the fit, with the arguments and results of caecodec.codecs.overfitted.codec._fit."""
    network = picture_network(decoder, pictures.shape[1]) if shared is None else shared
    return Fitted(network, picture_latents(network, pictures))
