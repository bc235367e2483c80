"""The network, folded into one quality for inference.

    x ── patches of 8x8 ── blocks ── merge 2x2 ── blocks ── y ── round ── symbols
    symbols ── blocks ── split 2x2 ── blocks ── patches of 8x8 ── x_hat

Every layer is a matrix product over positions, but for a depthwise 3x3 convolution in each block. Activations are rows (P, C),
one for each position, updated in place; on a CPU, images go through one by one, and products in parts that stay in cache.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import PATCH, VALUES

MAX_SYMBOL = 2**23
SLOPE = 0.1  # of the leaky ReLU
_FLOAT32 = ("g_a.patch.", "g_a.merge.", "g_a.latent.", "g_s.latent.", "g_s.patch.")  # layers in every precision
ROWS_AT_ONCE = 1024  # on a CPU, so that the wide activations of a block stay in cache


class Linear(NamedTuple):
    """A matrix product: rows (P, inputs) -> rows (P, outputs)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Compute in the precision of the weight."""
        return torch.addmm(self.bias, rows.to(self.weight.dtype), self.weight.t())


class FoldedBlock(NamedTuple):
    """Two residual branches: linear, activation, depthwise, linear; and linear, activation, linear."""

    spatial_in: Linear
    depthwise: Tensor
    spatial_out: Tensor
    channel_in: Linear
    channel_out: Tensor

    def __call__(self, x: Tensor, n: int, height: int, width: int) -> None:
        """Update rows x (n height width, C), in place."""
        channels = x.shape[1]
        hidden = F.leaky_relu_(self.spatial_in(x), SLOPE).view(n, height, width, channels).permute(0, 3, 1, 2)
        hidden = F.conv2d(hidden, self.depthwise, None, 1, 1, 1, channels).permute(0, 2, 3, 1)
        _add(x, hidden.reshape(x.shape), self.spatial_out)
        for part in torch.split(x, ROWS_AT_ONCE if x.device.type == "cpu" else len(x)):
            _add(part, F.leaky_relu_(self.channel_in(part), SLOPE), self.channel_out)


class DepthwiseResidual:
    """The network of one quality, for inference only; `tensors` are those of a FoldedNetwork."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._use(tensors)

    def _use(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these tensors, which the blocks hold as well."""
        self._tensors = dict(tensors)
        self._fine = {side: list(self._blocks(f"{side}.fine")) for side in ("g_a", "g_s")}
        self._coarse = {side: list(self._blocks(f"{side}.coarse")) for side in ("g_a", "g_s")}

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]]) -> Self:
        """Build a network with these parameters, as `file.fold` names them."""
        own = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        # Pixels of a patch are contiguous in memory with the colour last, so layers take and give them in this order.
        order = torch.arange(VALUES).view(3, PATCH * PATCH).t().flatten()
        own["g_a.patch.weight"] = own["g_a.patch.weight"][:, order].contiguous()
        for name in ("g_s.patch.weight", "g_s.patch.bias"):
            own[name] = own[name][order].contiguous()
        return cls({name: value[:, None] if name.endswith("depthwise.weight") else value for name, value in own.items()})

    def to(self, device: str) -> Self:
        """See `InferenceNetwork.to`."""
        return type(self)({name: value.to(device) for name, value in self._tensors.items()})

    def reduce_precision(self) -> None:
        """Run most of the blocks, and the synthesis between pixels and latents, in bfloat16.

        Training leaves many latents just below the half at which they are rounded up. So the sum of the analysis' branches, and
        the last branch before the latents, stay in float32, or else these latents turn into noise that costs bits.
        """
        low = {
            name: value.to(torch.bfloat16)
            for name, value in self._tensors.items()
            if not name.startswith(_FLOAT32) and not (name.startswith("g_a.coarse.") and ".channel_" in name)
        }
        self._use({**self._tensors, **low})

    def analysis(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1], h and w multiples of 16 -> symbols (n, M, h/16, w/16), int32."""
        return self.latents(images).round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL).to(torch.int32)

    def latents(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> the latents (n, M, h/16, w/16) that `analysis` rounds."""
        return _run(self._latents, images)

    def synthesis(self, symbols: Tensor) -> Tensor:
        """Symbols (n, M, h/16, w/16), int32 -> images (n, 3, h, w) in about [0, 1], not clipped."""
        return _run(self._synthesis, symbols)

    def _latents(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        rows, columns = height // PATCH, width // PATCH
        pixels = images.permute(0, 2, 3, 1).reshape(n, rows, PATCH, columns, 3 * PATCH).transpose(2, 3)
        x = self._linear("g_a.patch")(pixels.reshape(-1, VALUES))
        for block in self._fine["g_a"]:
            block(x, n, rows, columns)
        x = x.view(n, rows // 2, 2, columns // 2, 2 * x.shape[1]).transpose(2, 3).reshape(-1, 4 * x.shape[1])
        x = self._linear("g_a.merge")(x)
        for block in self._coarse["g_a"]:
            block(x, n, rows // 2, columns // 2)
        return self._linear("g_a.latent")(x).view(n, rows // 2, columns // 2, -1).permute(0, 3, 1, 2)

    def _synthesis(self, symbols: Tensor) -> Tensor:
        n, latent, rows, columns = symbols.shape
        x = self._linear("g_s.latent")(symbols.permute(0, 2, 3, 1).reshape(-1, latent))
        x = x.to(self._tensors["g_s.split.weight"].dtype)
        for block in self._coarse["g_s"]:
            block(x, n, rows, columns)
        x = self._linear("g_s.split")(x)
        x = x.view(n, rows, columns, 2, x.shape[1] // 2).transpose(2, 3).reshape(4 * len(x), -1)
        for block in self._fine["g_s"]:
            block(x, n, 2 * rows, 2 * columns)
        pixels = self._linear("g_s.patch")(x).view(n, 2 * rows, 2 * columns, PATCH, 3 * PATCH).transpose(2, 3)
        return pixels.reshape(n, 2 * rows * PATCH, 2 * columns * PATCH, 3).permute(0, 3, 1, 2)

    def _linear(self, name: str) -> Linear:
        return Linear(self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _blocks(self, prefix: str) -> Iterator[FoldedBlock]:
        number = 0
        while f"{prefix}.{number}.depthwise.weight" in self._tensors:
            name = f"{prefix}.{number}"
            yield FoldedBlock(
                self._linear(f"{name}.spatial_in"),
                self._tensors[f"{name}.depthwise.weight"],
                self._tensors[f"{name}.spatial_out.weight"],
                self._linear(f"{name}.channel_in"),
                self._tensors[f"{name}.channel_out.weight"],
            )
            number += 1


def _add(x: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add rows (P, inputs) weight^T to x (P, C), in place; x may be of higher precision."""
    if x.dtype == weight.dtype:
        x.addmm_(rows, weight.t())
    else:
        x.add_(torch.mm(rows, weight.t()))


def _run(step: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Run the images of a batch one by one on a CPU, for the sake of its cache, and together elsewhere."""
    return torch.cat([step(part) for part in torch.split(batch, 1)]) if batch.device.type == "cpu" else step(batch)
