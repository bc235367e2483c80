"""Trains a network for layers: one analysis, and a synthesis for each layer of its symbols (FORMAT.md, 24: Layers).

    x ── analysis of the last layer ── y ── soft threshold, y / 2^e ── t ── round ── middles ── synthesis of the layer ── x_hat
                                                                        └─ + noise ── bits of the layer

It wraps the network in training of any family, whose qualities become the layers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..bitstream.scalable import MAX_LAYERS
from ..errors import ParameterError
from ..models.family import Family, Tensors, TrainableNetwork, Trainer

PREFIX = "network."  # of the wrapped network's names in the state dict


def check_layers(layers: int) -> None:
    """Raise ParameterError unless this is a number of layers that weights can have."""
    if not 2 <= layers <= MAX_LAYERS:
        raise ParameterError(f"layers is {layers} but must be 2 to {MAX_LAYERS}")


def check_scalable(family: Family) -> None:
    """Raise ParameterError if no layers can be made of the symbols of a family."""
    if not family.scalable:
        raise ParameterError(
            f"family is {family.name!r}, whose latents are bits, but layers are made of quantised latents; choose another "
            "family (--family)"
        )


class LayeredNetwork(nn.Module):
    """A `TrainableNetwork` whose qualities are layers, 0 to `layers` - 1, of the network of a family."""

    network: Any

    def __init__(self, network: TrainableNetwork, layers: int) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    @property
    def cond(self) -> Any:
        """The rate of each layer, as `models.rate.fit` takes it."""
        return self.network.cond

    @property
    def order(self) -> Tensor:
        """The channels in coding order, as `models.rate.fit` sets it."""
        order: Tensor = self.network.order
        return order

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.analysis`: latents that round to symbols of the layer, those of the last one halved."""
        y: Tensor = self.network.analysis(x, torch.full_like(quality, self.layers - 1))
        step = self._step(quality)
        return y.sign() * (y.abs() / step - 0.5 + 0.5 / step).clamp_min(0)

    def synthesis(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.synthesis`: of the middles of the symbols of the last layer that these stand for."""
        step = self._step(quality)
        images: Tensor = self.network.synthesis(y * step + y.sign() * (step - 1) / 2, quality)
        return images

    def bits(self, y: Tensor, quality: Tensor) -> Tensor:
        """See `TrainableNetwork.bits`: of a layer by itself, without the one below."""
        bits: Tensor = self.network.bits(y, quality)
        return bits

    def learning_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """See `TrainableNetwork.learning_groups`."""
        groups: list[tuple[float, list[nn.Parameter]]] = self.network.learning_groups()
        return groups

    def use_compiled(self, compiled: bool) -> None:
        """See `TrainableNetwork.use_compiled`."""
        self.network.use_compiled(compiled)

    def _step(self, quality: Tensor) -> Tensor:
        """The step (n, 1, 1, 1) of each sample's layer, in units of that of the last layer."""
        return torch.exp2((self.layers - 1 - quality).float())[:, None, None, None]


class LayeredTrainer(Trainer):
    """Trains a `LayeredNetwork`, with the trainer of its family, from one quality."""

    def __init__(self, trainer: Trainer, layers: int = 0) -> None:
        self.trainer, self.layers = trainer, layers
        self.pixel_bytes = trainer.pixel_bytes

    def network(self, qualities: tuple[int, ...], metric: str, dtype: torch.dtype) -> LayeredNetwork:
        """See `Trainer.network`: all layers begin as one quality."""
        return LayeredNetwork(self.trainer.network(qualities * self.layers, metric, dtype), self.layers)

    def start_from_images(self, network: LayeredNetwork, images: Tensor, lmbdas: list[float]) -> None:
        """See `Trainer.start_from_images`."""
        self.trainer.start_from_images(network.network, images, lmbdas * self.layers)

    def start_from_weights(self, network: LayeredNetwork, tensors: Tensors, lmbdas: Mapping[int, float]) -> None:
        """See `Trainer.start_from_weights`."""
        self.trainer.start_from_weights(network.network, tensors, lmbdas)

    def start_rate(self, network: LayeredNetwork, images: Tensor) -> None:
        """See `Trainer.start_rate`."""
        self.trainer.start_rate(network, images)

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """See `Trainer.recognises`."""
        return self.trainer.recognises(_unwrapped(state))

    def qualities(self, state: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The layers, from 1."""
        return tuple(range(1, len(self.trainer.qualities(_unwrapped(state))) + 1))

    def metric(self, state: Mapping[str, Tensor]) -> str | None:
        """See `Trainer.metric`."""
        return self.trainer.metric(_unwrapped(state))

    def tensors(self, state: Mapping[str, Tensor]) -> Tensors:
        """See `Trainer.tensors`: all layers have the analysis of the last one, and half of its latent scale."""
        layers = self.qualities(state)
        tensors = self.trainer.tensors(_unwrapped(state) | {"qualities": torch.tensor(layers)})
        last = f"q{layers[-1]}."
        analysis = {name[len(last) :]: value for name, value in tensors.items() if name.startswith(f"{last}g_a.")}
        for layer in layers:
            tensors.update({f"q{layer}.{name}": value for name, value in analysis.items()})
            tensors[f"q{layer}.latent_scale"] = tensors[f"q{layer}.latent_scale"] / np.float32(2)
        return tensors


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the wrapped network; empty for that of another network."""
    return {name[len(PREFIX) :]: value for name, value in state.items() if name.startswith(PREFIX)}
