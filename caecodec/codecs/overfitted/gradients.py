"""Rate and distortion of latents and networks, and their gradients in closed form (torch).

Everything has a leading axis of b independent chunks, each with m pictures of C channels and a network of its own. The
levels of a picture lie beside each other in one array, its atlas, so that every step is one operation for all of them:

    level 0 | margin | level 1
                     | level 2 ...

Autograd would do about the same arithmetic, but take several times as long. Here nothing is recorded, each gradient is a matrix
product over all positions, and all large arrays reuse the memory of the last iteration, because fresh memory would cost two
thirds of the time of everything else. Names of parameters are those of `architecture`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...engine.forks import no_fork
from .architecture import LEVELS, OFFSETS, level_sizes
from .scratch import Scratch

MARGIN = max(abs(offset) for pair in OFFSETS for offset in pair)
LATENT_STEP = 16  # latents are divided by this before the synthesis
MIN_SCALE, MAX_SCALE = -5.0, 10.0  # log2 of the scales of Laplace distributions
DEAD = 0.01  # a channel is cut off if a smaller fraction of its values is above 0
MIN_PROBABILITY = 2.0**-16
_LN2 = math.log(2)
ParameterTensors = dict[str, Tensor]


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
    """Mean squared error and bits per pixel of latents, of each chunk (b,); and the gradients of distortion + lmbda * rate.

    The next call overwrites the gradient at latents.
    """

    distortion: Tensor
    rate: Tensor
    latents: Tensor
    parameters: ParameterTensors


class Objective:
    """The objective for pictures (b, m, C, height, width) in [0, 1]: mean squared error + lmbda * bits per pixel.

    revive : give a channel that a residual layer cuts off at 0 nearly everywhere the gradient that it would have uncut.
        Otherwise it would have none, and stay cut off
    """

    def __init__(self, pictures: Tensor, lmbda: float, revive: bool = False) -> None:
        self._revive = revive
        self.pictures = pictures.transpose(1, 2).contiguous()
        self.lmbda = lmbda
        b, m, _, height, width = pictures.shape
        self.pixels = m * height * width
        self.atlas = Atlas(height, width, pictures.device)
        self.shape = (b, m, self.atlas.height, self.atlas.width)
        self._mask = self.atlas.mask.expand(m, -1, -1).reshape(1, -1)
        self._scratch = Scratch(pictures)

    @no_fork()
    def losses(self, latents: Tensor, p: ParameterTensors) -> Losses:
        """Both losses, and their gradients at latents (b, m, atlas) and parameters (b, ...)."""
        gradients: ParameterTensors = {}
        self._scratch.reset()
        inputs = self._inputs(latents, p["arm_w1"].shape[-1])
        arm = _Arm(inputs, p, self._scratch)
        bits, of_value, of_out = self._bits(latents, arm.out)
        of_inputs = arm.backward(of_out, gradients)
        synthesis = _Synthesis(self.atlas, latents, p, self._scratch)
        error = synthesis.images.sub_(self.pictures)
        distortion = torch.linalg.vector_norm(error.flatten(1), dim=1).square() / error[0].numel()
        of_latents = synthesis.backward(error.mul_(2 / error[0].numel()), gradients, self._revive)
        of_latents += of_value.reshape(self.shape)
        self._add_inputs_backward(of_inputs, latents, of_latents)
        return Losses(distortion, bits / self.pixels, of_latents, gradients)

    @no_fork()
    def measure(self, latents: Tensor, p: ParameterTensors) -> tuple[Tensor, Tensor]:
        """Mean squared error and bits per pixel of each chunk."""
        self._scratch.reset()
        out = _Arm(self._inputs(latents, p["arm_w1"].shape[-1]), p, self._scratch).out
        bits = self._bits(latents, out)[0]
        error = _Synthesis(self.atlas, latents, p, self._scratch).images.sub_(self.pictures)
        return torch.linalg.vector_norm(error.flatten(1), dim=1).square() / error[0].numel(), bits / self.pixels

    def _inputs(self, latents: Tensor, count: int) -> Tensor:
        """The values that each probability depends on: (b, N, positions)."""
        b, m, height, width = self.shape
        padded = self._scratch.take(b, m, height + MARGIN, width + 2 * MARGIN).zero_()
        padded[:, :, MARGIN:, MARGIN : MARGIN + width] = latents
        inputs = self._scratch.take(b, count, m, height, width)
        for i, (down, right) in enumerate(OFFSETS[: count - 1]):
            inputs[:, i] = padded[:, :, MARGIN + down : MARGIN + down + height, MARGIN + right : MARGIN + right + width]
        inputs[:, -1] = 0
        for level in range(LEVELS - 1):
            parent = self.atlas.level(latents, level + 1).abs()
            (rows, columns), (high, wide) = self.atlas.sizes[level], parent.shape[2:]
            doubled = parent[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(b, m, 2 * high, 2 * wide)
            self.atlas.level(inputs[:, -1], level).copy_(doubled[..., :rows, :columns])
        return inputs.reshape(b, count, -1)

    def _add_inputs_backward(self, of_inputs: Tensor, latents: Tensor, of_latents: Tensor) -> None:
        b, m, height, width = self.shape
        of_inputs = of_inputs.reshape(b, -1, m, height, width)
        padded = self._scratch.take(b, m, height + MARGIN, width + 2 * MARGIN).zero_()
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
        """Bits of each chunk, and the gradients of lmbda * rate at values (b, positions) and at the network's output."""
        take, shape = self._scratch.take, (len(latents), out.shape[2])
        distance = torch.sub(latents.reshape(shape), out[:, 0], out=take(*shape))
        log_scale = torch.clamp(out[:, 1], MIN_SCALE, MAX_SCALE, out=take(*shape))
        inverse = torch.neg(log_scale, out=take(*shape)).exp2_()
        far = torch.abs(distance, out=take(*shape)).add_(0.5)
        near = torch.sub(far, 1, out=take(*shape))
        far_tail = torch.mul(far, inverse, out=take(*shape)).neg_().exp_()
        near_tail = torch.abs(near, out=take(*shape)).mul_(inverse).neg_().exp_()
        outside = torch.sub(near_tail, far_tail, out=take(*shape))
        inside = torch.add(near_tail, far_tail, out=take(*shape)).neg_().add_(2)
        mass = torch.where(near >= 0, outside, inside, out=take(*shape)).mul_(0.5)
        kept = torch.clamp(mass, min=MIN_PROBABILITY, out=take(*shape))
        bits = torch.log2(kept, out=inside).mul_(self._mask).sum(1).neg_()
        common = torch.reciprocal(kept, out=take(*shape)).mul_(self._mask).mul_(inverse)
        common.mul_(-self.lmbda / (_LN2 * self.pixels) / 2).masked_fill_(mass < MIN_PROBABILITY, 0)
        of_value = outside.neg_().mul_(common).mul_(distance.sign_())
        of_scale = near.mul_(near_tail).sub_(far.mul_(far_tail)).mul_(common).mul_(_LN2).masked_fill_(log_scale != out[:, 1], 0)
        of_out = take(len(latents), 2, shape[1])
        torch.neg(of_value, out=of_out[:, 0])
        of_out[:, 1] = of_scale
        return bits, of_value, of_out


