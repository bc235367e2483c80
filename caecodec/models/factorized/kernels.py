"""GDN as a Triton kernel: a program normalises a tile of positions, all channels of them."""

import triton
import triton.language as tl


@triton.jit
def _tile(x, bias, position, channel, positions, channels):
    """Load x + bias in float32; zeros where there are no such channels."""
    there = channel < channels
    inside = (position < positions)[:, None] & there[None, :]
    values = tl.load(x + position[:, None] * channels + channel[None, :], mask=inside, other=0).to(tl.float32)
    if bias is not None:
        values += tl.load(bias + channel, mask=there, other=0)[None, :]
    return values


@triton.jit(do_not_specialize=["positions"])
def normalise(
    x, bias, gamma, beta, out, positions,
    inverse: tl.constexpr, precision: tl.constexpr,
    channels: tl.constexpr, padded: tl.constexpr, block: tl.constexpr, step: tl.constexpr,
):  # fmt: skip
    """Write x / sqrt(beta + gamma x^2), or x * sqrt(beta + gamma x^2), of x + bias.

    x, out : (positions, channels), float32 or bfloat16
    bias, beta : (channels,) float32; there may be no bias
    gamma : (outputs, inputs) float32, as many as channels; `precision` is that of its product with the squares
    padded, block, step : channels rounded up to a power of two; positions of a program; channels that are squared at once
    """
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    channel = tl.arange(0, padded)
    there = channel < channels
    norm = tl.zeros([block, padded], tl.float32) + tl.load(beta + channel, mask=there, other=1)[None, :]
    for first in range(0, channels, step):
        inputs = first + tl.arange(0, step)
        values = _tile(x, bias, position, inputs, positions, channels)
        known = (inputs < channels)[:, None] & there[None, :]
        factors = tl.load(gamma + channel[None, :] * channels + inputs[:, None], mask=known, other=0)  # transposed
        norm = tl.dot(values * values, factors, norm, input_precision=precision)
    values = _tile(x, bias, position, channel, positions, channels)  # from the cache
    values *= tl.sqrt(norm) if inverse else tl.rsqrt(norm)
    inside = (position < positions)[:, None] & there[None, :]
    tl.store(out + position[:, None] * channels + channel[None, :], values.to(out.dtype.element_ty), mask=inside)
