"""The interface of a family: one network architecture, from the tensors of a weights file to images and back.

    tensors ── check, fold one quality ──▶ FoldedNetwork ── build ──▶ InferenceNetwork
    images ── InferenceNetwork.analysis ──▶ symbols ── InferenceNetwork.synthesis ──▶ images

A family is a folder under models/ and a line in models/registry.py. This file imports no PyTorch, and neither does the
module that defines a family: its methods import what they need, so that array metadata open without PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tensors = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]


class FoldedNetwork(NamedTuple):
    """One quality of a network as plain arrays, its scales and shifts folded into the layers.

    tensors : what `Family.build` takes, finite float32
    offset, scale : (M,) float32; the dequantised latents are (symbols + offset) * scale (FORMAT.md, 9)
    """

    tensors: dict[str, Floats]
    offset: Floats
    scale: Floats

    @property
    def latent_channels(self) -> int:
        """Channels of the latents, M."""
        return len(self.offset)

    def latents(self, symbols: npt.NDArray[np.int32]) -> Floats:
        """The dequantised latents, float32, of symbols (n, M, h, w)."""
        latents: Floats = (symbols.astype(np.float32) + self.offset[:, None, None]) * self.scale[:, None, None]
        return latents


class InferenceNetwork(Protocol):
    """A network that runs, as `Family.build` makes it; s is the family's stride and M the number of latent channels."""

    def analysis(self, images: "Tensor") -> "Tensor":
        """Images (n, 3, s h, s w) float32 in [0, 1] -> symbols (n, M, h, w) int32, within +-2^23.

        Quantisation is a part of this: the symbols are what the entropy models code.
        """

    def synthesis(self, symbols: "Tensor") -> "Tensor":
        """Symbols (n, M, h, w) int32 -> images (n, 3, s h, s w) float32, about [0, 1], not clipped."""

    def to(self, device: str) -> Self:
        """The network in the memory of a device."""


class IntegerSynthesis(Protocol):
    """A synthesis in integers that gives the same values on every machine, device and batch size."""

    def run(self, symbols: npt.NDArray[np.int32], levels: int, memory: int) -> npt.NDArray[np.int32]:
        """Symbols (n, M, h, w) -> planes (n, 3, s h, s w) int32 in 0 ... levels, within about `memory` bytes."""


class TrainableNetwork(Protocol):
    """A network in training: a torch.nn.Module that serves several qualities.

    Methods take the index of each sample's quality, `quality` (n,) int64.
    """

    def analysis(self, x: "Tensor", quality: "Tensor") -> "Tensor":
        """Images (n, 3, s h, s w) in [0, 1] -> latents (n, M, h, w) float32, in units of the quantisation step."""

    def synthesis(self, y: "Tensor", quality: "Tensor") -> "Tensor":
        """Latents (n, M, h, w) float32 -> images (n, 3, s h, s w) float32."""

    def bits(self, y: "Tensor", quality: "Tensor") -> "Tensor":
        """The estimated bits of each value of latents (n, M, h, w), noisy or rounded, in any order of the channels."""

    def learning_groups(self) -> list[tuple[float, list["torch.nn.Parameter"]]]:
        """All parameters, in groups, and how fast each group learns relative to the recipe's learning rate."""

    def use_compiled(self, compiled: bool) -> None:
        """Run point-wise parts through torch.compile, or no longer; a network that has no such parts ignores this."""


