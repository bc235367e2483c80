"""The network that is trained, under the name by which it is imported; it belongs to its family."""

from ..models.factorized.training.backbone import Backbone, ConditionalRate

__all__ = ["Backbone", "ConditionalRate"]
