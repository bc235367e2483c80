"""Entropy model 1 on a device: the same bytes as `context`."""

import numpy as np
import torch
from torch import Tensor

from ..bitstream import varint
from .context_tables import ContextTables, coded_channels
from .device import DeviceTables, KernelCoder, load_kernels
from .streams import MAX_SYMBOL, CodedSymbols


class ContextCoder(KernelCoder[ContextTables]):
    """Chooses a table for each position from the magnitudes of earlier channels."""

    contextual = True
    index_dtype = torch.uint8
    limit = 2 * MAX_SYMBOL

    def place(self, tables: ContextTables, device: torch.device) -> DeviceTables:
        """See `DeviceCoder.place`."""
        mass = np.concatenate([tables.mass[:, :1], np.repeat(tables.mass[:, 1:-1], 2, axis=1), tables.mass[:, -1:]], axis=1)
        arrays = {
            "cumulative": np.cumsum(mass, axis=1) - mass, "row": tables.table * mass.shape[1], "length": 2 * tables.radius + 2,
            "mode": np.zeros(len(tables.order)), "low": -tables.radius, "high": tables.radius + 1,
            "weight": tables.predictor, "threshold": tables.threshold, "order": tables.order,
        }  # fmt: skip
        differences = ((int(channel), int(tables.difference[channel])) for channel in np.flatnonzero(tables.difference))
        return DeviceTables.of(arrays, tuple(differences), device)

    def count(self, coded: CodedSymbols, channels: int) -> tuple[int, int]:
        """See `KernelCoder.count`."""
        return coded_channels(coded, channels)

    def pack_count(self, count: int) -> bytes:
        """See `KernelCoder.pack_count`."""
        return varint.pack(count)

    def used(self, index: Tensor) -> Tensor:
        """See `KernelCoder.used`: channels count up to the last one that is not all zero."""
        number = torch.arange(1, index.shape[1] + 1, dtype=torch.int32, device=index.device)
        return (number * (index != 0).any(2)).amax(1).int()

    def launches(self, channels: int, bands: int) -> range:
        """See `KernelCoder.launches`.

        The neighbours of a position may belong to another stream, which must be complete before the next channel begins.
        """
        return range(channels) if bands > 1 else range(0, channels, channels)

    def arrange(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.arrange`."""
        return symbols[:, tables.order]

    def restore(self, symbols: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.restore`."""
        return symbols[:, tables.place]

    def entries(self, values: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.entries`."""
        return 2 * values.abs() - (values > 0).int()

    def values(self, entries: Tensor, tables: DeviceTables) -> Tensor:
        """See `KernelCoder.values`."""
        half = (entries + 1) // 2
        return torch.where(entries % 2 == 1, half, -half)

    def beyond(self, values: Tensor) -> Tensor:
        """See `KernelCoder.beyond`: differences reach twice as far as symbols."""
        return (values.abs() > MAX_SYMBOL).flatten(1).any(1)

    def scratch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `KernelCoder.scratch`."""
        size, channels, positions = index.shape
        features = torch.empty(size, 2 * channels, positions, dtype=torch.int8, device=index.device)
        return features, torch.empty(size, positions, dtype=torch.int32, device=index.device)

    def measure(self, index: Tensor, features: Tensor, sizes: tuple[int, int, int, int], bands: int, **options: int) -> None:
        """See `KernelCoder.measure`."""
        load_kernels().measure[len(index) * bands, sizes[0]](index, features, *sizes, bands, **options)


CODER = ContextCoder()