class _Arm:
    """The output (b, 2, positions) of the probability network, mean and log2 of the scale, and what its gradient needs."""

    def __init__(self, inputs: Tensor, p: ParameterTensors, scratch: Scratch) -> None:
        self._p, self._inputs, self._scratch = p, inputs, scratch
        self._first = scratch.affine(p["arm_b1"], _residual(p["arm_w1"]), inputs).relu_()
        self._second = scratch.affine(p["arm_b2"], _residual(p["arm_w2"]), self._first).relu_()
        self.out = scratch.affine(p["arm_b3"], p["arm_w3"], self._second).baddbmm_(p["arm_ws"], inputs)

    def backward(self, of_out: Tensor, gradients: ParameterTensors) -> Tensor:
        """The gradient at the inputs; those of the parameters are put into `gradients`."""
        p, product = self._p, self._scratch.product
        gradients["arm_w3"], gradients["arm_b3"] = torch.bmm(of_out, self._second.mT), of_out.sum(2)
        gradients["arm_ws"] = torch.bmm(of_out, self._inputs.mT)
        of_second = _relu_backward(product(p["arm_w3"].mT, of_out), self._second)
        gradients["arm_w2"], gradients["arm_b2"] = torch.bmm(of_second, self._first.mT), of_second.sum(2)
        of_first = _relu_backward(product(_residual(p["arm_w2"]).mT, of_second), self._first)
        gradients["arm_w1"], gradients["arm_b1"] = torch.bmm(of_first, self._inputs.mT), of_first.sum(2)
        return product(p["arm_ws"].mT, of_out).baddbmm_(_residual(p["arm_w1"]).mT, of_first)


def _residual(weight: Tensor) -> Tensor:
    return weight + torch.eye(weight.shape[-1], device=weight.device)


