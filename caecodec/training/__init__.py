"""Makes weights: trains networks, fits entropy tables, and exports networks to the weights format."""

from .recipe import Recipe
from .train import train

__all__ = ["Recipe", "train"]
