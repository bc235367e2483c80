"""A network as it is stored: integers and steps <-> the bytes of a network section (FORMAT.md, 14: Networks)."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bitstream.overfitted import pack_coded, parse_coded
from ...errors import CorruptionError
from . import laplace
from .architecture import DECODERS, GROUPS, Decoder
from .laplace import SCALES, Coded

MAX_STEP = 12  # steps are 2^-0 to 2^-12
LARGEST = 16  # the limit of the magnitude of a stored parameter
UPSAMPLING = np.array([-36, -108, 268, 900], np.float32) / np.float32(1024)  # stored values of `up` are differences from these
MIDDLE = np.float32(0.5)  # stored values of `syn_b2` are differences from this
_OFFSETS: dict[str, Any] = {"up": UPSAMPLING, "syn_b2": MIDDLE}


@dataclass(frozen=True, eq=False)
class Network:
    """A quantised network.

    decoder, channels : its size, and the channels of its pictures (3 or 1)
    steps : k of each of the six groups of parameters, whose step is 2^-k
    integers : int32 arrays by name, of `decoder.shapes(channels)`; an integer n stands for n 2^-k
    """

    decoder: Decoder
    channels: int
    steps: tuple[int, ...]
    integers: dict[str, npt.NDArray[np.int32]]

    @classmethod
    def quantise(
        cls, decoder: Decoder, channels: int, floats: Mapping[str, npt.NDArray[Any]], steps: tuple[int, ...]
    ) -> "Network":
        """The network nearest to the parameters in `floats`; those that are too large are clipped."""
        integers = {}
        for names, step in zip(GROUPS, steps, strict=True):
            for name in names:
                stored = np.clip(np.asarray(floats[name], np.float64) - _OFFSETS.get(name, 0), -LARGEST, LARGEST)
                integers[name] = np.rint(stored * 2**step).astype(np.int32)
        return cls(decoder, channels, steps, integers)

    def floats(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters as exact numbers, with what is subtracted from `up` and `syn_b2` added back."""
        found = {}
        for names, step in zip(GROUPS, self.steps, strict=True):
            for name in names:
                found[name] = self.integers[name].astype(np.float32) * np.float32(2.0**-step) + _OFFSETS.get(
                    name, np.float32(0)
                )
        return found

    def section(self) -> bytes:
        """The bytes of the network section."""
        groups = [np.concatenate([self.integers[name].reshape(-1) for name in names]) for names in GROUPS]
        scales = [_best_scale(values) for values in groups]
        values = np.concatenate(groups)
        coded = laplace.encode(values, np.zeros(len(values), np.int64), np.repeat(scales, list(map(len, groups))))
        fixed = bytes(byte for pair in zip(self.steps, scales, strict=True) for byte in pair)
        return fixed + pack_coded(*coded)

    @classmethod
    def parse(cls, section: bytes, decoder: Decoder, channels: int) -> "Network":
        """The network in a section; CorruptionError if there is none, or one of another size."""
        fixed = 2 * len(GROUPS)
        steps, scales = tuple(section[:fixed:2]), tuple(section[1:fixed:2])
        if len(section) < fixed or max(steps) > MAX_STEP or max(scales) >= SCALES:
            raise CorruptionError(
                f"network has steps {steps} and scales {scales} but must have {len(GROUPS)} of at most {MAX_STEP} and "
                f"{SCALES - 1}: it is damaged"
            )
        reader = laplace.Reader([Coded(*parse_coded(section, fixed))])
        integers, shapes = {}, decoder.shapes(channels)
        for names, step, scale in zip(GROUPS, steps, scales, strict=True):
            sizes = [int(np.prod(shapes[name])) for name in names]
            index = np.full((1, sum(sizes)), scale)
            values = reader.read(np.zeros_like(index), index)[0]
            if abs(values).max() > LARGEST << step:
                raise CorruptionError(f"network has parameters beyond +-{LARGEST}: it is damaged")
            parts = np.split(values.astype(np.int32), np.cumsum(sizes)[:-1])
            integers.update({name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)})
        reader.finish()
        return cls(decoder, channels, steps, integers)


def digest(section: bytes) -> bytes:
    """The first 4 bytes of the SHA-256 of a section, by which payloads name a shared network."""
    return hashlib.sha256(section).digest()[:4]


@lru_cache(maxsize=16)
def identify(section: bytes) -> Network:
    """The network in a section of any decoder and number of channels: the smallest one that the section holds whole.

    Raises CorruptionError if it holds none.
    """
    sizes = [(decoder, channels) for decoder in DECODERS.values() for channels in (1, 3)]
    for decoder, channels in sorted(sizes, key=lambda size: size[0].parameters(size[1])):
        with contextlib.suppress(CorruptionError):
            return Network.parse(section, decoder, channels)
    raise CorruptionError(f"{len(section)} bytes hold no network of any decoder: they are damaged, or not a network section")


def _best_scale(values: npt.NDArray[np.int32]) -> int:
    """The scale that codes values in the fewest bits."""
    scales = np.arange(SCALES)
    bits = [laplace.lengths(values, np.zeros(len(values), np.int64), np.full(len(values), scale)).sum() for scale in scales]
    return int(np.argmin(bits))
