"""Finds the family of the network whose state dict a training run wrote, and what trained it."""

import contextlib
from collections.abc import Mapping

from torch import Tensor

from ..errors import ParameterError
from ..models import registry
from ..models.family import Family, Trainer
from .layered_trainer import LayeredTrainer


def family_of(state: Mapping[str, Tensor]) -> tuple[Family, Trainer] | None:
    """The family whose training wrote this state dict, and its trainer, alone or for layers; None if no training did."""
    for family in registry.families():
        with contextlib.suppress(ParameterError):  # the family cannot be trained
            for trainer in (family.trainer(), LayeredTrainer(family.trainer())):
                if trainer.recognises(state):
                    return family, trainer
    return None
