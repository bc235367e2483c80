"""Scale, shift and GDN of a layer's output as one operation with its own gradient.

    rows (n, P, C) ── x = rows * scale + shift ── norm = beta + x^2 gamma' ── x * norm^-1/2, or x * norm^1/2

Each sample has its own scale and shift (n, C). The gradient of autograd would pass over memory several times more. Between the
matrix products there are only point-wise functions, each of which torch.compile turns into one pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


def _begin(rows: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    x = torch.addcmul(shift[:, None], rows, scale[:, None]).to(rows.dtype)
    return x, x * x


def _finish(x: Tensor, norm: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    factor = norm.sqrt() if inverse else norm.rsqrt()
    return x * factor, factor


def _slope(gradient: Tensor, x: Tensor, factor: Tensor, inverse: bool) -> Tensor:
    """Twice the gradient with respect to the norm."""
    product = gradient * x
    return product / factor if inverse else -product * factor * factor * factor


def _of_input(gradient: Tensor, x: Tensor, factor: Tensor, through_norm: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    of_x = torch.addcmul(gradient * factor, x, through_norm)
    return (of_x * scale[:, None]).to(of_x.dtype), of_x


def _row_product(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b (n, P, C) over rows: (n, C), float32."""
    return (a * b).sum(1, dtype=torch.float32)


class Pointwise(NamedTuple):
    """The point-wise functions between the matrix products."""

    begin: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = _begin
    finish: Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]] = _finish
    slope: Callable[[Tensor, Tensor, Tensor, bool], Tensor] = _slope
    of_input: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = _of_input
    row_product: Callable[[Tensor, Tensor], Tensor] = _row_product

    def compiled(self) -> "Pointwise":
        """The same functions through torch.compile, which needs a C compiler, and Triton on CUDA; first calls compile."""
        parts: list[Any] = [torch.compile(part, dynamic=True) for part in self]
        return Pointwise(*parts)


EAGER = Pointwise()


class ModulatedNormalisation(torch.autograd.Function):
    """(rows (n, P, C), scale (n, C), shift (n, C), beta (C,), gamma (C, C), inverse, parts) -> rows.

    scale and shift are float32; the other tensors have the dtype of rows.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, scale: Tensor, shift: Tensor, beta: Tensor, gamma: Tensor, inverse: bool, parts: Pointwise
    ) -> Tensor:
        """Compute the result."""
        x, square = parts.begin(rows, scale, shift)
        norm = torch.addmm(beta, square.view(-1, rows.shape[2]), gamma.t()).view(rows.shape)
        normalised, factor = parts.finish(x, norm, inverse)
        ctx.save_for_backward(x, square, factor, gamma, scale, shift)
        ctx.inverse, ctx.parts = inverse, parts
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the first five arguments."""
        x, square, factor, gamma, scale, shift = ctx.saved_tensors
        (gradient,), parts = gradients, ctx.parts
        gradient = gradient.contiguous()
        channels = x.shape[2]
        slope = parts.slope(gradient, x, factor, ctx.inverse)
        flat = slope.view(-1, channels)
        of_rows, of_x = parts.of_input(gradient, x, factor, torch.mm(flat, gamma).view(x.shape), scale)
        of_gamma = torch.mm(flat.t(), square.view(-1, channels)) / 2
        of_beta = slope.sum((0, 1), dtype=torch.float32) / 2
        of_shift = of_x.sum(1, dtype=torch.float32)
        of_scale = (parts.row_product(of_x, x) - shift * of_shift) / scale  # because rows = (x - shift) / scale
        return of_rows, of_scale, of_shift, of_beta.to(x.dtype), of_gamma, None, None
