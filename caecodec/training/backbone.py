"""Makes the trainable network, which belongs to its family, importable under its public name."""

from ..models.factorized.training.backbone import Backbone
from ..models.rate import ConditionalRate

__all__ = ["Backbone", "ConditionalRate"]
