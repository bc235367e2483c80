"""The family bmshj2018-factorized: what caecodec knows about the network without running it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..family import Family, Floats, FoldedNetwork, Tensors, Trainer
from . import file

if TYPE_CHECKING:
    from .exact import ExactSynthesis
    from .network import FactorizedPrior

STRIDE = 16
HALO = 2  # latent positions: the analysis sees 30 pixels to each side, the synthesis 2 latents


class Factorized(Family):
    """The autoencoder of Ballé et al. (2018, https://arxiv.org/abs/1802.01436), as CompressAI defines it."""

    name = "bmshj2018-factorized"
    stored_name = "cae"
    wire_id = 1
    stride = STRIDE
    exact = True

    def check(self, tensors: Tensors, quality: int) -> None:
        """See `Family.check`."""
        file.check(tensors, quality)

    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """See `Family.fold`."""
        return file.fold(tensors, quality)

    def halo(self, tensors: Mapping[str, Floats]) -> int:
        """See `Family.halo`."""
        return HALO

    def build(self, tensors: Mapping[str, Floats]) -> "FactorizedPrior":
        """See `Family.build`."""
        from .network import FactorizedPrior

        return FactorizedPrior.build(tensors)

    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """See `Family.pixel_bytes`."""
        return pixel_bytes(len(tensors["g_a.0.bias"]), device, exact)

    def reduce_precision(self, network: Any, precision: str, quality: int, device: str) -> None:
        """See `Family.reduce_precision`: the largest layers run in bfloat16 if the processor supports it."""
        from .precision import layers

        network.reduce_precision(layers(precision, quality, device))

    def build_exact(self, tensors: Mapping[str, Floats], device: str) -> "ExactSynthesis":
        """See `Family.build_exact`."""
        from .exact import ExactSynthesis

        return ExactSynthesis.build(tensors, device)

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """See `Family.channels`."""
        return {"hidden": len(network.tensors["g_a.0.bias"]), "latent": network.latent_channels}

    def trainer(self) -> Trainer:
        """See `Family.trainer`."""
        from .training.trainer import FactorizedTrainer

        return FactorizedTrainer()


def pixel_bytes(hidden: int, device: str, exact: bool = False) -> int:
    """The most bytes that a pass takes per pixel; `hidden` is N.

    A CPU holds the widest layer only in strips, and so needs four float32 arrays at a quarter of the resolution. Other devices
    need three at half of it. The exact synthesis needs four of float64.
    """
    return 8 * hidden if exact else hidden if device == "cpu" else 3 * hidden
