"""The state dict of a training run, and which family's network it is of."""

import contextlib
from collections.abc import Mapping

from torch import Tensor

from ..errors import ParameterError
from ..models import registry
from ..models.family import Family


def family_of(state: Mapping[str, Tensor]) -> Family | None:
    """The family whose training wrote this state dict; None if no training did."""
    for family in registry.families():
        with contextlib.suppress(ParameterError):  # of a family that cannot be trained
            if family.trainer().recognises(state):
                return family
    return None
