"""Rate and distortion of latents and networks, and their gradients in closed form (torch).

Everything has a leading axis of b independent chunks, each with m pictures of C channels and a network of its own. The
levels of a picture lie beside each other in one array, its atlas, so that every step is one operation for all of them:

    level 0 | margin | level 1
                     | level 2 ...

Autograd would take about the same arithmetic, but several times as long: here nothing is recorded, and each gradient is a
matrix product over all positions. Names of parameters are those of `architecture`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .architecture import LEVELS, OFFSETS, level_sizes

MARGIN = max(abs(offset) for pair in OFFSETS for offset in pair)
LATENT_STEP = 16  # latents are divided by this before the synthesis
MIN_SCALE, MAX_SCALE = -5.0, 10.0  # log2 of the scales of Laplace distributions
MIN_PROBABILITY = 2.0**-16
_LN2 = math.log(2)
Parameters = dict[str, Tensor]


class Atlas:
    """Where the levels of a picture lie in one array of `height` x `width`."""

    def __init__(self, rows: int, columns: int, device: torch.device | str) -> None:
        self.sizes = level_sizes(rows, columns)
        right = columns + MARGIN
        self.corners = [(0, 0)]
        top = 0
        for height, _ in self.sizes[1:]:
            self.corners.append((top, right))
            top += height + MARGIN
        self.height, self.width = max(rows, top), right + self.sizes[1][1]
        self.mask = torch.zeros(self.height, self.width, device=device)
        for level in range(LEVELS):
            self.level(self.mask, level).fill_(1)

    def level(self, array: Tensor, level: int) -> Tensor:
        """The part of an array (..., height, width) that is this level: a view."""
        (top, left), (height, width) = self.corners[level], self.sizes[level]
        return array[..., top : top + height, left : left + width]


class Losses(NamedTuple):
    """Of each chunk (b,): mean squared error, bits per pixel of latents; gradients of distortion + lmbda * rate."""

    distortion: Tensor
    rate: Tensor
    latents: Tensor
    parameters: Parameters


class Objective:
    """What is minimised for pictures (b, m, C, height, width) in [0, 1]: mean squared error + lmbda * bits per pixel."""

    def __init__(self, pictures: Tensor, lmbda: float) -> None:
        self.pictures = pictures.transpose(1, 2).contiguous()
        self.lmbda = lmbda
        b, m, _, height, width = pictures.shape
        self.pixels = m * height * width
        self.atlas = Atlas(height, width, pictures.device)
        self.shape = (b, m, self.atlas.height, self.atlas.width)
        self._mask = self.atlas.mask.expand(m, -1, -1).reshape(1, -1)

    def losses(self, latents: Tensor, p: Parameters) -> Losses:
        """Both losses, and their gradients at latents (b, m, atlas) and parameters (b, ...)."""
        gradients: Parameters = {}
        inputs = self._inputs(latents, p["arm_w1"].shape[-1])
        first, second, out = _arm(inputs, p)
        bits, of_value, of_out = self._bits(latents, out)
        of_inputs = _arm_backward(inputs, first, second, of_out, p, gradients)
        synthesis = _Synthesis(self.atlas, latents, p)
        error = synthesis.images - self.pictures
        of_latents = synthesis.backward(error * (2 / error[0].numel()), gradients)
        of_latents += of_value.reshape(self.shape)
        self._add_inputs_backward(of_inputs, latents, of_latents)
        return Losses(error.square().flatten(1).mean(1), bits / self.pixels, of_latents, gradients)

    def measure(self, latents: Tensor, p: Parameters) -> tuple[Tensor, Tensor]:
        """Mean squared error and bits per pixel of each chunk."""
        out = _arm(self._inputs(latents, p["arm_w1"].shape[-1]), p)[2]
        error = _Synthesis(self.atlas, latents, p).images - self.pictures
        return error.square().flatten(1).mean(1), self._bits(latents, out)[0] / self.pixels

    def _inputs(self, latents: Tensor, count: int) -> Tensor:
        """The values that each probability depends on: (b, N, positions)."""
        b, m, height, width = self.shape
        padded = latents.new_zeros(b, m, height + MARGIN, width + 2 * MARGIN)
        padded[:, :, MARGIN:, MARGIN : MARGIN + width] = latents
        inputs = latents.new_empty(b, count, m, height, width)
        for i, (down, right) in enumerate(OFFSETS[: count - 1]):
            inputs[:, i] = padded[:, :, MARGIN + down : MARGIN + down + height, MARGIN + right : MARGIN + right + width]
        inputs[:, -1] = 0
        for level in range(LEVELS - 1):
            parent = self.atlas.level(latents, level + 1).abs()
            rows, columns = self.atlas.sizes[level]
            wide = parent.repeat_interleave(2, -1)[..., :columns]
            self.atlas.level(inputs[:, -1], level).copy_(wide.repeat_interleave(2, -2)[..., :rows, :])
        return inputs.reshape(b, count, -1)

    def _add_inputs_backward(self, of_inputs: Tensor, latents: Tensor, of_latents: Tensor) -> None:
        b, m, height, width = self.shape
        of_inputs = of_inputs.reshape(b, -1, m, height, width)
        padded = latents.new_zeros(b, m, height + MARGIN, width + 2 * MARGIN)
        for i, (down, right) in enumerate(OFFSETS[: of_inputs.shape[1] - 1]):
            padded[:, :, MARGIN + down : MARGIN + down + height, MARGIN + right : MARGIN + right + width] += of_inputs[:, i]
        of_latents += padded[:, :, MARGIN:, MARGIN : MARGIN + width]
        for level in range(LEVELS - 1):
            children = self.atlas.level(of_inputs[:, -1], level)
            rows, columns = self.atlas.sizes[level + 1]
            children = torch.nn.functional.pad(
                children, (0, 2 * columns - children.shape[-1], 0, 2 * rows - children.shape[-2])
            )
            total = children.reshape(b, m, rows, 2, columns, 2).sum((3, 5))
            self.atlas.level(of_latents, level + 1).addcmul_(total, self.atlas.level(latents, level + 1).sign())

    def _bits(self, latents: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bits of each chunk; the gradients of lmbda * rate at values (b, positions) and at the network's out."""
        distance = latents.reshape(len(latents), -1) - out[:, 0]
        log_scale = out[:, 1].clamp(MIN_SCALE, MAX_SCALE)
        inverse = torch.exp2(-log_scale)
        far, near = distance.abs() + 0.5, distance.abs() - 0.5
        far_tail, near_tail = torch.exp(-far * inverse), torch.exp(-near.abs() * inverse)
        mass = torch.where(near >= 0, near_tail - far_tail, 2 - near_tail - far_tail).mul_(0.5)
        kept = mass.clamp(min=MIN_PROBABILITY)
        bits = torch.log2(kept).mul_(self._mask).sum(1).neg_()
        common = (self._mask * (-self.lmbda / (_LN2 * self.pixels) / 2)).div(kept).masked_fill_(mass < MIN_PROBABILITY, 0)
        common *= inverse
        of_value = (far_tail - near_tail).mul_(common).mul_(distance.sign())
        of_scale = (near * near_tail).sub_(far * far_tail).mul_(common).mul_(_LN2).masked_fill_(log_scale != out[:, 1], 0)
        return bits, of_value, torch.stack((-of_value, of_scale), 1)


