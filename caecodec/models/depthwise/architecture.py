"""The sizes of a network: channels and blocks at an eighth and at a sixteenth of the resolution, and latent channels."""

from collections.abc import Iterator
from typing import NamedTuple

PATCH = 8  # pixels a side
VALUES = 3 * PATCH**2  # of a patch


class Transform(NamedTuple):
    """The sizes of an analysis or a synthesis.

    fine, fine_blocks : the channels, and the number of blocks, at an eighth of the resolution
    coarse, coarse_blocks : the same at a sixteenth
    """

    fine: int
    fine_blocks: int
    coarse: int
    coarse_blocks: int

    def blocks(self) -> Iterator[tuple[str, int]]:
        """The name and channels of each block, fine ones first."""
        for i in range(self.fine_blocks):
            yield f"fine.{i}", self.fine
        for i in range(self.coarse_blocks):
            yield f"coarse.{i}", self.coarse


class Architecture(NamedTuple):
    """The sizes of a network; `latent` is M."""

    analysis: Transform
    synthesis: Transform
    latent: int


EXPANSION = 2  # hidden channels of a block's second half, relative to its channels
