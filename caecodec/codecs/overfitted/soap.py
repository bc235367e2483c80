"""SOAP (Vyas et al. 2024): Adam in the eigenbases of a matrix's gradients, here for many small networks at once (torch).

A network has a few hundred parameters, so that the bases cost little next to the gradients.
"""

import torch
from torch import Tensor

from ...engine.forks import no_fork
from .gradients import ParameterTensors

# Weights and biases with the same outputs lie side by side in one matrix.
MATRICES = (
    ("arm_w1", "arm_b1"),
    ("arm_w2", "arm_b2"),
    ("arm_w3", "arm_ws", "arm_b3"),
    ("up",),
    ("syn_w1", "syn_b1"),
    ("syn_w2", "syn_ws", "syn_b2"),
    ("res_w", "res_b"),
)
BETAS = (0.8, 0.9)
COVARIANCE = 0.95  # the weight of the previous covariance in each step
EVERY = 10  # steps between changes of the bases
WARM = 20  # steps until the full rate is reached
CLIP = 0.03  # the limit of the norm of a network's gradient
WIDTH = 16  # a matrix with more columns takes smaller steps
_TINY = 1e-10


class Soap:
    """Improves parameters (b, ...) in place; each of the b networks by its own gradients alone."""

    def __init__(self, parameters: ParameterTensors) -> None:
        self._parameters = parameters
        self._matrices = [_Matrix(self._join(parameters, names)) for names in MATRICES]
        self._steps = 0

    @no_fork()
    def step(self, gradients: ParameterTensors, rate: float) -> None:
        """Take a step; `rate` is the most that a parameter changes along an axis of its basis."""
        self._steps += 1
        norm = torch.stack([value.flatten(1).square().sum(1) for value in gradients.values()]).sum(0).sqrt()
        kept = (CLIP / norm).clamp(max=1)[:, None, None]
        for names, matrix in zip(MATRICES, self._matrices, strict=True):
            # A network that diverges does not stop the others.
            gradient = self._join(gradients, names).mul_(kept).nan_to_num(0, 0, 0)
            change = matrix.step(gradient, self._steps).clamp_(-1, 1)
            change *= rate * min(1, self._steps / WARM, WIDTH / change.shape[2])
            widths = [self._parameters[name][0].numel() // change.shape[1] for name in names]
            start = 0
            for name, width in zip(names, widths, strict=True):
                parameter = self._parameters[name]
                parameter.sub_(change[:, :, start : start + width].reshape(parameter.shape))
                start += width

    @staticmethod
    def _join(values: ParameterTensors, names: tuple[str, ...]) -> Tensor:
        """The matrices (b, outputs, inputs) of these parameters; the outputs of "res_w" are those of all layers."""
        bias = values[names[-1]]
        outputs = bias.shape[1] if len(names) == 1 else bias[0].numel()
        return torch.cat([values[name].reshape(len(bias), outputs, -1) for name in names], 2)


class _Matrix:
    """The moments and bases of matrices (b, n, m)."""

    def __init__(self, values: Tensor) -> None:
        self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)
        self._covariances = (values.new_zeros(1), values.new_zeros(1))
        self._bases: tuple[Tensor, Tensor] | None = None

    def step(self, gradient: Tensor, steps: int) -> Tensor:
        """The direction of step number `steps`."""
        now = (torch.bmm(gradient, gradient.mT), torch.bmm(gradient.mT, gradient))
        if self._bases is None:
            self._covariances = now
            self._bases = (torch.linalg.eigh(now[0])[1], torch.linalg.eigh(now[1])[1])
        left, right = self._bases
        self._first.lerp_(gradient, 1 - BETAS[0])
        turned = torch.bmm(torch.bmm(left.mT, gradient), right)
        self._second.mul_(BETAS[1]).addcmul_(turned, turned, value=1 - BETAS[1])
        first = torch.bmm(torch.bmm(left.mT, self._first), right).div_(1 - BETAS[0] ** steps)
        change = first.div_((self._second / (1 - BETAS[1] ** steps)).sqrt_().add_(_TINY))
        result = torch.bmm(torch.bmm(left, change), right.mT)
        for before, new in zip(self._covariances, now, strict=True):
            before.lerp_(new, 1 - COVARIANCE)
        if steps % EVERY == 0:
            self._bases = _turn(self._covariances[0], left), _turn(self._covariances[1], right)
        return result


def _turn(covariance: Tensor, basis: Tensor) -> Tensor:
    """The basis, one step of orthogonal iteration nearer to the eigenvectors of the covariance."""
    turned: Tensor = torch.linalg.qr(torch.bmm(covariance, basis)).Q
    return turned
