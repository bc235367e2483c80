"""Chunks <-> float32 images as in `planes`, for a batch of chunks on a device.

In: N chunks of one shape, dtype and layout as one tensor (N, *shape). Out: images (N m, 3, height, width), m of each chunk,
padded to the stride.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .planes import COLOURS, MAX_LEVEL
from .ranges import LEVELS, Ranges
from .spec import ChunkSpec
from .transfers import send


def to_images(chunks: Tensor, specs: Sequence[ChunkSpec], stride: int) -> Tensor:
    """Chunks (N, *shape) -> images (N m, 3, height, width) in [0, 1], sides padded to multiples of the stride."""
    first, ranges = specs[0], _joined(specs)
    last = _images(chunks, first)
    levels = last.float() / LEVELS if ranges is None else _forward(last, ranges)
    images = levels.permute(0, 3, 1, 2)
    if first.layout.separate:
        planes = images.flatten(0, 1)
        if ranges is not None:
            planes = planes[_varying(ranges, planes.device)]
        images = planes[:, None].expand(-1, COLOURS, -1, -1)
    below, right = (-side % stride for side in images.shape[2:])
    if below or right:
        images = F.pad(images, (0, right, 0, below), mode="replicate")
    return images.contiguous(memory_format=torch.channels_last)


def to_chunks(images: Tensor, specs: Sequence[ChunkSpec]) -> Tensor:
    """Images (N m, 3, at least height, at least width) in about [0, 1] -> chunks (N, *shape), integers rounded to nearest."""
    first, ranges = specs[0], _joined(specs)
    axes, shape = first.axes, first.shape
    height, width = shape[axes.height], shape[axes.width]
    last = images[:, :, :height, :width].permute(0, 2, 3, 1)
    if first.layout.separate:
        means = (last[..., 0] + last[..., 1] + last[..., 2]) / COLOURS
        planes = means
        if ranges is not None:
            planes = means.new_zeros(ranges.power.size, height, width)
            planes[_varying(ranges, planes.device)] = means
        last = planes.view(-1, first.channels, height, width).permute(0, 2, 3, 1)
    values = (last * LEVELS).clamp(0, LEVELS) if ranges is None else _inverse(last, ranges)
    if first.dtype[0] != "f":
        values = values.round()
    found = values.to(getattr(torch, first.dtype))
    leading = [shape[axis] for axis in axes.leading]
    split = found.view(len(specs), *leading, height, width, first.channels)
    order = [*axes.leading, axes.height, axes.width, *([] if axes.channel is None else [axes.channel])]
    if axes.channel is None:
        split = split[..., 0]
    return split.permute(0, *(1 + order.index(axis) for axis in range(len(shape)))).contiguous()


def implausible(images: Tensor, count: int) -> Tensor:
    """Flags (count,) the chunks whose images (count m, 3, height, width) are non-finite or out of range."""
    flat = images.view(count, -1) if images.is_contiguous() else images.permute(0, 2, 3, 1).reshape(count, -1)
    low, high = flat.aminmax(dim=1)
    return ~((low > -MAX_LEVEL) & (high < MAX_LEVEL))  # NaN fails both


def _images(chunks: Tensor, spec: ChunkSpec) -> Tensor:
    """Chunks (N, *shape) as (N n, height, width, channels)."""
    axes = spec.axes
    order = [*axes.leading, axes.height, axes.width]
    if axes.channel is None:
        last = chunks.permute(0, *(1 + axis for axis in order))[..., None]
    else:
        last = chunks.permute(0, *(1 + axis for axis in (*order, axes.channel)))
    return last.reshape(-1, *last.shape[-3:])


def _joined(specs: Sequence[ChunkSpec]) -> Ranges | None:
    """The ranges of all planes, (N n, channels)."""
    ranges = [spec.layout.ranges for spec in specs if spec.layout.ranges is not None]
    if not ranges:
        return None
    return Ranges(*(np.concatenate([getattr(each, part) for each in ranges]) for part in ("power", "low", "high")))


def _varying(ranges: Ranges, device: torch.device) -> Tensor:
    """The indices of the planes that the network codes: those that are not constant."""
    return send(np.flatnonzero(~ranges.constant), device)


def _forward(images: Tensor, ranges: Ranges) -> Tensor:
    """`Ranges.forward` of (n, height, width, channels)."""
    low, high = ranges.low.astype(np.float64) / 2, ranges.high.astype(np.float64) / 2
    width = np.where(high > low, high - low, 1)
    bottom, span = (send(values[:, None, None], images.device) for values in (low, width))
    level = ((images.double() / 2 - bottom) / span).clamp(0, 1)
    for power in (2, 4):
        level = torch.where(_at_least(ranges, power, images.device), level.sqrt(), level)
    return level.float()


def _inverse(levels: Tensor, ranges: Ranges) -> Tensor:
    """`Ranges.inverse` of (n, height, width, channels)."""
    level = levels.double().clamp(0, 1)
    for power in (2, 4):
        level = torch.where(_at_least(ranges, power, levels.device), level.square(), level)
    low, high = (send(bound.astype(np.float64)[:, None, None], levels.device) for bound in (ranges.low, ranges.high))
    return low * (1 - level) + high * level


def _at_least(ranges: Ranges, power: int, device: torch.device) -> Tensor:
    return send((ranges.power >= power)[:, None, None], device)
