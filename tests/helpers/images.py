"""Synthetic images."""

import numpy as np


def random_image(*shape, seed=0):
    """Smooth uint8 noise with an axis of 3 channels last."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(*shape[:-3], -(-shape[-3] // 8), -(-shape[-2] // 8), shape[-1]))
    smooth = coarse.repeat(8, axis=-3).repeat(8, axis=-2)[..., : shape[-3], : shape[-2], :]
    return np.clip(128 + 50 * smooth + 8 * rng.normal(size=shape), 0, 255).astype(np.uint8)


def counts(seed, height=128, width=128, peak=20000, background=100):
    """What a camera sees of a few bright spots: photon counts over a dark background, uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    signal = np.zeros((height, width))
    for _ in range(12):
        v, u, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 9)
        signal += peak * rng.random() ** 3 * np.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * size**2))
    return np.minimum(background + rng.poisson(signal + 40), 65535).astype(np.uint16)
