"""What the values of a chunk mean: all that pixels and images need to know of each other."""

from typing import NamedTuple

from .axes import Axes
from .planes import Layout


class ChunkSpec(NamedTuple):
    """How to read the images of a chunk: its shape, dtype (a numpy name) and axes, and how its planes become images."""

    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    layout: Layout

    @property
    def channels(self) -> int:
        """The number of channels of the chunk."""
        return self.axes.channels(self.shape)

    @property
    def height(self) -> int:
        """Rows of its planes."""
        return self.shape[self.axes.height]

    @property
    def width(self) -> int:
        """Columns of its planes."""
        return self.shape[self.axes.width]

    @property
    def images(self) -> int:
        """The number of images that it becomes, m; planes of one value become none."""
        planes = 1
        for axis in self.axes.leading:
            planes *= self.shape[axis]
        return self.layout.images(planes, self.channels)

    def alike(self, other: "ChunkSpec") -> bool:
        """Whether chunks of both specifications can share a batch."""
        same = self.shape == other.shape and self.dtype == other.dtype and self.axes == other.axes
        one, two = self.layout, other.layout
        return same and one.separate == two.separate and (one.ranges is None) == (two.ranges is None)