def _arm(inputs: Tensor, p: Parameters) -> tuple[Tensor, Tensor, Tensor]:
    """Both hidden layers and the result (b, 2, positions): mean, and log2 of the scale."""
    first = torch.baddbmm(p["arm_b1"][..., None], _residual(p["arm_w1"]), inputs).relu_()
    second = torch.baddbmm(p["arm_b2"][..., None], _residual(p["arm_w2"]), first).relu_()
    out = torch.baddbmm(p["arm_b3"][..., None], p["arm_w3"], second)
    return first, second, torch.baddbmm(out, p["arm_ws"], inputs)


def _arm_backward(
    inputs: Tensor, first: Tensor, second: Tensor, of_out: Tensor, p: Parameters, gradients: Parameters
) -> Tensor:
    gradients["arm_w3"], gradients["arm_b3"] = torch.bmm(of_out, second.mT), of_out.sum(2)
    gradients["arm_ws"] = torch.bmm(of_out, inputs.mT)
    of_second = torch.bmm(p["arm_w3"].mT, of_out).mul_(second > 0)
    gradients["arm_w2"], gradients["arm_b2"] = torch.bmm(of_second, first.mT), of_second.sum(2)
    of_first = torch.bmm(_residual(p["arm_w2"]).mT, of_second).mul_(first > 0)
    gradients["arm_w1"], gradients["arm_b1"] = torch.bmm(of_first, inputs.mT), of_first.sum(2)
    return torch.baddbmm(torch.bmm(p["arm_ws"].mT, of_out), _residual(p["arm_w1"]).mT, of_first)


