"""Latents <-> bytes: the order in which latents are coded, and the contexts of each (FORMAT.md, 17: Latents).

Levels come from the coarsest to the finest. In a level, values whose contexts are known are decoded together: those of equal
column + slope * row, of all pictures and, for speed, of all payloads of one shape. An encoder knows all values, so it runs the
network once over whole levels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ...errors import CorruptionError
from . import laplace
from .architecture import MAX_LATENT, OFFSETS, Decoder, level_sizes
from .arm import Arm
from .laplace import Coded, Integers
from .network import Network

Latents = list[npt.NDArray[np.int32]]  # of each level, the finest first
MOST_PER_WORD = 7_594_000  # latents in 32 bits, if each takes the fewest: -log2(1 - 49 / 2^24)
_TOP, _LEFT, _RIGHT = 3, 3, 2  # how far contexts reach
_BLOCK = 2**10  # contexts at once in an encoder: few enough that BLAS starts no threads for them


class ValueReader(Protocol):
    """A source of values."""

    def read(self, mu: Integers, scale: Integers) -> Integers:
        """The next values (payloads, n), of these parameters."""


class Distribution(NamedTuple):
    """The distributions of values (pictures, rows, columns) of a level: mu in sixteenths, and the index of the scale."""

    mu: Integers
    scale: Integers


def distributions(network: Network, latents: Latents) -> list[Distribution]:
    """The distributions with which latents (pictures, rows, columns) are coded, the finest level first."""
    arm = Arm([network], 1, max(_BLOCK, latents[0].shape[2]))
    parents = [*latents[1:], None]
    return [_distribution(arm, network.decoder, values, above) for values, above in zip(latents, parents, strict=True)]


def bits(network: Network, latents: Latents) -> float:
    """Ideal length of the coded latents, in bits, escapes included."""
    found = zip(latents, distributions(network, latents), strict=True)
    return float(sum(laplace.lengths(values, *distribution).sum() for values, distribution in found))


def encode(network: Network, latents: Latents) -> Coded:
    """Code latents (pictures, rows, columns) of each level, the finest first; magnitudes up to 2^15 - 1."""
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    for values, (mu, scale) in zip(latents, distributions(network, latents), strict=True):
        order = _order(values.shape, network.decoder.slope)
        columns.append(tuple(part.reshape(-1)[order] for part in (values, mu, scale)))
    return laplace.encode(*(np.concatenate(parts) for parts in zip(*reversed(columns), strict=True)))


def decode(networks: Sequence[Network], coded: Sequence[Coded], pictures: int, height: int, width: int) -> Latents:
    """Decode the latents (payloads, pictures, rows, columns) of each level, the finest first.

    Parameters
    ----------
    networks
        One for each payload, or one for all; of one decoder.
    pictures, height, width
        How many pictures each payload has, and their size.

    Raises
    ------
    CorruptionError
        A payload does not hold exactly these latents.
    """
    number = pictures * sum(rows * columns for rows, columns in level_sizes(height, width))
    for one in coded:
        if number > MOST_PER_WORD * (len(one.stream) // 4 + 2):
            raise CorruptionError(
                f"payload has {len(one.stream)} bytes for {number} latents, which are too few for any values: it is damaged"
            )
    reader = laplace.Reader(coded)
    latents = walk(reader, networks, len(coded), pictures, height, width)
    reader.finish()
    return latents


def walk(reader: ValueReader, networks: Sequence[Network], payloads: int, pictures: int, height: int, width: int) -> Latents:
    """See `decode`, with values from any reader."""
    levels: Latents = []
    decoder = networks[0].decoder
    arm = Arm(networks, payloads, pictures * max(count for _, count in _steps(height, width, decoder.slope)))
    for rows, columns in reversed(level_sizes(height, width)):
        shape = payloads, pictures, rows, columns
        levels.insert(0, _walk_level(reader, arm, decoder, shape, levels[0] if levels else None))
    return levels


def _walk_level(
    reader: ValueReader, arm: Arm, decoder: Decoder, shape: tuple[int, int, int, int], above: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    """One level of this shape (payloads, pictures, rows, columns) below another."""
    payloads, pictures, rows, columns = shape
    padded = _padded(shape, above)
    area = padded[0, 0].size  # of a picture: its values, then its parents
    flat, values = padded.reshape(payloads, -1), padded.reshape(payloads, pictures, -1)
    line = columns + _LEFT + _RIGHT
    stride = line - decoder.slope
    steps = _steps(rows, columns, decoder.slope)
    most = max(count for _, count in steps)
    shifts = np.array([line * row + column for row, column in OFFSETS[: decoder.contexts]] + [area // 2])
    reach = shifts[:, None, None] + area * np.arange(pictures)[:, None] + stride * np.arange(most)
    for start, count in steps:
        number = pictures * count
        contexts = (reach[:, :, :count] + start).reshape(len(shifts), number)
        arm.inputs[:, :, :number] = flat.take(contexts, axis=1)
        found = reader.read(*arm.run(number))
        values[:, :, start : start + stride * count : stride] = found.reshape(payloads, pictures, count)
    level = padded[:, :, 0, _TOP:, _LEFT:-_RIGHT]
    if abs(level).max() > MAX_LATENT:
        raise CorruptionError(f"payload has latents beyond +-{MAX_LATENT}: it is damaged")
    return level.astype(np.int32)


def _distribution(
    arm: Arm, decoder: Decoder, values: npt.NDArray[np.int32], above: npt.NDArray[np.int32] | None
) -> Distribution:
    """The distribution of the values (pictures, rows, columns) of a level below another."""
    pictures, rows, columns = values.shape
    padded = _padded((1, *values.shape), above)[0]
    padded[:, 0, _TOP:, _LEFT:-_RIGHT] = values
    mu, scale = np.empty(values.shape, np.int64), np.empty(values.shape, np.int64)
    taps = [(0, row, column) for row, column in OFFSETS[: decoder.contexts]] + [(1, 0, 0)]
    some = max(1, _BLOCK // columns)
    for picture in range(pictures):
        for first in range(0, rows, some):
            part = np.s_[picture, first : first + some]
            number = mu[part].size
            for out, (plane, row, column) in zip(arm.inputs[0], taps, strict=True):
                top, left = _TOP + first + row, _LEFT + column
                seen = padded[picture, plane, top : top + number // columns, left : left + columns]
                out[:number].reshape(seen.shape)[...] = seen
            for all_found, found in zip((mu, scale), arm.run(number), strict=True):
                all_found[part] = found.reshape(-1, columns)
    return Distribution(mu, scale)


def _padded(shape: tuple[int, ...], above: npt.NDArray[np.int32] | None) -> npt.NDArray[np.float64]:
    """Room for the values of a level (payloads, pictures, rows, columns), beside the magnitudes of their parents.

    The shape is (payloads, pictures, 2, rows and a margin, columns and a margin); the margins are 0.
    """
    payloads, pictures, rows, columns = shape
    padded = np.zeros((payloads, pictures, 2, _TOP + rows, _LEFT + columns + _RIGHT))
    if above is not None:
        parents = abs(above).repeat(2, axis=-2).repeat(2, axis=-1)[..., :rows, :columns]
        padded[:, :, 1, _TOP:, _LEFT:-_RIGHT] = parents
    return padded


@lru_cache(maxsize=64)
def _steps(rows: int, columns: int, slope: int) -> list[tuple[int, int]]:
    """For each step, the index of its first value in the padded picture, and the number of its values."""
    line, steps = columns + _LEFT + _RIGHT, []
    for step in range(columns + slope * (rows - 1)):
        first = max(0, -((columns - 1 - step) // slope))
        last = min(rows - 1, step // slope)
        if first <= last:
            steps.append(((_TOP + first) * line + _LEFT + step - slope * first, last - first + 1))
    return steps


def _order(shape: tuple[int, ...], slope: int) -> npt.NDArray[np.intp]:
    """The indices of values (pictures, rows, columns) in the order of coding."""
    _, rows, columns = shape
    step = np.arange(columns) + slope * np.arange(rows)[:, None]
    return np.argsort(np.broadcast_to(step, shape), axis=None, kind="stable")