def _relu_backward(gradient: Tensor, result: Tensor) -> Tensor:
    """Set the gradient to 0, in place, where the result is not above 0."""
    threshold_backward = torch.ops.aten.threshold_backward  # untyped, as all of torch.ops
    out: Tensor = threshold_backward.grad_input(gradient, result, 0, grad_input=gradient)
    return out


class _Synthesis:
    """The images (b, C, m, height, width) of latents, and what its gradient needs."""

    def __init__(self, atlas: Atlas, latents: Tensor, p: ParameterTensors, scratch: Scratch) -> None:
        self._atlas, self._p, self._shape, self._scratch = atlas, p, latents.shape, scratch
        self._steps: list[_Upsampled] = []
        scaled = torch.div(latents, LATENT_STEP, out=scratch.take(*latents.shape))
        stack = atlas.level(scaled, LEVELS - 1)[:, None]
        for level in range(LEVELS - 2, -1, -1):
            step = _Upsampled(stack, _phases(p["up"][:, level]), atlas.sizes[level], scratch)
            self._steps.append(step)
            own = atlas.level(scaled, level)[:, None]
            stack = scratch.join((own, step.result), 1)
        b, m = latents.shape[:2]
        self._stack = stack.reshape(b, LEVELS, -1)
        self._hidden = scratch.affine(p["syn_b1"], p["syn_w1"], self._stack).relu_()
        values = scratch.affine(p["syn_b2"], p["syn_w2"], self._hidden).baddbmm_(p["syn_ws"], self._stack)
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._planes = (b, values.shape[1], m, *atlas.sizes[0])
        for i in range(p["res_w"].shape[1]):
            patches = _patches(values.reshape(self._planes), scratch)
            values = scratch.affine(p["res_b"][:, i], self._kernel(i), patches).add_(values)
            if i < p["res_w"].shape[1] - 1:
                values.relu_()
            self._layers.append((patches, values))
        self.images = values.reshape(self._planes)

    def _kernel(self, layer: int) -> Tensor:
        weight = self._p["res_w"][:, layer]
        return weight.permute(0, 1, 3, 4, 2).reshape(*weight.shape[:2], -1)

    def backward(self, of_images: Tensor, gradients: ParameterTensors, revive: bool) -> Tensor:
        """The gradient at the latents; those of the parameters are put into `gradients`. The images may be overwritten."""
        p, (b, channels), scratch = self._p, self._planes[:2], self._scratch
        gradient = of_images.reshape(b, channels, -1)
        weights, biases = [], []
        for i in range(len(self._layers) - 1, -1, -1):
            patches, values = self._layers[i]
            if i < len(self._layers) - 1:
                kept = values > 0
                if revive:
                    kept |= kept.sum(2, keepdim=True) < DEAD * kept.shape[2]
                gradient.mul_(kept)
            weights.append(torch.bmm(gradient, patches.mT).reshape(b, channels, 3, 3, channels).permute(0, 1, 4, 2, 3))
            biases.append(gradient.sum(2))
            of_patches = scratch.product(self._kernel(i).mT, gradient)
            gradient = _patches_backward(of_patches, self._planes, scratch).reshape(b, channels, -1).add_(gradient)
        gradients["res_w"], gradients["res_b"] = torch.stack(weights[::-1], 1), torch.stack(biases[::-1], 1)
        gradients["syn_w2"], gradients["syn_b2"] = torch.bmm(gradient, self._hidden.mT), gradient.sum(2)
        gradients["syn_ws"] = torch.bmm(gradient, self._stack.mT)
        of_hidden = _relu_backward(scratch.product(p["syn_w2"].mT, gradient), self._hidden)
        gradients["syn_w1"], gradients["syn_b1"] = torch.bmm(of_hidden, self._stack.mT), of_hidden.sum(2)
        of_stack = scratch.product(p["syn_ws"].mT, gradient).baddbmm_(p["syn_w1"].mT, of_hidden)
        of_stack = of_stack.reshape(b, LEVELS, *self._planes[2:])
        of_latents = scratch.take(*self._shape).zero_()
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

    def __init__(self, planes: Tensor, phases: Tensor, size: tuple[int, int], scratch: Scratch) -> None:
        self._phases, self._scratch = phases, scratch
        rows = _neighbours(planes, 3, scratch)
        tall = _interleave(scratch.product(phases, rows), planes.shape, 3, size[0], scratch)
        columns = _neighbours(tall, 4, scratch)
        self.result = _interleave(scratch.product(phases, columns), tall.shape, 4, size[1], scratch)
        self._saved = ((columns, tall.shape, 4), (rows, planes.shape, 3))

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients at the planes and at the phases."""
        of_phases = torch.zeros_like(self._phases)
        for neighbours, shape, axis in self._saved:
            halves = _deinterleave(gradient, shape, axis, self._scratch)
            of_phases.baddbmm_(halves, neighbours.mT)
            of_neighbours = self._scratch.product(self._phases.mT, halves)
            gradient = _neighbours_backward(of_neighbours, shape, axis, self._scratch)
        return gradient, of_phases


def _phases(taps: Tensor) -> Tensor:
    """The taps (b, 4) of one level as a matrix (b, 2, 5): even and odd results from the five nearest values."""
    a, b, c, d = taps.unbind(1)
    none = torch.zeros_like(a)
    return torch.stack((torch.stack((a, c, d, b, none), 1), torch.stack((none, b, d, c, a), 1)), 1)


def _phases_backward(gradient: Tensor) -> Tensor:
    even, odd = gradient.unbind(1)
    return torch.stack((even[:, 0] + odd[:, 4], even[:, 3] + odd[:, 1], even[:, 1] + odd[:, 3], even[:, 2] + odd[:, 2]), 1)


def _neighbours(planes: Tensor, axis: int, scratch: Scratch) -> Tensor:
    """(b, 5, values): the values at -2 to 2 along an axis, with the first and last repeated."""
    size = planes.shape[axis]
    first, last = planes.narrow(axis, 0, 1), planes.narrow(axis, size - 1, 1)
    padded = scratch.join((first, first, planes, last, last), axis)
    out = scratch.take(len(planes), 5, *planes.shape[1:])
    for tap in range(5):
        out[:, tap] = padded.narrow(axis, tap, size)
    return out.flatten(2)


def _neighbours_backward(gradient: Tensor, shape: torch.Size, axis: int, scratch: Scratch) -> Tensor:
    size = shape[axis]
    gradient = gradient.reshape(shape[0], 5, *shape[1:])
    padded = scratch.take(*shape[:axis], size + 4, *shape[axis + 1 :]).zero_()
    for tap in range(5):
        padded.narrow(axis, tap, size).add_(gradient[:, tap])
    out = padded.narrow(axis, 2, size)
    out.narrow(axis, 0, 1).add_(padded.narrow(axis, 0, 2).sum(axis, keepdim=True))
    out.narrow(axis, size - 1, 1).add_(padded.narrow(axis, size + 2, 2).sum(axis, keepdim=True))
    return out


def _interleave(halves: Tensor, shape: torch.Size, axis: int, size: int, scratch: Scratch) -> Tensor:
    """Even and odd results (b, 2, values) in turn along an axis, cut to `size`."""
    pairs = halves.reshape(shape[0], 2, *shape[1:]).movedim(1, axis + 1)
    out = scratch.take(*pairs.shape).copy_(pairs)
    return out.reshape(*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]).narrow(axis, 0, size)


def _deinterleave(gradient: Tensor, shape: torch.Size, axis: int, scratch: Scratch) -> Tensor:
    size, missing = shape[axis], 2 * shape[axis] - gradient.shape[axis]
    if missing:
        none = gradient.new_zeros(*shape[:axis], missing, *gradient.shape[axis + 1 :])
        gradient = scratch.join((gradient, none), axis)
    pairs = gradient.view(*shape[:axis], size, 2, *gradient.shape[axis + 1 :]).movedim(axis + 1, 1)
    return scratch.take(*pairs.shape).copy_(pairs).flatten(2)


def _patches(planes: Tensor, scratch: Scratch) -> Tensor:
    """(b, 9 C, values): the 3x3 values around each, with those at the border repeated."""
    b, c, m, height, width = planes.shape
    padded = scratch.take(b, c, m, height + 2, width + 2)
    padded[..., 1:-1, 1:-1] = planes
    padded[..., 0, 1:-1], padded[..., -1, 1:-1] = planes[..., 0, :], planes[..., -1, :]
    padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]
    patches = scratch.take(b, 9, c, m, height, width)
    for tap in range(9):
        patches[:, tap] = padded[..., tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width]
    return patches.reshape(b, 9 * c, -1)


def _patches_backward(gradient: Tensor, shape: tuple[int, ...], scratch: Scratch) -> Tensor:
    b, c, m, height, width = shape
    gradient = gradient.reshape(b, 9, c, m, height, width)
    padded = scratch.take(b, c, m, height + 2, width + 2).zero_()
    for tap in range(9):
        padded[..., tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width] += gradient[:, tap]
    padded[..., 1] += padded[..., 0]
    padded[..., -2] += padded[..., -1]
    padded[..., 1, :] += padded[..., 0, :]
    padded[..., -2, :] += padded[..., -1, :]
    return scratch.take(*shape).copy_(padded[..., 1:-1, 1:-1])
