"""The network, folded into one quality for inference.

    x ── conv ── ReLU ── conv ── ReLU ── conv ── signs ── two bits to a symbol ── symbols
    symbols ── bits ── conv' ── ReLU ── conv' ── ReLU ── conv' ── x_hat

Bits are -1 or 1. The bits a and b are the symbol (3 a + b) / 2: of the four values -2, -1, 1 and 2, a is the sign, and the
magnitude says whether b equals a. Channels that a quality leaves out have the symbol 0 and bits 0.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..factorized.network import sub_pixel
from .file import LAYERS


class BinaryAutoencoder:
    """The network of one quality, for inference only; `tensors` are those of a FoldedNetwork."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]]) -> Self:
        """Build a network with these parameters, as `file.fold` names them."""
        own = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        last = f"g_s.{LAYERS - 1}"
        own[f"{last}.weight"], own[f"{last}.bias"] = sub_pixel(own[f"{last}.weight"]), own[f"{last}.bias"].repeat_interleave(4)
        return cls({name: _channels_last(value) for name, value in own.items()})

    def to(self, device: str) -> Self:
        """See `InferenceNetwork.to`."""
        return type(self)({name: value.to(device) for name, value in self._tensors.items()})

    def analysis(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1], h and w multiples of 8 -> symbols (n, M, h/8, w/8), int32."""
        ones = (self.latents(images) >= 0).to(torch.int32)
        return (3 * ones[:, 0::2] + ones[:, 1::2] - 2) * self._tensors["active"].to(torch.int32)[:, None, None]

    def latents(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> the latents (n, 2 M, h/8, w/8) of whose signs `analysis` makes bits."""
        x = _channels_last(images)
        for i in range(LAYERS):
            x = F.conv2d(x.relu_() if i else x, *self._layer(f"g_a.{i}"), 2, 2)
        return x

    def synthesis(self, symbols: Tensor) -> Tensor:
        """Symbols (n, M, h/8, w/8), int32 -> images (n, 3, h, w) in about [0, 1], not clipped."""
        x = _channels_last(bits_of(symbols).float())
        for i in range(LAYERS - 1):
            x = F.conv_transpose2d(x, *self._layer(f"g_s.{i}"), 2, 2, 1).relu_()
        return F.pixel_shuffle(F.conv2d(x, *self._layer(f"g_s.{LAYERS - 1}"), 1, 1), 2)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]


def bits_of(symbols: Tensor) -> Tensor:
    """Symbols (n, M, h, w), from -2 to 2 -> bits (n, 2 M, h, w), -1 or 1, or 0 where the symbol is; the inverse of packing."""
    first = symbols.sign()
    return torch.stack((first, 2 * symbols - 3 * first), 2).flatten(1, 2)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
