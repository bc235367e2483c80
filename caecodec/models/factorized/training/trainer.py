"""How this family is trained, and what a state dict of its backbone becomes in a weights file.

The state dict has convolutions ``ga.i`` and ``gs.i``, GDN with square-root parameters ``gan.i`` and ``gsn.i``, the log-scale
``s`` and shift ``b`` of each convolution's output per quality, ``fa.i`` and ``fs.i``, and the log-scale ``fi.s`` of the latents
before the synthesis. Weights files store the layers in fp16.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ....errors import ParameterError
from ... import rate
from ...family import Tensors, Trainer
from .. import compressai
from . import initial
from .backbone import LAYERS, LOW_QUALITIES, NARROW, Backbone


class FactorizedTrainer(Trainer):
    """Trains a `Backbone` for qualities from 1 to 5, or from 6 to 8."""

    def check_qualities(self, qualities: Sequence[int]) -> None:
        """See `Trainer.check_qualities`: networks for low and for high qualities differ in width."""
        if len({quality <= LOW_QUALITIES for quality in qualities}) != 1:
            raise ParameterError(
                f"qualities are {qualities} but one network serves some of 1 to 5 or some of 6 to 8, each once; "
                "train a network for each range"
            )

    def network(self, qualities: tuple[int, ...], metric: str, dtype: torch.dtype) -> Backbone:
        """See `Trainer.network`."""
        return Backbone(qualities, metric, dtype)

    def start_from_images(self, network: Backbone, images: Tensor, lmbdas: list[float]) -> None:
        """See `Trainer.start_from_images`; starts from principal components."""
        initial.klt(network, images, lmbdas)

    def start_from_weights(self, network: Backbone, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """See `Trainer.start_from_weights`."""
        initial.from_weights(network, tensors, lmbdas)

    def start_rate(self, network: Backbone, images: Tensor) -> None:
        """See `Trainer.start_rate`."""
        rate.fit(network, images)

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """See `Trainer.recognises`."""
        return "fa.0.s" in state

    def qualities(self, state: Mapping[str, Tensor]) -> tuple[int, ...]:
        """See `Trainer.qualities`; if the state names none, they follow from its width."""
        if "qualities" in state:
            return super().qualities(state)
        first = 1 if len(state[f"fa.{LAYERS - 1}.s"][0]) == NARROW.latent else LOW_QUALITIES + 1
        return tuple(range(first, first + len(state["fa.0.s"])))

    def tensors(self, state: Mapping[str, Tensor]) -> Tensors:
        """See `Trainer.tensors`."""
        half: dict[str, Tensor] = {}
        for ours, conv, norm in (("g_a", "ga", "gan"), ("g_s", "gs", "gsn")):
            for i in range(LAYERS):
                half[f"{ours}.{2 * i}.weight"] = state[f"{conv}.{i}.weight"]
                half[f"{ours}.{2 * i}.bias"] = state[f"{conv}.{i}.bias"]
            for i in range(LAYERS - 1):
                half[f"{ours}.{2 * i + 1}.beta"] = compressai.effective(state[f"{norm}.{i}.beta"], compressai.BETA_MINIMUM)
                half[f"{ours}.{2 * i + 1}.gamma"] = compressai.effective(state[f"{norm}.{i}.gamma"])
        tensors: Tensors = {name: value.to(torch.float16).numpy() for name, value in half.items()}
        for index, q in enumerate(self.qualities(state)):
            for ours, film in (("g_a", "fa"), ("g_s", "fs")):
                for i in range(LAYERS):
                    tensors[f"q{q}.{ours}.{2 * i}.scale"] = state[f"{film}.{i}.s"][index].exp().float().numpy()
                    tensors[f"q{q}.{ours}.{2 * i}.shift"] = state[f"{film}.{i}.b"][index].float().numpy()
            tensors[f"q{q}.latent_scale"] = state["fi.s"][index].exp().float().numpy()
        return tensors
