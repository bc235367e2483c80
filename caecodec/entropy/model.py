"""The interface of an entropy model, which codes symbols as words and back with tables that are part of the weights.

    symbols (n, M, rows, columns) int32 ── encode ──▶ CodedSymbols: words of each stream, escapes ── decode ──▶ symbols

An entropy model is a file under entropy/ and a line in entropy/registry.py. This file imports no PyTorch. An implementation
for devices is optional: without one, the CPU codes the symbols even if the network runs on a GPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .streams import CodedSymbols, Symbols

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Tensors = dict[str, npt.NDArray[Any]]
Shape = tuple[int, int, int, int]


class Prepared(Protocol):
    """A payload's symbols on their way to a device."""

    @property
    def nbytes(self) -> int:
        """The number of bytes that the symbols take while they wait."""


class DeviceCoder(ABC, Generic[T]):
    """An entropy model on a device; it codes many payloads at once, all with symbols of one shape (n, M, rows, columns)."""

    @abstractmethod
    def place(self, tables: T, device: "torch.device") -> Any:
        """Copy the tables to the device."""

    @abstractmethod
    def prepare(self, coded: CodedSymbols, shape: Shape) -> Prepared:
        """Prepare a payload for `decode`; CorruptionError if its streams cannot hold symbols of this shape."""

    @abstractmethod
    def decode(self, batch: Sequence[Any], tables: Any, shape: Shape) -> "tuple[Tensor, Tensor]":
        """Decode N prepared payloads with tables from `place`, without waiting for the device.

        Returns the symbols (N n, M, rows, columns) int32, and flags (N,) bool that are true for damaged payloads. The symbols
        of those are meaningless; `EntropyModel.decode` raises the error that says what is wrong.
        """

    @abstractmethod
    def encode(self, symbols: "Tensor", tables: Any, count: int) -> list[CodedSymbols]:
        """Code symbols (N n, M, rows, columns) int32 as N payloads of n = `count` images, as `EntropyModel.encode` does."""


class EntropyModel(ABC, Generic[T]):
    """One entropy model; T is the type of its tables.

    name : what users call it; also in the names of its tensors in a weights file, ``q{quality}.{name}.{part}``
    wire_id : what payloads call it, 0 to 13, never reused
    preference : of the models that the weights have tables for, writers take the one with the highest value; None: writers
        take it only if a user names it
    remedy : the end of the error that the weights have no such tables: what the user can do
    """

    name: ClassVar[str]
    wire_id: ClassVar[int]
    preference: ClassVar[int | None] = None
    remedy: ClassVar[str] = "choose another entropy model"

    @abstractmethod
    def parse(self, tensors: Tensors, quality: int, channels: int) -> T | None:
        """Read the tables of one quality for M = `channels` from a weights file, which may be damaged or hostile.

        Returns None if the tables are optional and the file has none.

        Raises
        ------
        KeyError
            A tensor is missing.
        ValueError
            A tensor has the wrong dtype or shape.
        WeightsError
            The coder cannot use the values.
        """

    @abstractmethod
    def store(self, tables: T, quality: int) -> Tensors:
        """The tensors of a weights file that hold the tables of one quality."""

    @abstractmethod
    def fit(self, batches: Sequence[npt.NDArray[np.int16]]) -> T | None:
        """Fit tables to the symbols in these batches (n, M, rows, columns), each image a crop.

        Returns None if the model is not for such symbols.
        """

    @abstractmethod
    def encode(self, symbols: Symbols, tables: T) -> CodedSymbols:
        """Code symbols (n, M, rows, columns) int32, each within +-2^24."""

    @abstractmethod
    def decode(self, coded: CodedSymbols, tables: T, shape: Shape) -> Symbols:
        """Decode symbols (n, M, rows, columns) int32; CorruptionError unless the streams hold exactly these symbols."""

    def code_length(self, symbols: Symbols, tables: T) -> float:
        """The ideal length of the symbols in bits; by default the length of the words and escapes that `encode` makes."""
        coded = self.encode(symbols, tables)
        return 8.0 * (sum(map(len, coded.streams)) + len(coded.escapes))

    def on_device(self) -> DeviceCoder[T] | None:
        """The implementation for CUDA devices; None if there is none or it cannot run here."""
        return None
