"""The interface of an entropy model: how symbols become words, and back, by tables that are part of the weights.

    symbols (n, M, rows, columns) int32 ── encode ──▶ CodedSymbols: words of each stream, escapes ── decode ──▶ symbols

An entropy model is a file under entropy/ and a line in entropy/registry.py. This file imports no PyTorch. A model that has no
implementation for devices is all that is asked for: then the CPU codes the symbols, also of networks that run on a GPU.
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
        """Bytes that it takes while it waits."""


class DeviceCoder(ABC, Generic[T]):
    """An entropy model on a device: many payloads at once, whose symbols have one shape (n, M, rows, columns)."""

    @abstractmethod
    def place(self, tables: T, device: "torch.device") -> Any:
        """The tables in the device's memory."""

    @abstractmethod
    def prepare(self, coded: CodedSymbols, shape: Shape) -> Prepared:
        """What `decode` takes of a payload; CorruptionError where the streams cannot be those of symbols of this shape."""

    @abstractmethod
    def decode(self, batch: Sequence[Any], tables: Any, shape: Shape) -> "tuple[Tensor, Tensor]":
        """The symbols (N n, M, rows, columns) int32 of N prepared payloads, by placed tables.

        And flags (N,) bool, true where a payload is damaged and its symbols mean nothing: `EntropyModel.decode` then says
        how. It never waits for the device.
        """

    @abstractmethod
    def encode(self, symbols: "Tensor", tables: Any, count: int) -> list[CodedSymbols]:
        """Symbols (N n, M, rows, columns) int32 as N payloads of n = `count` images: the bytes of `EntropyModel.encode`."""


class EntropyModel(ABC, Generic[T]):
    """One entropy model; T are its tables.

    name : as users name it, and the second part of its tensors' names in a weights file: ``q{quality}.{name}.{part}``
    wire_id : what payloads call it, 0 to 13, never reused
    preference : of the models that weights have tables for, writers take the one that prefers itself most; None: only where a
        user names it
    remedy : for the error that weights have no such tables: what to do about it
    """

    name: ClassVar[str]
    wire_id: ClassVar[int]
    preference: ClassVar[int | None] = None
    remedy: ClassVar[str] = "choose another entropy model"

    @abstractmethod
    def parse(self, tensors: Tensors, quality: int, channels: int) -> T | None:
        """The tables of one quality for M = `channels`, from a weights file, which may be damaged or hostile.

        None where the file has none, if it need not have them.

        Raises
        ------
        KeyError
            A tensor is missing.
        ValueError
            A tensor has another dtype or shape than it must have.
        WeightsError
            The coder cannot use the values.
        """

    @abstractmethod
    def store(self, tables: T, quality: int) -> Tensors:
        """The tensors of a weights file that hold the tables of one quality."""

    @abstractmethod
    def fit(self, batches: Sequence[npt.NDArray[np.int16]]) -> T:
        """Tables for symbols such as those of these batches (n, M, rows, columns), of crops of images."""

    @abstractmethod
    def encode(self, symbols: Symbols, tables: T) -> CodedSymbols:
        """Code symbols (n, M, rows, columns) int32, each within +-2^24."""

    @abstractmethod
    def decode(self, coded: CodedSymbols, tables: T, shape: Shape) -> Symbols:
        """The symbols (n, M, rows, columns) int32 of this shape; CorruptionError when the streams do not hold just them."""

    def code_length(self, symbols: Symbols, tables: T) -> float:
        """The ideal length of the coded symbols in bits; by default that of the words and escapes they are coded as."""
        coded = self.encode(symbols, tables)
        return 8.0 * (sum(map(len, coded.streams)) + len(coded.escapes))

    def on_device(self) -> DeviceCoder[T] | None:
        """Its implementation for CUDA devices; None if it has none, or if that cannot run here."""
        return None