def _residual(weight: Tensor) -> Tensor:
    return weight + torch.eye(weight.shape[-1], device=weight.device)


class _Synthesis:
    """The images (b, C, m, height, width) of latents, and what its gradient needs."""

    def __init__(self, atlas: Atlas, latents: Tensor, p: Parameters) -> None:
        self._atlas, self._p, self._shape = atlas, p, latents.shape
        self._steps: list[_Upsampled] = []
        scaled = latents / LATENT_STEP
        stack = atlas.level(scaled, LEVELS - 1)[:, None]
        for level in range(LEVELS - 2, -1, -1):
            step = _Upsampled(stack, _phases(p["up"][:, level]), atlas.sizes[level])
            self._steps.append(step)
            stack = torch.cat((atlas.level(scaled, level)[:, None], step.result), 1)
        b, m = latents.shape[:2]
        self._stack = stack.reshape(b, LEVELS, -1)
        self._hidden = torch.baddbmm(p["syn_b1"][..., None], p["syn_w1"], self._stack).relu_()
        values = torch.baddbmm(p["syn_b2"][..., None], p["syn_w2"], self._hidden)
        values = torch.baddbmm(values, p["syn_ws"], self._stack)
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._planes = (b, values.shape[1], m, *atlas.sizes[0])
        for i in range(p["res_w"].shape[1]):
            patches = _patches(values.reshape(self._planes))
            values = torch.baddbmm(p["res_b"][:, i, :, None], self._kernel(i), patches).add_(values)
            if i < p["res_w"].shape[1] - 1:
                values.relu_()
            self._layers.append((patches, values))
        self.images = values.reshape(self._planes)

    def _kernel(self, layer: int) -> Tensor:
        weight = self._p["res_w"][:, layer]
        return weight.permute(0, 1, 3, 4, 2).reshape(*weight.shape[:2], -1)

    def backward(self, of_images: Tensor, gradients: Parameters) -> Tensor:
        """The gradient at the latents; those of the parameters are put into `gradients`."""
        p, (b, channels) = self._p, self._planes[:2]
        gradient = of_images.reshape(b, channels, -1)
        weights, biases = [], []
        for i in range(len(self._layers) - 1, -1, -1):
            patches, values = self._layers[i]
            if i < len(self._layers) - 1:
                gradient = gradient * (values > 0)
            weights.append(torch.bmm(gradient, patches.mT).reshape(b, channels, 3, 3, channels).permute(0, 1, 4, 2, 3))
            biases.append(gradient.sum(2))
            of_patches = torch.bmm(self._kernel(i).mT, gradient)
            gradient = gradient + _patches_backward(of_patches, self._planes).reshape(b, channels, -1)
        gradients["res_w"], gradients["res_b"] = torch.stack(weights[::-1], 1), torch.stack(biases[::-1], 1)
        gradients["syn_w2"], gradients["syn_b2"] = torch.bmm(gradient, self._hidden.mT), gradient.sum(2)
        gradients["syn_ws"] = torch.bmm(gradient, self._stack.mT)
        of_hidden = torch.bmm(p["syn_w2"].mT, gradient).mul_(self._hidden > 0)
        gradients["syn_w1"], gradients["syn_b1"] = torch.bmm(of_hidden, self._stack.mT), of_hidden.sum(2)
        of_stack = torch.baddbmm(torch.bmm(p["syn_ws"].mT, gradient), p["syn_w1"].mT, of_hidden)
        of_stack = of_stack.reshape(b, LEVELS, *self._planes[2:])
        of_latents = of_stack.new_zeros(self._shape)
        taps = []
        for level, step in enumerate(reversed(self._steps)):
            self._atlas.level(of_latents, level).copy_(of_stack[:, 0])
            of_stack, of_phases = step.backward(of_stack[:, 1:])
            taps.append(_phases_backward(of_phases))
        self._atlas.level(of_latents, LEVELS - 1).copy_(of_stack[:, 0])
        gradients["up"] = torch.stack(taps, 1)
        return of_latents.div_(LATENT_STEP)


