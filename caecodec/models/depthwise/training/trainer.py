"""Trains the depthwise-residual network, and turns its state dict into the tensors of a weights file.

State dicts have the names of `DepthwiseBackbone`: layers by the names of weights files, with the log-scale ``s`` and the shift
``b`` of their outputs per quality. Weights files store the layers in fp16.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ....errors import ParameterError
from ... import rate
from ...family import Tensors, Trainer
from ..architecture import Architecture, Transform
from . import initial
from .backbone import DepthwiseBackbone

LOW_QUALITIES = 5  # networks have fewer channels up to this quality
LOW = Architecture(Transform(192, 2, 192, 2), Transform(192, 1, 192, 2), 192)
HIGH = Architecture(Transform(192, 2, 320, 2), Transform(192, 1, 320, 2), 320)


class DepthwiseResidualTrainer(Trainer):
    """Trains a `DepthwiseBackbone` for qualities from 1 to 5, or from 6 to 8."""

    lr = 1.5e-3  # 300 steps from shipped weights on images of another kind: at 3e-4 the loss ends 2 % higher

    def check_qualities(self, qualities: Sequence[int]) -> None:
        """See `Trainer.check_qualities`: networks for low and for high qualities differ in width."""
        if len({quality <= LOW_QUALITIES for quality in qualities}) != 1:
            raise ParameterError(
                f"qualities are {qualities} but one network serves some of 1 to 5 or some of 6 to 8, each once; "
                "train a network for each range"
            )

    def network(self, qualities: tuple[int, ...], metric: str, dtype: torch.dtype) -> DepthwiseBackbone:
        """See `Trainer.network`."""
        return DepthwiseBackbone(LOW if qualities[0] <= LOW_QUALITIES else HIGH, qualities, metric, dtype)

    def start_from_images(self, network: DepthwiseBackbone, images: Tensor, lmbdas: list[float]) -> None:
        """See `Trainer.start_from_images`; starts from principal components."""
        initial.klt(network, images, lmbdas)

    def start_from_weights(self, network: DepthwiseBackbone, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """See `Trainer.start_from_weights`."""
        initial.from_weights(network, tensors, lmbdas)

    def start_rate(self, network: DepthwiseBackbone, images: Tensor) -> None:
        """See `Trainer.start_rate`."""
        rate.fit(network, images)

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """See `Trainer.recognises`."""
        return "g_a.merge.s" in state

    def tensors(self, state: Mapping[str, Tensor]) -> Tensors:
        """See `Trainer.tensors`."""
        tensors: Tensors = {}
        for name, value in state.items():
            if not name.startswith(("g_a.", "g_s.")) or name.endswith((".s", ".b")):
                continue
            layer = name.removesuffix(".weight")
            tensors[f"{layer}.weight"] = value.to(torch.float16).numpy()
        for index, quality in enumerate(self.qualities(state)):
            for name, value in state.items():
                layer, _, part = name.rpartition(".")
                if part == "s" and not name.startswith("cond."):
                    tensors[f"q{quality}.{layer}.scale"] = value[index].exp().float().numpy()
                    tensors[f"q{quality}.{layer}.shift"] = state[f"{layer}.b"][index].float().numpy()
            tensors[f"q{quality}.latent_scale"] = state["latent_scale"][index].exp().float().numpy()
        return tensors
