"""The family depthwise-residual: what caecodec knows about the network without running it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..family import Family, Floats, FoldedNetwork, Tensors, Trainer
from . import file
from .architecture import EXPANSION, VALUES

if TYPE_CHECKING:
    from .network import DepthwiseResidual

STRIDE = 16


class DepthwiseResidualFamily(Family):
    """Residual blocks of 1x1 and depthwise 3x3 convolutions on patches of 8x8 pixels, and then on 2x2 of these.

    It follows the low-resolution transforms of Jia et al. (2025, https://arxiv.org/abs/2502.20762).
    """

    name = "depthwise-residual"
    stored_name = "depthwise-residual"
    wire_id = 4
    stride = STRIDE

    def check(self, tensors: Tensors, quality: int) -> None:
        """See `Family.check`."""
        file.check(tensors, quality)

    def fold(self, tensors: Tensors, quality: int) -> FoldedNetwork:
        """See `Family.fold`."""
        return file.fold(tensors, quality)

    def halo(self, tensors: Mapping[str, Floats]) -> int:
        """See `Family.halo`: each block sees one position to each side, of 8 or of 16 pixels."""
        return max(_count(tensors, f"{side}.coarse") + -(-_count(tensors, f"{side}.fine") // 2) for side in ("g_a", "g_s"))

    def build(self, tensors: Mapping[str, Floats]) -> "DepthwiseResidual":
        """See `Family.build`."""
        from .network import DepthwiseResidual

        return DepthwiseResidual.build(tensors)

    def pixel_bytes(self, tensors: Mapping[str, Floats], device: str, exact: bool = False) -> int:
        """See `Family.pixel_bytes`: images, and four float32 activations and one wide one at an eighth of the resolution."""
        widest: int = max(VALUES, tensors["g_a.patch.weight"].shape[0], tensors["g_s.patch.weight"].shape[1])
        return 2 * 3 * 4 + (4 + EXPANSION) * widest * 4 // 64

    def reduce_precision(self, network: Any, precision: str, quality: int, device: str) -> None:
        """See `Family.reduce_precision`."""
        from ..bfloat16 import wanted

        if wanted(precision, device):
            network.reduce_precision()

    def channels(self, network: FoldedNetwork) -> dict[str, int]:
        """See `Family.channels`."""
        tensors = network.tensors
        return {
            "analysis": len(tensors["g_a.patch.weight"]), "coarse analysis": len(tensors["g_a.merge.weight"]),
            "latent": network.latent_channels,
            "coarse synthesis": len(tensors["g_s.latent.weight"]), "synthesis": tensors["g_s.patch.weight"].shape[1],
        }  # fmt: skip

    def trainer(self) -> Trainer:
        """See `Family.trainer`."""
        from .training.trainer import DepthwiseResidualTrainer

        return DepthwiseResidualTrainer()


def _count(tensors: Mapping[str, Any], prefix: str) -> int:
    return file.blocks(dict(tensors), prefix)
