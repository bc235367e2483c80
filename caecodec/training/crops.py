"""Draws random crops from images in one tensor on the training device, without waiting for the host."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ParameterError

MIRRORED, UPSIDE_DOWN = 0.5, 0.1  # proportions of all crops


class Crops:
    """Draws batches of crops from uint8 RGB images (height, width, 3). An image's chance grows with the root of its area.

    Raises ParameterError if no image has `largest` x `largest` pixels.
    """

    def __init__(self, images: Iterable[npt.NDArray[np.uint8]], largest: int, device: str, seed: int) -> None:
        kept = [image for image in images if min(image.shape[:2]) >= largest]
        if not kept:
            raise ParameterError(f"no training image has {largest}x{largest} pixels; name others, or pass a smaller crop")
        sizes = torch.tensor([image.shape[:2] for image in kept])
        self.images = len(kept)
        self.pixels = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in kept])).to(device)
        self.heights, self.widths = sizes.to(device).unbind(1)
        self.starts = (sizes.prod(1).cumsum(0) - sizes.prod(1)).to(device)
        chances = sizes.prod(1).double().sqrt().cumsum(0)
        self.chances = (chances / chances[-1]).float().to(device)  # that a crop comes from this image or an earlier one
        self.random = torch.Generator(device).manual_seed(seed)

    def draw(self, batch: int, size: int) -> Tensor:
        """Draw crops (batch, 3, size, size) in [0, 1], float32 and channels last; half are mirrored, a tenth upside down."""
        device = self.pixels.device
        image, y, x, mirrored, turned = torch.rand(5, batch, generator=self.random, device=device)
        which = torch.searchsorted(self.chances, image).clamp(max=self.images - 1)
        top = (y * (self.heights[which] - size + 1)).long()
        left = (x * (self.widths[which] - size + 1)).long()
        along = torch.arange(size, device=device)
        columns = torch.where(mirrored[:, None] < MIRRORED, size - 1 - along, along) + left[:, None]
        rows = torch.where(turned[:, None] < UPSIDE_DOWN, size - 1 - along, along) + top[:, None]
        index = self.starts[which, None, None] + rows[:, :, None] * self.widths[which, None, None] + columns[:, None, :]
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255
