"""The autoregressive network: contexts -> mu and scale of values, in integers (FORMAT.md, 16: Probabilities).

All integers and their sums are below 2^53 in magnitude, so float64 holds them exactly, whatever the order of the sums.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .laplace import SCALES, Integers
from .network import MAX_STEP, Network

ONE = 2**MAX_STEP  # 1 in the units of parameters
INPUT = 2**8  # 1 in the units of inputs and hidden values
_LARGEST = 2.0**24  # the limit of hidden values
_MU = 2**16  # a sixteenth in the units of outputs
_SCALE = 2**18  # a step of the scale in the units of outputs
_LOWEST = np.array([[-(2.0**19)], [0]])
_HIGHEST = np.array([[2.0**19], [SCALES - 1]])
_MIDDLE = 20  # the index of the scale for an output of 0


class Arm:
    """Networks of one decoder: one for the contexts of each payload, or one for all payloads.

    Write contexts to `inputs` (payloads, N, most); `run` takes the first of them.
    """

    def __init__(self, networks: Sequence[Network], payloads: int, most: int) -> None:
        """Take a network for each payload, or one for all, and make room for `most` contexts of each."""
        n = networks[0].decoder.inputs
        first, second, last = zip(*map(_matrices, networks), strict=True)
        self._first, self._second, self._last = np.stack(first), np.stack(second), np.stack(last)
        self._seen = np.ones((payloads, 2 * n + 1, most))  # inputs, 1, hidden values
        self._hidden = np.ones((payloads, n + 1, most))  # hidden values, 1
        self._n = n
        self.inputs = self._seen[:, :n]

    def run(self, count: int) -> tuple[Integers, Integers]:
        """The mu in sixteenths and the index of the scale, both (payloads, count), for the first `count` contexts."""
        n = self._n
        seen, hidden = self._seen[:, :, :count], self._hidden[:, :, :count]
        _layer(self._first, seen[:, : n + 1], hidden[:, :n])
        _layer(self._second, hidden, seen[:, n + 1 :])
        out = np.matmul(self._last, seen)
        np.floor(out, out=out)
        found = np.clip(out, _LOWEST, _HIGHEST, out=out).astype(np.int64)
        return found[:, 0], found[:, 1]


def _layer(matrix: npt.NDArray[np.float64], inputs: npt.NDArray[np.float64], out: npt.NDArray[np.float64]) -> None:
    np.matmul(matrix, inputs, out=out)
    np.floor(out, out=out)
    np.clip(out, 0, _LARGEST, out=out)


def _matrices(network: Network) -> tuple[npt.NDArray[np.float64], ...]:
    """The matrices of the two layers and the output, which include rounding, division and the units of inputs."""
    weight_step, bias_step = network.steps[:2]

    def weights(name: str) -> npt.NDArray[np.int64]:
        return network.integers[name].astype(np.int64) << MAX_STEP - weight_step

    def biases(name: str) -> npt.NDArray[np.int64]:
        return (network.integers[name][:, None].astype(np.int64) << MAX_STEP - bias_step) * INPUT

    same = ONE * np.eye(network.decoder.inputs)
    rounding = np.array([[_MU / 2], [_SCALE / 2 + _MIDDLE * _SCALE]])
    first = np.concatenate([(weights("arm_w1") + same) * INPUT, biases("arm_b1") + ONE / 2], axis=1) / ONE
    second = np.concatenate([weights("arm_w2") + same, biases("arm_b2") + ONE / 2], axis=1) / ONE
    last = np.concatenate([weights("arm_ws") * INPUT, biases("arm_b3") + rounding, weights("arm_w3")], axis=1)
    return first, second, last / np.array([[_MU], [_SCALE]])
