"""Chooses the steps in which a fitted network is stored: those with the least loss, its own bits included (torch)."""

import torch
from torch import Tensor

from .architecture import GROUPS, Decoder
from .gradients import Objective, ParameterTensors
from .network import MAX_STEP, Network

COARSEST = 3


def quantise(
    objective: Objective, latents: Tensor, parameters: ParameterTensors, decoder: Decoder, network: Network | None
) -> tuple[Network, float]:
    """The network of one chunk (leading axes 1), with steps chosen for one group of parameters after the other; and the loss.

    A group's step is the one with the least mean squared error + lmbda * (bits of latents and network) per pixel, while
    the groups after it are as fine as they can be. If `network` is given, it is the result, and its bits are not counted.
    """
    if network is not None:
        return network, _loss(objective, latents, network)
    channels = parameters["syn_w2"].shape[1]
    floats = {name: value[0].cpu().numpy() for name, value in parameters.items()}
    steps = [MAX_STEP] * len(GROUPS)
    for group in range(len(GROUPS)):
        found = []
        for step in range(COARSEST, MAX_STEP + 1):
            steps[group] = step
            candidate = Network.quantise(decoder, channels, floats, tuple(steps))
            bits = 8 * len(candidate.section())
            found.append((_loss(objective, latents, candidate) + objective.lmbda * bits / objective.pixels, step, candidate))
        loss, steps[group], network = min(found, key=lambda one: one[:2])
    assert network is not None
    return network, loss


def _loss(objective: Objective, latents: Tensor, network: Network) -> float:
    parameters = {name: torch.from_numpy(value)[None].to(latents.device) for name, value in network.floats().items()}
    distortion, rate = objective.measure(latents, parameters)
    return float(distortion + objective.lmbda * rate)
