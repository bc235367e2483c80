"""The family binary: what caecodec knows about the network without running it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..family import Family, Floats, FoldedNetwork, Tensors, Trainer
from . import file

if TYPE_CHECKING:
    from .network import BinaryAutoencoder

STRIDE = 8
HALO = 2  # latent positions: the analysis sees 14 pixels to each side, the synthesis 1 latent before and 2 after


class BinaryFamily(Family):
    """Three 5x5 convolutions of stride 2 each way, and latents of one bit (after Toderici et al. 2016, arXiv:1511.06085).

    A symbol holds two bits, so that the sign and the magnitude of a symbol are what entropy models expect.
    """

    name = "binary"
    stored_name = "binary"
    wire_id = 5
    stride = STRIDE
    scalable = False

    def check(self, tensors: Tensors, quality: int) -> None:
        """See `Family.check`."""
        file.check(tensors, quality)

    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """See `Family.fold`."""
        return file.fold(tensors, quality)

    def halo(self, tensors: Mapping[str, Floats]) -> int:
        """See `Family.halo`."""
        return HALO

    def build(self, tensors: Mapping[str, Floats]) -> "BinaryAutoencoder":
        """See `Family.build`."""
        from .network import BinaryAutoencoder

        return BinaryAutoencoder.build(tensors)

    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """See `Family.pixel_bytes`: images, and three float32 activations at half of the resolution."""
        return 2 * 3 * 4 + 3 * max(12, len(tensors["g_a.0.bias"]), len(tensors["g_s.1.bias"]))

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """See `Family.channels`."""
        tensors = network.tensors
        hidden = {f"hidden {i + 1}": len(tensors[f"g_a.{i}.bias"]) for i in range(file.LAYERS - 1)}
        return {**hidden, "bit": 2 * int(tensors["active"].sum()), "latent": network.latent_channels}

    def trainer(self) -> Trainer:
        """See `Family.trainer`."""
        from .training.trainer import BinaryTrainer

        return BinaryTrainer()
