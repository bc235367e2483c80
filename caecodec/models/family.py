"""The interface of a family: one network architecture, from the tensors of a weights file to images and back.

    tensors ── check, fold one quality ──▶ FoldedNetwork ── build ──▶ InferenceNetwork
    images ── InferenceNetwork.analysis ──▶ symbols ── InferenceNetwork.synthesis ──▶ images

A family is a folder under models/ and a line in models/registry.py. Neither this file nor the module that defines a family
imports PyTorch: methods import what they need, so that array metadata can be opened without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from ..bitstream.autoencoder import METRICS
from ..errors import ParameterError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tensors = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]


class FoldedNetwork(NamedTuple):
    """One quality of a network as plain arrays, with its scales and shifts folded into the layers.

    tensors : finite float32 tensors for `Family.build`
    offset, scale : (M,) float32; dequantised latents are (symbols + offset) * scale (FORMAT.md, 9)
    """

    tensors: dict[str, Floats]
    offset: Floats
    scale: Floats

    @property
    def latent_channels(self) -> int:
        """The number of latent channels, M."""
        return len(self.offset)

    def latents(self, symbols: npt.NDArray[np.int32]) -> Floats:
        """Symbols (n, M, h, w) -> dequantised latents (n, M, h, w), float32."""
        latents: Floats = (symbols.astype(np.float32) + self.offset[:, None, None]) * self.scale[:, None, None]
        return latents


class InferenceNetwork(Protocol):
    """A network that runs, made by `Family.build`; s is the family's stride and M the number of latent channels."""

    def analysis(self, images: "Tensor") -> "Tensor":
        """Images (n, 3, s h, s w) float32 in [0, 1] -> symbols (n, M, h, w) int32, within +-2^23.

        This includes quantisation: entropy models code the symbols as they are.
        """

    def synthesis(self, symbols: "Tensor") -> "Tensor":
        """Symbols (n, M, h, w) int32 -> images (n, 3, s h, s w) float32 in about [0, 1], not clipped."""

    def to(self, device: str) -> Self:
        """Move the network to a device."""


class IntegerSynthesis(Protocol):
    """A synthesis in integers that gives the same values for every machine, device and batch size."""

    def run(self, symbols: npt.NDArray[np.int32], levels: int, memory: int) -> npt.NDArray[np.int32]:
        """Symbols (n, M, h, w) -> planes (n, 3, s h, s w) int32 in 0 ... levels, within about `memory` bytes."""


class TrainableNetwork(Protocol):
    """A network in training: a torch.nn.Module that serves several qualities.

    Methods take `quality` (n,) int64, the index of each sample's quality.
    """

    def analysis(self, x: "Tensor", quality: "Tensor") -> "Tensor":
        """Images (n, 3, s h, s w) in [0, 1] -> latents (n, M, h, w) float32, in units of the quantisation step."""

    def synthesis(self, y: "Tensor", quality: "Tensor") -> "Tensor":
        """Latents (n, M, h, w) float32 -> images (n, 3, s h, s w) float32."""

    def bits(self, y: "Tensor", quality: "Tensor") -> "Tensor":
        """The estimated bits of each value of noisy or rounded latents (n, M, h, w), in any order of the channels."""

    def learning_groups(self) -> list[tuple[float, list["torch.nn.Parameter"]]]:
        """All parameters in groups, each with its learning rate relative to the recipe's."""

    def use_compiled(self, compiled: bool) -> None:
        """Set whether point-wise parts run through torch.compile; a network without such parts ignores this."""


