"""Making weights: training, fitting entropy tables, exporting networks to the weights format."""

from .recipe import Recipe
from .train import train

__all__ = ["Recipe", "train"]
