"""What entropy model 2 stores for the 2 A bit channels of A coded channels: taps, weights, masses (FORMAT.md, 24).

All values are integers and part of the weights, so bits decode identically on every machine.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from .streams import Integers
from .tables import TOTAL

REACH = 2  # rows and columns between a bit and its farthest tap
SIDE = 2 * REACH + 1
ROW_STEP, CHANNEL_STEP = 2, 4  # how many steps later than a bit the one below it, and that of the next channel, are decoded
CLASS_WIDTH = 7  # logarithm: sums per class
STREAM_BITS = 2**18  # so that a payload which claims many bits is not short
MAX_TAPS = 64  # so that sums fit 32 bits
Bits = npt.NDArray[np.int8]


def tap_steps(place: Integers) -> Integers:
    """How many steps later than a bit another bit of its channel, at this place around it, is decoded."""
    steps: Integers = ROW_STEP * (place // SIDE - REACH) + place % SIDE - REACH
    return steps


def unpack_pairs(symbols: Bits) -> Bits:
    """Symbols (n, A, rows, columns), each -2, -1, 1 or 2 -> bits (n, 2 A, rows, columns), each -1 or 1."""
    n, channels, height, columns = symbols.shape
    first = np.sign(symbols)
    bits: Bits = np.stack((first, 2 * symbols - 3 * first), axis=2).reshape(n, 2 * channels, height, columns)
    return bits


def pack_pairs(bits: Bits) -> Bits:
    """Invert `unpack_pairs`."""
    symbols: Bits = (3 * bits[:, 0::2] + bits[:, 1::2]) // 2
    return symbols


def streams_of(shape: tuple[int, ...]) -> int:
    """The number of streams of bits of this shape."""
    return max(1, math.prod(shape) // STREAM_BITS)


def with_margin(bits: Bits) -> Bits:
    """Bits (n, C, rows, columns) within a margin of zeros, which stand for what is not known."""
    return np.pad(bits, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH)))


def without_margin(planes: Bits) -> Bits:
    """Invert `with_margin`."""
    return planes[:, :, REACH:-REACH, REACH:-REACH]


def classes(sums: Integers, number: int) -> Integers:
    """The class of each sum (P,), 0 to number - 1."""
    found: Integers = np.clip((sums >> CLASS_WIDTH) + number // 2, 0, number - 1)
    return found


@dataclass(frozen=True, eq=False)
class BinaryContextTables:
    """Tables of M channels, A of which are coded as C = 2 A bit channels, with J taps and K classes for each.

    coded : (M,) int64, 1 for the channels whose symbols are pairs of bits, 0 for those whose symbols are all 0
    channel : (C, J) int64, the bit channel of each tap
    place : (C, J) int64, 5 (row + 2) + column + 2 of each tap, relative to the bit
    weight : (C, J) int64, the weight of each tap, -2^15 to 2^15 - 1
    bias : (C,) int64, what sums begin with, within +-2^24
    mass : (C, K) int64, the mass of a bit of 1 in each class, 1 to 2^24 - 1
    """

    coded: Integers
    channel: Integers
    place: Integers
    weight: Integers
    bias: Integers
    mass: Integers

    def __post_init__(self) -> None:
        """Raise WeightsError unless the coder can use the tables."""
        good = (
            self.coded.ndim == 1
            and self.channel.ndim == self.mass.ndim == 2
            and self.channel.shape == self.place.shape == self.weight.shape
            and self.channel.shape[1] <= MAX_TAPS
            and self.bias.shape == (len(self.channel),)
            and len(self.mass) == len(self.channel) > 0
            and self.mass.shape[1] > 0
        )
        if not good:
            raise WeightsError("binary-context tables have inconsistent shapes: the weights are damaged")
        number = np.arange(len(self.channel))[:, None]
        checks = {
            "coded": ((self.coded == 0) | (self.coded == 1)).all() and 2 * self.coded.sum() == len(self.channel),
            "channel": ((self.channel >= 0) & (self.channel <= number)).all(),
            "place": ((self.place >= 0) & (self.place < SIDE**2)).all()
            and (tap_steps(self.place) < CHANNEL_STEP * (number - self.channel)).all(),
            "bias": (np.abs(self.bias) < TOTAL).all(),
            "mass": ((self.mass >= 1) & (self.mass < TOTAL)).all(),
        }
        wrong = [name for name, fine in checks.items() if not fine]
        if wrong:
            raise WeightsError(
                f"binary-context tables hold values of {', '.join(wrong)} that no encoder can use: the weights are damaged"
            )

    @cached_property
    def taps(self) -> npt.NDArray[np.int32]:
        """Weights (C, J), as the coder multiplies them."""
        return self.weight.astype(np.int32)

    @cached_property
    def rows(self) -> npt.NDArray[np.float32]:
        """Tables (C, K, 2) of the bits -1 and 1, as constriction's Categorical takes them: mass - 1."""
        return np.stack([TOTAL - self.mass, self.mass], axis=2).astype(np.float32) - 1

    def offsets(self, rows: int, columns: int) -> Integers:
        """How many elements lie between a bit and each of its taps (C, J), in planes of this size within a margin."""
        width = columns + 2 * REACH
        before = self.channel - np.arange(len(self.channel))[:, None]
        offsets: Integers = before * (rows + 2 * REACH) * width
        return offsets + (self.place // SIDE - REACH) * width + self.place % SIDE - REACH