class Trainer(ABC):
    """How a family is trained; what `Family.trainer` returns."""

    @abstractmethod
    def check_qualities(self, qualities: Sequence[int]) -> None:
        """ParameterError unless one network can serve these qualities, each from 1 to 8."""

    @abstractmethod
    def network(self, qualities: tuple[int, ...], metric: str, dtype: "torch.dtype") -> Any:
        """A `TrainableNetwork` for these qualities and this metric, "mse" or "ms-ssim", that computes in `dtype` if it can."""

    @abstractmethod
    def start_from_images(self, network: Any, images: "Tensor", lmbdas: list[float]) -> None:
        """Set the parameters from images (n, 3, size, size) in [0, 1]; `lmbdas` are the qualities' trade-offs."""

    @abstractmethod
    def start_from_weights(self, network: Any, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """Set the parameters from the tensors of a weights file of this family; `lmbdas` holds all qualities' trade-offs."""

    def start_rate(self, network: Any, images: "Tensor") -> None:  # noqa: B027  # optional: the rate may start as it is
        """Fit what estimates the rate to images (n, 3, size, size), on the network's device; called after the start."""

    @abstractmethod
    def recognises(self, state: Mapping[str, "Tensor"]) -> bool:
        """Whether this is the state dict of such a network."""

    @abstractmethod
    def qualities(self, state: Mapping[str, "Tensor"]) -> tuple[int, ...]:
        """The qualities of a state dict."""

    def metric(self, state: Mapping[str, "Tensor"]) -> str | None:
        """The metric of a state dict; None if it names none."""
        return None

    @abstractmethod
    def tensors(self, state: Mapping[str, "Tensor"]) -> Tensors:
        """What a weights file stores of a state dict; the entropy models' tables are added later."""


class Family(ABC):
    """One network architecture.

    name : as the literature names it
    stored_name : what weights files, and headers parsed from payloads, call it; the same as `name` for new families
    wire_id : what payloads call it, 0 to 255, never reused
    stride : pixels a side of an image for each latent position, s
    halo : how many latent positions beyond its edge a tile needs, so that its middle is what the whole image gives; that is
        for the analysis as well as for the synthesis
    exact : whether there is an exact integer synthesis, which max_error with quality needs
    """

    name: ClassVar[str]
    stored_name: ClassVar[str]
    wire_id: ClassVar[int]
    stride: ClassVar[int]
    halo: ClassVar[int]
    exact: ClassVar[bool] = False

    @abstractmethod
    def check(self, tensors: Tensors, quality: int) -> None:
        """Prove the tensors of a weights file, which may be damaged or hostile.

        Names that begin with ``q{quality}.`` belong to one quality; entropy models check their own tables.

        Raises
        ------
        KeyError
            A tensor is missing.
        ValueError
            A tensor has another shape or dtype than it must have.
        """

    @abstractmethod
    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """The plain network of one quality, from tensors that `check` has passed.

        Raises ValueError for values with which the network cannot run, such as a divisor of zero; the caller checks that all
        are finite.
        """

    @abstractmethod
    def build(self, tensors: Mapping[str, Floats]) -> InferenceNetwork:
        """The network with `FoldedNetwork.tensors`, for inference in float32 on the CPU."""

    @abstractmethod
    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """Bytes of memory that a pass takes for each pixel of an image, at most.

        device : of PyTorch
        exact : of the exact synthesis
        """

    def reduce_precision(self, network: Any, precision: str, quality: int, device: str) -> None:  # noqa: B027  # optional
        """Have a network run as `caecodec.settings` says: "fp32", "bf16" or "auto"; by default all of it stays float32."""

    def build_exact(self, tensors: Mapping[str, Floats], device: str) -> IntegerSynthesis:
        """The exact synthesis with `FoldedNetwork.tensors`, on a device.

        Raises
        ------
        ParameterError
            The family has none.
        WeightsError
            The values do not fit its integers.
        """
        raise ParameterError(
            f"max_error is given with quality but family {self.name!r} has no exact synthesis to correct; "
            "leave quality out, so that no network is used, or choose weights of another family"
        )

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """How many channels a network has, by what they are, for people to read."""
        return {"latent": network.latent_channels}

    def trainer(self) -> Trainer:
        """How it is trained; ParameterError where it cannot be."""
        raise ParameterError(f"family is {self.name!r} but caecodec cannot train networks of it; choose another family")
