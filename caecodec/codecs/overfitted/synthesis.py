"""Latents -> pictures, in float32 (FORMAT.md, 18: Pictures).

    latents / 16 ── upsampled from level to level ──▶ 7 planes ── 1x1 layers ── 3x3 layers ──▶ picture

The layers work on few rows at a time, which stay in the caches and for which BLAS starts no threads.
"""

import numpy as np
import numpy.typing as npt

from .architecture import LEVELS
from .network import Network
from .wavefront import Latents

UNIT = np.float32(1 / 16)  # what a latent of 1 stands for
_PRODUCTS = 2**18  # multiplications in a matrix product
Floats = npt.NDArray[np.float32]


def synthesise(network: Network, latents: Latents) -> Floats:
    """Pictures (m, C, height, width) of latents (m, rows, columns), the finest level first; in [0, 1] but for ringing."""
    pictures, height, width = latents[0].shape
    parameters = network.floats()
    out = np.empty((pictures, network.channels, height, width), np.float32)
    for picture, image in enumerate(out):
        planes = _stack(parameters["up"], [level[picture] for level in latents])
        _mix(parameters, planes, image)
        for layer, (kernel, bias) in enumerate(zip(parameters["res_w"], parameters["res_b"], strict=True)):
            _add_residual(kernel, bias, image)
            if layer < network.decoder.residuals - 1:
                np.maximum(image, 0, out=image)
    return out


def _stack(taps: Floats, latents: Latents) -> Floats:
    """The latents (rows, columns) of all levels as planes (7, height, width) of the size of the finest."""
    planes = latents[-1][None] * UNIT
    for level in reversed(range(LEVELS - 1)):
        rows, columns = latents[level].shape
        stacked = np.empty((len(planes) + 1, rows, columns), np.float32)
        stacked[0] = latents[level] * UNIT
        tall = np.empty((len(planes), rows, planes.shape[2]), np.float32)
        _upsample(taps[level], planes.transpose(1, 0, 2), tall.transpose(1, 0, 2))
        _upsample(taps[level], tall.transpose(2, 0, 1), stacked[1:].transpose(2, 0, 1))
        planes = stacked
    return planes


def _upsample(taps: Floats, x: Floats, out: Floats) -> None:
    """Write twice as many values along the first axis to `out`, as far as it goes."""
    a, b, c, d = taps
    padded = np.concatenate([x[:1], x[:1], x, x[-1:], x[-1:]])
    for odd, weights in enumerate(((a, c, d, b), (b, d, c, a))):
        part = out[odd::2]
        part[...] = 0
        for i, weight in enumerate(weights):
            part += weight * padded[odd + i : odd + i + len(part)]


def _mix(parameters: dict[str, Floats], planes: Floats, out: Floats) -> None:
    """The 1x1 layers: planes (7, height, width) -> out (C, height, width)."""
    hidden, (_, height, width) = len(parameters["syn_b1"]), planes.shape
    first = np.concatenate([parameters["syn_w1"], parameters["syn_ws"]])
    biases = np.concatenate([parameters["syn_b1"], parameters["syn_b2"]])[:, None]
    rows = max(1, _PRODUCTS // first.size // width)
    for top in range(0, height, rows):
        seen = planes[:, top : top + rows]
        mixed = first @ seen.reshape(LEVELS, -1)
        mixed += biases
        np.maximum(mixed[:hidden], 0, out=mixed[:hidden])
        part = parameters["syn_w2"] @ mixed[:hidden]
        part += mixed[hidden:]
        out[:, top : top + rows] = part.reshape(-1, *seen.shape[1:])


def _add_residual(kernel: Floats, bias: Floats, image: Floats) -> None:
    """Add to an image (C, height, width) its 3x3 convolution with a kernel (C, C, 3, 3), edges repeated."""
    channels, height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    matrix = kernel.reshape(channels, -1)
    rows = max(1, _PRODUCTS // matrix.size // width)
    for top in range(0, height, rows):
        part = image[:, top : top + rows]
        seen = np.empty((channels, 3, 3, *part.shape[1:]), np.float32)
        for row in range(3):
            for column in range(3):
                seen[:, row, column] = padded[:, top + row : top + row + part.shape[1], column : column + width]
        part += (matrix @ seen.reshape(len(matrix[0]), -1) + bias[:, None]).reshape(part.shape)
