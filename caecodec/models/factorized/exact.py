"""The synthesis in integers, so that every machine decodes the same values (FORMAT.md, 10: Exact reconstruction).

    symbols ── + medians ── conv' ── IGDN ── conv' ── IGDN ── conv' ── IGDN ── conv' ── levels

In: symbols as int32 (n, M, h, w). Out: reconstruction planes as int32 (n, 3, 16 h, 16 w) in 0 ... levels.

All values are integers held in float64, and no sum exceeds 2^52 in any order of summation, so the result does not depend on
the machine, the BLAS, threads, tiles or batches. This is proven for each weights file when it is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...chunks import tiling
from ...errors import WeightsError
from .family import HALO, STRIDE, pixel_bytes

LATENT_BITS = 10  # a latent is its integer times 2^-10
LATENT_WEIGHT_BITS = 22
WEIGHT_BITS = 18
ACTIVATION_BITS = 14
SQUARE_BITS = 14
GAMMA_BITS = 16
NORM_BITS = SQUARE_BITS + GAMMA_BITS  # even, because the square root has half as many
SHIFT = WEIGHT_BITS  # turns a convolution's sums into activations
HALF = 2.0 ** (SHIFT - 1)
OUTPUT_BITS = ACTIVATION_BITS + WEIGHT_BITS  # scale of the last convolution's sums
INPUT_LIMIT = 2**24  # largest latent, and largest output of an IGDN
NORM_INPUT_LIMIT = 2**22  # largest input of an IGDN
SUM_LIMIT = 2**52
STRIP_POSITIONS = 2**9  # input positions whose output stays in a CPU's cache

# Row 2 m + p of a transposed convolution's output is the sum over j of kernel row 2 j + p times input row m + 1 - j. The four
# phases (p, q) of rows and columns are columns of one matrix, ordered so that the phases of every shift are consecutive.
_PHASES = ((1, 0), (0, 0), (0, 1), (1, 1))


@dataclass(frozen=True, eq=False)
class _Layer:
    """One transposed convolution of stride 2.

    taps : for each of nine shifts, its row and column in the padded input, 0 to 2, its first matrix column, and its weights
        (inputs, phases x outputs)
    bias : (4 x outputs,), including half a unit in the last place of the result for rounding
    """

    taps: tuple[tuple[int, int, int, Tensor], ...]
    bias: Tensor


@dataclass(frozen=True, eq=False)
class _Norm:
    """Inverse GDN, with gamma (inputs, outputs) and beta (outputs,)."""

    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True, eq=False)
class ExactSynthesis:
    """The synthesis of one quality, with the same integers for every device, batch, tile and number of threads."""

    medians: Tensor
    layers: tuple[_Layer, ...]
    norms: tuple[_Norm, ...]

    @classmethod
    def build(cls, tensors: Mapping[str, npt.NDArray[np.float32]], device: str = "cpu") -> "ExactSynthesis":
        """Build the network from float32 parameters, named as in the state dict.

        Raises
        ------
        WeightsError
            A sum could exceed 2^52, the limit for exact sums in float64.
        """

        def place(values: npt.NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        layers, norms = [], []
        for i in range(4):
            name, last = f"g_s.{2 * i}", i == 3
            bits, before = (LATENT_WEIGHT_BITS, LATENT_BITS) if i == 0 else (WEIGHT_BITS, ACTIVATION_BITS)
            weight = _integers(tensors[f"{name}.weight"], bits)
            bias = _integers(tensors[f"{name}.bias"], bits + before)
            layers.append(_layer(name, weight, bias, 0 if last else HALF, place))
        for i in range(3):
            name = f"g_s.{2 * i + 1}"
            gamma = _integers(tensors[f"{name}.gamma"][:, :, 0, 0], GAMMA_BITS)
            beta = _integers(tensors[f"{name}.beta"], NORM_BITS) + np.floor(gamma.sum(axis=1) / 2)
            largest = gamma.sum(axis=1) * (NORM_INPUT_LIMIT**2 / 2 ** (2 * ACTIVATION_BITS - SQUARE_BITS)) + beta
            if not (gamma.min() >= 0 and beta.min() >= 0 and largest.max() < SUM_LIMIT):
                raise _refusal(name)
            norms.append(_Norm(place(gamma.T), place(beta)))
        medians = _integers(tensors["medians"], LATENT_BITS)
        if not np.abs(medians).max() < SUM_LIMIT:
            raise _refusal("medians")
        return cls(place(medians), tuple(layers), tuple(norms))

    def run(self, symbols: npt.NDArray[np.int32], levels: int, memory: int = 2**30) -> npt.NDArray[np.int32]:
        """Symbols (n, M, h, w) -> planes (n, 3, 16 h, 16 w) in 0 ... levels, levels from 1 to 65535.

        Images run one after the other, in tiles if an image would take more than about `memory` bytes.
        """
        tile = tiling.tile_positions(
            memory // pixel_bytes(len(self.norms[0].beta), self.medians.device.type, exact=True), STRIDE, HALO
        )
        n, _, rows, columns = symbols.shape
        cut = tiling.tiles(rows, columns, tile, HALO)
        planes = np.empty((n, 3, STRIDE * rows, STRIDE * columns), np.int32)
        for image, out in zip(symbols, planes, strict=True):
            for part in cut:
                whole = self._image(torch.from_numpy(np.ascontiguousarray(image[:, *part.seen()])), levels).cpu().numpy()
                out[:, *part.place(STRIDE)] = whole[:, *part.kept(STRIDE)]
        return planes

    @torch.no_grad()
    def _image(self, symbols: Tensor, levels: int) -> Tensor:
        """Symbols (M, h, w) -> planes (3, 16 h, 16 w)."""
        values = symbols.to(self.medians.device).permute(1, 2, 0).to(torch.float64)
        values = values.mul_(2**LATENT_BITS).add_(self.medians).clamp_(-INPUT_LIMIT, INPUT_LIMIT)
        for i, layer in enumerate(self.layers):
            values = _grow(values, layer, self.norms[i] if i < 3 else levels)
        return values.permute(2, 0, 1).to(torch.int32)


def _integers(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float64]:
    """Round values to integer multiples of 2^-bits, halves to even."""
    return np.rint(values.astype(np.float64) * 2.0**bits)


def _refusal(name: str) -> WeightsError:
    return WeightsError(
        f"{name} has weights that are invalid or too large for the exact reconstruction, which max_error needs; "
        "use other weights, or leave max_error out"
    )


def _layer(name: str, weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], half: float, place: Any) -> _Layer:
    """A layer with integer weights (inputs, outputs, 5, 5) that adds `half`; WeightsError if a sum could reach 2^52."""
    outputs = weight.shape[1]
    for row, column in _PHASES:
        largest = np.abs(weight[:, :, row::2, column::2]).sum(axis=(0, 2, 3)) * INPUT_LIMIT + np.abs(bias) + HALF
        if not largest.max() < SUM_LIMIT:
            raise _refusal(name)
    taps = []
    for y in range(3):
        for x in range(3):
            there = [(p, q) for p, q in _PHASES if 2 * (2 - y) + p < 5 and 2 * (2 - x) + q < 5]
            parts = [weight[:, :, 2 * (2 - y) + p, 2 * (2 - x) + q] for p, q in there]
            taps.append((y, x, _PHASES.index(there[0]) * outputs, place(np.concatenate(parts, axis=1))))
    return _Layer(tuple(taps), place(np.tile(bias + half, 4)))


def _grow(values: Tensor, layer: _Layer, then: _Norm | int) -> Tensor:
    """Run one layer and the step after it, strip by strip: (h, w, inputs) -> (2 h, 2 w, outputs)."""
    height, width, inputs = values.shape
    outputs = len(layer.bias) // 4
    wide = width + 2
    # With rows one after the other, a shift is an offset. The last shift of the last row needs one position more.
    padded = values.new_zeros((height + 2) * wide + 2, inputs)
    padded[: (height + 2) * wide].view(height + 2, wide, inputs)[1:-1, 1:-1] = values
    out = values.new_empty(height, 2, width, 2, outputs)
    rows = max(1, STRIP_POSITIONS // wide) if values.device.type == "cpu" else height
    for start in range(0, height, rows):
        count = min(rows, height - start)
        sums = layer.bias.repeat(count * wide, 1)
        for y, x, column, weight in layer.taps:
            first = (start + y) * wide + x
            sums[:, column : column + weight.shape[1]].addmm_(padded[first : first + count * wide], weight)
        flat = sums.view(-1, outputs)
        strip = (_levels(flat, then) if isinstance(then, int) else _normalise(flat, then)).view(count, wide, 4, outputs)
        for phase, (p, q) in enumerate(_PHASES):
            out[start : start + count, p, :, q] = strip[:, :width, phase]
    return out.view(2 * height, 2 * width, outputs)


def _normalise(sums: Tensor, norm: _Norm) -> Tensor:
    """Sums of a convolution (positions, channels), with half a unit added -> activations after inverse GDN; in place."""
    x = sums.mul_(2.0**-SHIFT).floor_().clamp_(-NORM_INPUT_LIMIT, NORM_INPUT_LIMIT)
    squares = (x * x).mul_(2.0 ** (SQUARE_BITS - 2 * ACTIVATION_BITS)).floor_()
    root = torch.addmm(norm.beta, squares, norm.gamma).sqrt_().floor_().add_(0.5)
    y = x.mul_(root).mul_(2.0 ** -(NORM_BITS // 2)).add_(0.5).floor_()
    return y.clamp_(-INPUT_LIMIT, INPUT_LIMIT)


def _levels(sums: Tensor, levels: int) -> Tensor:
    """Sums of the last convolution -> the nearest of 0 ... levels; in place."""
    inside = sums.clamp_(0, 2.0**OUTPUT_BITS)
    return inside.mul_(levels).add_(2.0 ** (OUTPUT_BITS - 1)).mul_(2.0**-OUTPUT_BITS).floor_()
