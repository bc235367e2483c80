"""The family residual-attention: what caecodec knows about the network without running it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..family import Family, Floats, FoldedNetwork, Tensors, Trainer
from . import file
from .architecture import STRIDE, halo

if TYPE_CHECKING:
    from .network import ResidualAttention


class ResidualAttentionFamily(Family):
    """Residual blocks with GDN and simplified attention, as of Cheng et al. (2020, https://arxiv.org/abs/2001.01568)."""

    name = "residual-attention"
    stored_name = "residual-attention"
    wire_id = 2
    stride = STRIDE

    def check(self, tensors: Tensors, quality: int) -> None:
        """See `Family.check`."""
        file.check(tensors, quality)

    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """See `Family.fold`."""
        return file.fold(tensors, quality)

    def halo(self, tensors: Mapping[str, Floats]) -> int:
        """See `Family.halo`: attention is local, so it is finite; 9, for any number of channels."""
        return halo()

    def build(self, tensors: Mapping[str, Floats]) -> "ResidualAttention":
        """See `Family.build`."""
        from .network import ResidualAttention

        return ResidualAttention.build(tensors)

    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """See `Family.pixel_bytes`: images, and five float32 activations at half of the resolution."""
        return 2 * 3 * 4 + 5 * len(tensors["g_a.0.conv_in.bias"])

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """See `Family.channels`."""
        return {"hidden": len(network.tensors["g_a.0.conv_in.bias"]), "latent": network.latent_channels}

    def trainer(self) -> Trainer:
        """See `Family.trainer`."""
        from .training.trainer import ResidualAttentionTrainer

        return ResidualAttentionTrainer()
