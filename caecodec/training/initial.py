"""Makes the initialisation of that network, which belongs to its family, importable under its public name."""

from ..models.factorized.training.initial import fit_rate, from_weights, klt

__all__ = ["fit_rate", "from_weights", "klt"]
