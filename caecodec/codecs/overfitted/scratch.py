"""Memory that is reused in each iteration (torch)."""

from math import prod

import torch
from torch import Tensor

_ALIGNED = 16  # elements


class Scratch:
    """A block of the dtype and device of `like`; parts of it are valid until `reset`. It grows to what one round takes."""

    def __init__(self, like: Tensor) -> None:
        self._block = like.new_empty(0)
        self._used = 0

    def reset(self) -> None:
        """Begin another round, which overwrites what was taken."""
        if self._used > len(self._block):
            self._block = self._block.new_empty(0)  # frees the memory before the larger block takes its own
            self._block = self._block.new_empty(self._used)
        self._used = 0

    def take(self, *shape: int) -> Tensor:
        """An array of this shape with undefined values."""
        size = prod(shape)
        start, self._used = self._used, self._used + -(-size // _ALIGNED) * _ALIGNED
        if self._used > len(self._block):
            return self._block.new_empty(shape)
        return self._block[start : start + size].view(shape)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of matrices (b, i, j) and (b, j, k)."""
        return torch.bmm(left, right, out=self.take(len(left), left.shape[1], right.shape[2]))

    def affine(self, bias: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """The product of weight (b, i, j) and values (b, j, k), plus bias (b, i)."""
        out = self.take(len(weight), weight.shape[1], values.shape[2])
        return out.copy_(bias[..., None].expand_as(out)).baddbmm_(weight, values)

    def join(self, parts: tuple[Tensor, ...], axis: int) -> Tensor:
        """The parts one after the other along an axis."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return torch.cat(parts, axis, out=self.take(*shape))
