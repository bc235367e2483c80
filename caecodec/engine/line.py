"""The interface of a line, which encodes and decodes whole chunks on one device.

    chunk ── images ── analysis ──▶ symbols ── entropy model ──▶ coded symbols          and back

Each line is a file under engine/: `cpu` and `cuda`. To encode or decode a chunk, ask `Engine.line` for the line of the device;
a line passes what it cannot do on to another line.
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
    """A chunk to encode or decode: the network, the entropy model, and how to read the values of the chunk."""

    network: PlacedNetwork
    entropy: EntropyModel[Any]
    spec: ChunkSpec

    def symbols_shape(self, loaded: QualityWeights) -> Shape:
        """The shape (m, M, rows, columns) of the chunk's symbols; m is 0 if every plane has a single value."""
        rows, columns = tiling.latent_size(self.spec.height, self.spec.width, loaded.family.stride)
        return self.spec.images, loaded.network.latent_channels, rows, columns


class Line(ABC):
    """Encodes and decodes whole chunks on one device. All methods are thread-safe."""

    @property
    @abstractmethod
    def batches(self) -> bool:
        """Whether the line works on many chunks at once, so that callers should begin all chunks before they wait for one."""

    @abstractmethod
    def encode(self, task: ChunkTask, chunk: Array | Tensor) -> Pending[CodedSymbols]:
        """Begin to encode a chunk, which is in the CPU's memory, or on the device and complete in stream order."""

    @abstractmethod
    def decode(self, task: ChunkTask, coded: CodedSymbols, keep: bool = False) -> Pending[Array | Tensor]:
        """Begin to decode a C-contiguous chunk from its coded symbols.

        keep : return a complete tensor on the device, on which the caller records the streams that use it; otherwise return an
            array, which may be a view into an array of the whole batch

        Raises CorruptionError, at once or with the result, if the coded symbols are damaged.
        """
