"""Makes the initialisation of the default network, which belongs to its family, importable under its public name."""

from ..models.factorized.training.initial import from_weights, klt
from ..models.rate import fit as fit_rate

__all__ = ["fit_rate", "from_weights", "klt"]