class Trainer(ABC):
    """How a family is trained; `Family.trainer` returns it.

    pixel_bytes : the most bytes of GPU memory that a step takes for each pixel of its crops
    lr : the learning rate of the transforms, if none is given
    """

    pixel_bytes: int = 4096
    lr: float = 3e-4

    def check_qualities(self, qualities: Sequence[int]) -> None:  # noqa: B027  # not abstract: most families take any
        """Raise ParameterError unless one network can serve these qualities, each from 1 to 8."""

    @abstractmethod
    def network(self, qualities: tuple[int, ...], metric: str, dtype: "torch.dtype") -> Any:
        """Make a `TrainableNetwork` for these qualities and a metric, "mse" or "ms-ssim"; it computes in `dtype` if it can.

        Its state dict has `qualities`, int64 (qualities,), and may have `metric`, the wire id.
        """

    def start_from_images(self, network: Any, images: "Tensor", lmbdas: list[float]) -> None:
        """Initialise the parameters from images (n, 3, size, size) in [0, 1]; `lmbdas` has the trade-off of each quality.

        Raises ParameterError if the family has no such start.
        """
        raise ParameterError(
            "init is 'klt' but networks of this family have no start from principal components; pass 'random' (--init random), "
            "or weights of the family"
        )

    def start_from_weights(self, network: Any, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """Initialise the parameters from a weights file of this family; `lmbdas` has the trade-offs of all qualities.

        Raises ParameterError if the family has no such start.
        """
        raise ParameterError(
            "init names weights but networks of this family have no start from weights; pass 'klt' or 'random'"
        )

    def start_rate(self, network: Any, images: "Tensor") -> None:  # noqa: B027  # not abstract: others start well as they are
        """Fit the rate estimate to images (n, 3, size, size) on the network's device; called after initialisation."""

    @abstractmethod
    def recognises(self, state: Mapping[str, "Tensor"]) -> bool:
        """Whether a state dict is of a `TrainableNetwork` of this family."""

    def qualities(self, state: Mapping[str, "Tensor"]) -> tuple[int, ...]:
        """The qualities of a state dict."""
        return tuple(state["qualities"].tolist())

    def metric(self, state: Mapping[str, "Tensor"]) -> str | None:
        """The metric of a state dict; None if it names none."""
        return METRICS[int(state["metric"])] if "metric" in state else None

    @abstractmethod
    def tensors(self, state: Mapping[str, "Tensor"]) -> Tensors:
        """The tensors that a weights file stores of a state dict; the tables of entropy models are added later."""


class Family(ABC):
    """One network architecture.

    name : the name in the literature
    stored_name : the name in weights files and in headers parsed from payloads; the same as `name` for new families
    wire_id : the number in payloads, 0 to 255, never reused
    stride : pixels per latent position along a side, s
    exact : whether the family has an exact integer synthesis, which max_error with quality needs
    scalable : whether its symbols are quantised values, of which layers can be made
    """

    name: ClassVar[str]
    stored_name: ClassVar[str]
    wire_id: ClassVar[int]
    stride: ClassVar[int]
    exact: ClassVar[bool] = False
    scalable: ClassVar[bool] = True

    @abstractmethod
    def check(self, tensors: Tensors, quality: int) -> None:
        """Check the tensors of a weights file, which may be damaged or hostile.

        Names that start with ``q{quality}.`` belong to one quality; entropy models check their own tables.

        Raises
        ------
        KeyError
            A tensor is missing.
        ValueError
            A tensor has the wrong shape or dtype.
        """

    @abstractmethod
    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """Fold tensors that have passed `check` into the plain network of one quality.

        Raises ValueError for values that the network cannot run with, such as a divisor of zero; the caller checks that all are
        finite.
        """

    @abstractmethod
    def halo(self, tensors: Mapping[str, Floats]) -> int:
        """The latent positions that a tile needs around it, in the analysis and in the synthesis.

        With them its result equals that of the whole image. `tensors` are those of `FoldedNetwork`.
        """

    @abstractmethod
    def build(self, tensors: Mapping[str, Floats]) -> InferenceNetwork:
        """Build the network from `FoldedNetwork.tensors`, for inference in float32 on the CPU."""

    @abstractmethod
    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """The most bytes of memory that a pass takes per pixel of an image.

        device : a name of PyTorch's
        exact : whether the pass is of the exact synthesis
        """

    # Not abstract, which B027 asks for: a family without a lower precision stays in float32.
    def reduce_precision(self, network: Any, precision: str, quality: int, device: str) -> None:  # noqa: B027
        """Set the precision of a network, "fp32", "bf16" or "auto" as in `caecodec.settings`; by default it stays float32."""

    def build_exact(self, tensors: Mapping[str, Floats], device: str) -> IntegerSynthesis:
        """Build the exact synthesis from `FoldedNetwork.tensors`, on a device.

        Raises
        ------
        ParameterError
            The family has no exact synthesis.
        WeightsError
            The values are too large for its integers.
        """
        raise ParameterError(
            f"max_error with quality needs an exact synthesis but family {self.name!r} has none; "
            "leave quality out, so that no network is used, or choose weights of another family"
        )

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """The channel counts of a network by name, for display."""
        return {"latent": network.latent_channels}

    def trainer(self) -> Trainer:
        """How the family is trained; ParameterError if it cannot be."""
        raise ParameterError(f"family is {self.name!r} but caecodec cannot train networks of it; choose another family")
