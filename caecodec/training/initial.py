"""How that network starts, under the name by which it is imported; it belongs to the network's family."""

from ..models.factorized.training.initial import fit_rate, from_weights, klt

__all__ = ["fit_rate", "from_weights", "klt"]
