"""The interface of a line: what does the work for whole chunks on one device.

    chunk ── images ── analysis ──▶ symbols ── entropy model ──▶ coded symbols          and back

A line is a file under engine/: `cpu` and `cuda`. Whoever encodes or decodes a chunk asks `Engine.line` for that of the device,
and need not know more; a line that cannot do something has another one do it.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from ..chunks import tiling
from ..chunks.pending import Pending
from ..chunks.spec import ChunkSpec
from ..entropy.model import EntropyModel, Shape
from ..entropy.streams import CodedSymbols
from ..weights.file import QualityWeights
from .jobs import Array
from .place import PlacedNetwork


class ChunkTask(NamedTuple):
    """What is to be done with a chunk, in either direction: by which network, in which entropy coding, and what it means."""

    network: PlacedNetwork
    entropy: EntropyModel[Any]
    spec: ChunkSpec

    def symbols_shape(self, loaded: QualityWeights) -> Shape:
        """The shape (m, M, rows, columns) of the chunk's symbols; m is 0 where all planes have one value."""
        rows, columns = tiling.latent_size(self.spec.height, self.spec.width, loaded.family.stride)
        return self.spec.images, loaded.network.latent_channels, rows, columns


class Line(ABC):
    """What one device does with whole chunks; safe to call from any thread."""

    @property
    @abstractmethod
    def batches(self) -> bool:
        """Whether it works on many chunks at once, so that whoever has many should begin all before waiting for one."""

    @abstractmethod
    def encode(self, task: ChunkTask, chunk: Array | Tensor) -> Pending[CodedSymbols]:
        """The coded symbols of a chunk, in the memory of the CPU, or of the device and complete in stream order."""

    @abstractmethod
    def decode(self, task: ChunkTask, coded: CodedSymbols, keep: bool = False) -> Pending[Array | Tensor]:
        """The C-contiguous chunk whose symbols are coded.

        keep : as a tensor on the device, complete there; record the streams that use it. Otherwise it is an array, perhaps
            part of one that holds the other chunks of its batch

        CorruptionError, at once or with the result, where the coded symbols are damaged.
        """
