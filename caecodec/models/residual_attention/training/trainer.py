"""Trains the residual-attention network, and turns its state dict into the tensors of a weights file.

State dicts have the names of `ResidualAttentionBackbone`: layers by the names of weights files, GDN with square-root
parameters, and the log-scale ``s`` and shift ``b`` of outputs per quality. Weights files store the layers in fp16.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ....bitstream.autoencoder import METRICS
from ....errors import ParameterError
from ... import rate
from ...factorized import compressai
from ...family import Tensors, Trainer
from . import initial
from .backbone import ResidualAttentionBackbone

HIDDEN = 192
LATENT = {3: 32, 5: 192, 8: 320}  # by the highest quality; with 32 latent channels, finer steps soon bring bits but no detail
LOW_QUALITIES = 5


class ResidualAttentionTrainer(Trainer):
    """Trains a `ResidualAttentionBackbone` for qualities from 1 to 5, or from 6 to 8."""

    pixel_bytes = 16384

    def check_qualities(self, qualities: Sequence[int]) -> None:
        """See `Trainer.check_qualities`: networks for low and for high qualities differ in latent channels."""
        if len({quality <= LOW_QUALITIES for quality in qualities}) != 1:
            raise ParameterError(
                f"qualities are {qualities} but one network serves some of 1 to 5 or some of 6 to 8, each once; "
                "train a network for each range"
            )

    def network(self, qualities: tuple[int, ...], metric: str, dtype: torch.dtype) -> ResidualAttentionBackbone:
        """See `Trainer.network`."""
        latent = next(latent for highest, latent in LATENT.items() if max(qualities) <= highest)
        return ResidualAttentionBackbone(HIDDEN, latent, qualities, metric, dtype)

    def start_from_images(self, network: ResidualAttentionBackbone, images: Tensor, lmbdas: list[float]) -> None:
        """See `Trainer.start_from_images`; starts from principal components."""
        initial.klt(network, images, lmbdas)

    def start_from_weights(self, network: ResidualAttentionBackbone, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """See `Trainer.start_from_weights`."""
        initial.from_weights(network, tensors, lmbdas)

    def start_rate(self, network: ResidualAttentionBackbone, images: Tensor) -> None:
        """See `Trainer.start_rate`."""
        rate.fit(network, images)

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """See `Trainer.recognises`."""
        return "g_a.0.conv_out.s" in state

    def qualities(self, state: Mapping[str, Tensor]) -> tuple[int, ...]:
        """See `Trainer.qualities`."""
        return tuple(state["qualities"].tolist())

    def metric(self, state: Mapping[str, Tensor]) -> str | None:
        """See `Trainer.metric`."""
        return METRICS[int(state["metric"])]

    def tensors(self, state: Mapping[str, Tensor]) -> Tensors:
        """See `Trainer.tensors`."""
        tensors: Tensors = {}
        qualities = self.qualities(state)
        for name, value in state.items():
            layer, _, part = name.rpartition(".")
            if not name.startswith(("g_a.", "g_s.")):
                continue
            if part in ("s", "b"):
                for quality, row in zip(qualities, value, strict=True):
                    stored = row.exp() if part == "s" else row
                    tensors[f"q{quality}.{layer}.{'scale' if part == 's' else 'shift'}"] = stored.float().numpy()
                continue
            if layer.endswith(".norm"):
                value = compressai.effective(value, compressai.BETA_MINIMUM if part == "beta" else 0.0)
            elif value.shape[2:] == (1, 1):
                value = value[:, :, 0, 0]
            tensors[name] = value.to(torch.float16).numpy()
        for quality, row in zip(qualities, state["latent_scale"], strict=True):
            tensors[f"q{quality}.latent_scale"] = row.exp().float().numpy()
        return tensors
