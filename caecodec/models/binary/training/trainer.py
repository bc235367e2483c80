"""Trains the binary network, and turns its state dict into the tensors of a weights file.

State dicts have the names of `BinaryBackbone`: layers by the names of weights files, with the log-scale ``s`` and the shift
``b`` of their outputs per quality. Weights files store the convolutions in fp16.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ....errors import WeightsError
from ...family import Tensors, Trainer
from . import initial
from .backbone import BinaryBackbone


class BinaryTrainer(Trainer):
    """Trains a `BinaryBackbone`, which serves any qualities."""

    def network(self, qualities: tuple[int, ...], metric: str, dtype: torch.dtype) -> BinaryBackbone:
        """See `Trainer.network`; it computes in float32, because noise in the latents turns bits around."""
        return BinaryBackbone(qualities, metric)

    def start_from_images(self, network: BinaryBackbone, images: Tensor, lmbdas: list[float]) -> None:
        """See `Trainer.start_from_images`; starts from principal components, whose thresholds are bits."""
        initial.klt(network, images)

    @torch.no_grad()
    def start_from_weights(self, network: BinaryBackbone, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """See `Trainer.start_from_weights`; a quality that the file lacks starts from the nearest one."""
        there = sorted({int(name[1 : name.index(".")]) for name in tensors if name.endswith(".active")})
        nearest = [min(there, key=lambda other: abs(other - quality)) for quality in network.qualities.tolist()]

        def put(target: Tensor, name: str) -> None:
            value = tensors[name]
            if value.shape != target.shape:
                raise WeightsError(
                    f"{name} of these weights has shape {value.shape} but training has room for {tuple(target.shape)}; start "
                    "from weights that caecodec has trained, or from klt"
                )
            target.copy_(torch.from_numpy(value))

        for name, parameter in network.named_parameters():
            layer, _, part = name.rpartition(".")
            if part == "weight":
                put(parameter, name)
            elif layer.startswith("g_"):
                for row, quality in zip(parameter, nearest, strict=True):
                    put(row, f"q{quality}.{layer}.{'scale' if part == 's' else 'shift'}")
                    if part == "s":
                        row.log_()
        for row, quality in zip(network.latent_scale, nearest, strict=True):
            put(row, f"q{quality}.latent_scale")
            row.log_()
        for name, buffer in network.named_buffers():
            if name.endswith((".mean", ".variance")):
                put(buffer, name)

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """See `Trainer.recognises`."""
        return "pair_rate.w" in state

    def tensors(self, state: Mapping[str, Tensor]) -> Tensors:
        """See `Trainer.tensors`."""
        tensors: Tensors = {}
        for name, value in state.items():
            if name.endswith(".weight"):
                tensors[name] = value.to(torch.float16).numpy()
            elif name.endswith((".mean", ".variance")):
                tensors[name] = value.float().numpy()
        for index, quality in enumerate(self.qualities(state)):
            for name, value in state.items():
                layer, _, part = name.rpartition(".")
                if layer.startswith("g_") and part in ("s", "b"):
                    stored = value[index].exp() if part == "s" else value[index]
                    tensors[f"q{quality}.{layer}.{'scale' if part == 's' else 'shift'}"] = stored.float().numpy()
            tensors[f"q{quality}.latent_scale"] = state["latent_scale"][index].exp().float().numpy()
            tensors[f"q{quality}.active"] = state["active"][index].numpy()
        return tensors
