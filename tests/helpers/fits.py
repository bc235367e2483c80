"""Fits of parts of photographs, and what they cost."""

from functools import cache

import numpy as np
import skimage.data
import torch

from caecodec.codecs.overfitted.architecture import LOP
from caecodec.codecs.overfitted.fit import fit
from caecodec.codecs.overfitted.gradients import Objective
from caecodec.codecs.overfitted.parameters import LMBDAS


def pictures(chunks=1, count=1, channels=3, height=48, width=64):
    """Parts of photographs (chunks, count, channels, height, width) in [0, 1], each another."""
    sources = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    made = np.empty((chunks, count, channels, height, width), np.float32)
    for i in range(chunks):
        for j in range(count):
            source, corner = sources[(i + j) % 4], 60 + 40 * j
            made[i, j] = source[corner : corner + height, 150 : 150 + width, :channels].transpose(2, 0, 1) / np.float32(255)
    return made


def tensors(network):
    return {name: torch.from_numpy(value)[None] for name, value in network.floats().items()}


def atlas(objective, latents):
    """Latents (m, rows, columns) of each level as the objective takes them."""
    array = torch.zeros(objective.shape, dtype=torch.float32)
    for level, values in enumerate(latents):
        objective.atlas.level(array, level)[...] = torch.from_numpy(values)
    return array


def measured(picture, fitted, lmbda):
    """Mean squared error and bits per pixel of a fitted chunk (m, C, height, width), by its stored network."""
    objective = Objective(torch.from_numpy(picture[None]), lmbda)
    distortion, rate = objective.measure(atlas(objective, fitted.latents), tensors(fitted.network))
    return float(distortion), float(rate)


@cache
def one(preset="instant", seed=0, quality=3):
    return fit(pictures(), LOP, LMBDAS[quality - 1], preset, seed)[0]