class _Upsampled:
    """Planes (b, c, m, h, w) at twice the size: rows first, then columns, cut to `size`."""

    def __init__(self, planes: Tensor, phases: Tensor, size: tuple[int, int]) -> None:
        self._phases = phases
        rows = _neighbours(planes, 3)
        tall = _interleave(torch.bmm(phases, rows), planes.shape, 3, size[0])
        columns = _neighbours(tall, 4)
        self.result = _interleave(torch.bmm(phases, columns), tall.shape, 4, size[1])
        self._saved = ((columns, tall.shape, 4), (rows, planes.shape, 3))

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients at the planes and at the phases."""
        of_phases = torch.zeros_like(self._phases)
        for neighbours, shape, axis in self._saved:
            halves = _deinterleave(gradient, shape, axis)
            of_phases.baddbmm_(halves, neighbours.mT)
            gradient = _neighbours_backward(torch.bmm(self._phases.mT, halves), shape, axis)
        return gradient, of_phases


def _phases(taps: Tensor) -> Tensor:
    """The taps (b, 4) of one level as a matrix (b, 2, 5): even and odd results from the five nearest values."""
    a, b, c, d = taps.unbind(1)
    none = torch.zeros_like(a)
    return torch.stack((torch.stack((a, c, d, b, none), 1), torch.stack((none, b, d, c, a), 1)), 1)


def _phases_backward(gradient: Tensor) -> Tensor:
    even, odd = gradient.unbind(1)
    return torch.stack((even[:, 0] + odd[:, 4], even[:, 3] + odd[:, 1], even[:, 1] + odd[:, 3], even[:, 2] + odd[:, 2]), 1)


def _neighbours(planes: Tensor, axis: int) -> Tensor:
    """(b, 5, values): what lies -2 to 2 along an axis, the first and last repeated."""
    size = planes.shape[axis]
    first, last = planes.narrow(axis, 0, 1), planes.narrow(axis, size - 1, 1)
    padded = torch.cat((first, first, planes, last, last), axis)
    return torch.stack([padded.narrow(axis, tap, size) for tap in range(5)], 1).flatten(2)


def _neighbours_backward(gradient: Tensor, shape: torch.Size, axis: int) -> Tensor:
    size = shape[axis]
    gradient = gradient.reshape(shape[0], 5, *shape[1:])
    padded = gradient.new_zeros(*shape[:axis], size + 4, *shape[axis + 1 :])
    for tap in range(5):
        padded.narrow(axis, tap, size).add_(gradient[:, tap])
    out = padded.narrow(axis, 2, size)
    out.narrow(axis, 0, 1).add_(padded.narrow(axis, 0, 2).sum(axis, keepdim=True))
    out.narrow(axis, size - 1, 1).add_(padded.narrow(axis, size + 2, 2).sum(axis, keepdim=True))
    return out


def _interleave(halves: Tensor, shape: torch.Size, axis: int, size: int) -> Tensor:
    """Even and odd results (b, 2, values) one after the other along an axis, cut to `size`."""
    pairs = halves.reshape(shape[0], 2, *shape[1:]).movedim(1, axis + 1)
    return pairs.reshape(*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]).narrow(axis, 0, size)


def _deinterleave(gradient: Tensor, shape: torch.Size, axis: int) -> Tensor:
    size, missing = shape[axis], 2 * shape[axis] - gradient.shape[axis]
    if missing:
        gradient = torch.cat((gradient, gradient.new_zeros(*shape[:axis], missing, *gradient.shape[axis + 1 :])), axis)
    pairs = gradient.reshape(*shape[:axis], size, 2, *gradient.shape[axis + 1 :])
    return pairs.movedim(axis + 1, 1).flatten(2)


def _patches(planes: Tensor) -> Tensor:
    """(b, 9 C, values): the 3x3 values around each, those at the border repeated."""
    b, c, m, height, width = planes.shape
    padded = planes.new_empty(b, c, m, height + 2, width + 2)
    padded[..., 1:-1, 1:-1] = planes
    padded[..., 0, 1:-1], padded[..., -1, 1:-1] = planes[..., 0, :], planes[..., -1, :]
    padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]
    patches = planes.new_empty(b, 9, c, m, height, width)
    for tap in range(9):
        patches[:, tap] = padded[..., tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width]
    return patches.reshape(b, 9 * c, -1)


def _patches_backward(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    b, c, m, height, width = shape
    gradient = gradient.reshape(b, 9, c, m, height, width)
    padded = gradient.new_zeros(b, c, m, height + 2, width + 2)
    for tap in range(9):
        padded[..., tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width] += gradient[:, tap]
    padded[..., 1] += padded[..., 0]
    padded[..., -2] += padded[..., -1]
    padded[..., 1, :] += padded[..., 0, :]
    padded[..., -2, :] += padded[..., -1, :]
    return padded[..., 1:-1, 1:-1]
