"""Values of any range <-> [0, 1]: one map for each plane, stored in the payload (FORMAT.md, 4: Planes).

    level = ((value - low) / (high - low)) ^ (1 / power)

Powers above 1 spend the network's levels where most values lie: microscopes count photons, whose noise grows with the square
root of their number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError

LEVELS = 255
BRIGHT = 0.25  # a plane whose median lies above this part of its range looks like a photograph, and needs no power
FEW = 8  # with fewer levels between the 5th and 75th percentile, a power of 2 crushes the plane, and 4 is used
POWERS = (0, 1, 2, 4)
_SAMPLE = 4


@dataclass(frozen=True)
class Ranges:
    """Ranges of planes (n, channels): `power` (uint8, 0 for a plane of one value), `low` and `high` (of the chunk's dtype)."""

    power: npt.NDArray[np.uint8]
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]

    @classmethod
    def of(cls, images: npt.NDArray[Any]) -> "Ranges":
        """The ranges of images (n, height, width, channels), chosen from their values.

        Ranges of integers span at least 255, so that noise is not amplified.
        """
        low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
        constant = low == high
        if images.dtype.kind != "f":
            limits = np.iinfo(images.dtype)
            wide = np.clip(np.maximum(high.astype(np.int64), low.astype(np.int64) + LEVELS), None, limits.max)
            low = np.where(constant, low, np.minimum(low, wide - LEVELS)).astype(images.dtype)
            high = np.where(constant, low, wide).astype(images.dtype)
        linear = cls(np.where(constant, 0, 1).astype(np.uint8), low, high)
        sample = linear.forward(images[:, ::_SAMPLE, ::_SAMPLE])
        few, middle, many = np.percentile(sample, (5, 50, 75), axis=(1, 2))
        power = np.where(LEVELS * np.sqrt(many - few) < FEW, 4, 2)
        return cls(np.where(constant, 0, np.where(middle > BRIGHT, 1, power)).astype(np.uint8), low, high)

    @classmethod
    def whole(cls, images: npt.NDArray[np.uint8], constant: npt.NDArray[np.bool_]) -> "Ranges":
        """Ranges that keep uint8 values unchanged, except for the planes (n, channels) that are constant."""
        first = images[:, 0, 0]
        low, high = np.where(constant, first, 0).astype(np.uint8), np.where(constant, first, LEVELS).astype(np.uint8)
        return cls(np.where(constant, 0, 1).astype(np.uint8), low, high)

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which planes (n, channels) have a single value."""
        flat: npt.NDArray[np.bool_] = self.power == 0
        return flat

    def forward(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Values (n, height, width, channels) -> levels in [0, 1]; 0 in planes of one value."""
        low, high = (values.astype(np.float64)[:, None, None] / 2 for values in (self.low, self.high))
        width = np.where(high > low, high - low, 1)  # the width of the halves: that of the largest floats would overflow
        level = np.clip((images.astype(np.float64) / 2 - low) / width, 0, 1)
        for power in (2, 4):
            np.sqrt(level, out=level, where=np.broadcast_to((self.power >= power)[:, None, None], level.shape))
        return level.astype(np.float32)

    def inverse(self, levels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Levels (n, height, width, channels) -> unrounded values."""
        level = np.clip(levels.astype(np.float64), 0, 1)
        for power in (2, 4):
            np.square(level, out=level, where=np.broadcast_to((self.power >= power)[:, None, None], level.shape))
        low, high = (values.astype(np.float64)[:, None, None] for values in (self.low, self.high))
        values: npt.NDArray[np.float64] = low * (1 - level) + high * level
        return values

    def pack(self) -> bytes:
        """The bytes of FORMAT.md, 4: the power, low and high of each plane, the latter two little-endian."""
        records = np.empty(self.power.size, _record(self.low.dtype))
        records["power"], records["low"], records["high"] = (part.reshape(-1) for part in (self.power, self.low, self.high))
        return records.tobytes()

    @classmethod
    def parse(cls, data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any]) -> tuple["Ranges", int]:
        """The ranges of planes of shape (n, channels) at the start of data, and how many bytes they take.

        Raises CorruptionError if they are cut short or invalid.
        """
        record = _record(dtype)
        size = shape[0] * shape[1] * record.itemsize
        if size > len(data):
            raise CorruptionError(f"payload has {len(data)} bytes left but the ranges of its planes need {size}: it is damaged")
        records = np.frombuffer(data[:size], record).reshape(shape)
        ranges = cls(records["power"], records["low"].astype(dtype), records["high"].astype(dtype))
        sound = np.isin(ranges.power, POWERS) & np.isfinite(ranges.low) & np.isfinite(ranges.high)
        if not (sound & (ranges.constant == (ranges.low == ranges.high)) & (ranges.low <= ranges.high)).all():
            raise CorruptionError("payload has invalid ranges of planes: it is damaged; restore it from a copy")
        return ranges, size


def _record(dtype: np.dtype[Any]) -> np.dtype[Any]:
    little = dtype.newbyteorder("<")
    return np.dtype([("power", "u1"), ("low", little), ("high", little)])
