"""The network that is trained, under the name by which it is imported; it belongs to its family."""

from ..models.factorized.training.backbone import GDN, Backbone, ConditionalRate, Modulation, conditional_bits

__all__ = ["GDN", "Backbone", "ConditionalRate", "Modulation", "conditional_bits"]
