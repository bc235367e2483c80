"""Random crops of images that lie in one tensor on the training device: no copies, and no waiting for the host."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ParameterError


class Crops:
    """Draws batches of crops from RGB images (height, width, 3), uint8; larger images more often, by the root of their area.

    Raises ParameterError when no image has `largest` x `largest` pixels.
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
        self.chances = sizes.prod(1).sqrt().to(device)
        self.random = torch.Generator(device).manual_seed(seed)

    def draw(self, batch: int, size: int) -> Tensor:
        """Images (batch, 3, size, size) in [0, 1], float32 and channels last; half of them mirrored."""
        device = self.pixels.device
        which = torch.multinomial(self.chances, batch, replacement=True, generator=self.random)
        place, mirrored = torch.rand(2, batch, generator=self.random, device=device), self._coin(batch)
        top = (place[0] * (self.heights[which] - size + 1)).long()
        left = (place[1] * (self.widths[which] - size + 1)).long()
        along = torch.arange(size, device=device)
        columns = torch.where(mirrored[:, None], size - 1 - along, along) + left[:, None]
        rows = top[:, None] + along
        index = self.starts[which, None, None] + rows[:, :, None] * self.widths[which, None, None] + columns[:, None, :]
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255

    def _coin(self, batch: int) -> Tensor:
        return torch.rand(batch, generator=self.random, device=self.pixels.device) < 0.5
