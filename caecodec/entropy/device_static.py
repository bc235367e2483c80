"""Entropy model 0 on a device: the same bytes as `static`."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .device import DeviceTables, KernelCoder
from .streams import MAX_SYMBOL, CodedSymbols
from .tables import Tables


class StaticCoder(KernelCoder[Tables]):
    """Uses one table for each channel, and one launch for all channels."""

    contextual = False
    index_dtype = torch.int32
    limit = MAX_SYMBOL

    def place(self, tables: Tables, device: torch.device) -> DeviceTables:
        """See `DeviceCoder.place`."""
        starts = np.cumsum(tables.length) - tables.length
        split = np.split(tables.mass, starts[1:])
        arrays: dict[str, npt.ArrayLike] = {
            "cumulative": np.concatenate([np.cumsum(mass) - mass for mass in split]), "row": starts, "length": tables.length,
            "mode": [int(mass[:-1].argmax()) for mass in split], "low": tables.offset,
            "high": tables.offset + tables.length - 1, "weight": [], "threshold": [], "order": [],
        }  # fmt: skip
        return DeviceTables.of(arrays, (), device)

    def count(self, coded: CodedSymbols, channels: int) -> tuple[int, int]:
        """See `KernelCoder.count`: all channels are coded, so no number is stored."""
        return channels, 0

    def pack_count(self, count: int) -> bytes:
        """See `KernelCoder.pack_count`."""
        return b""

    def used(self, index: Tensor) -> Tensor:
        """See `KernelCoder.used`."""
        return torch.full((len(index),), index.shape[1], dtype=torch.int32, device=index.device)

    def launches(self, channels: int, bands: int) -> range:
        """See `KernelCoder.launches`."""
        return range(0, channels, channels)

    def arrange(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.arrange`."""
        return symbols

    def restore(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.restore`."""
        return symbols

    def entries(self, values: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.entries`."""
        return values - tables.low[:, None]

    def values(self, entries: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.values`."""
        return entries + tables.low[:, None]

    def scratch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `KernelCoder.scratch`."""
        features = torch.empty(1, 2, 1, dtype=torch.int8, device=index.device)
        return features, torch.empty(1, 1, dtype=torch.int32, device=index.device)

    def measure(self, index: Tensor, features: Tensor, sizes: tuple[int, int, int, int], bands: int, **options: int) -> None:
        """See `KernelCoder.measure`."""


CODER = StaticCoder()
