"""Finds the family of the network whose state dict a training run wrote."""

import contextlib
from collections.abc import Mapping

from torch import Tensor

from ..errors import ParameterError
from ..models import registry
from ..models.family import Family


def family_of(state: Mapping[str, Tensor]) -> Family | None:
    """The family whose training wrote this state dict; None if no training did."""
    for family in registry.families():
        with contextlib.suppress(ParameterError):  # the family cannot be trained
            if family.trainer().recognises(state):
                return family
    return None
