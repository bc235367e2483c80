"""Chooses a pass's coefficients and weights, in floating point, because decoders see only the rounded result."""

import numpy as np
import numpy.typing as npt

from .lattice import COEFFICIENT_BITS, MAX_COEFFICIENT, Pass, Values, weighted

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SAMPLE = 2**13  # positions that a fit uses
_WEIGHT_SCALE = 2**8
_ROUNDS = 2
_PRODUCT = 2**18  # OpenBLAS starts no threads for up to this many multiplications; on a busy machine threads cost waiting


def fit(job: Pass, target: Integers, step: int) -> tuple[Integers, Integers]:
    """Choose coefficients (features,) and weights (activities,) for a pass that codes `target` (n, rows, columns)."""
    blocks = list(job.blocks(_SAMPLE // 8))
    blocks = blocks[:: -(-len(blocks) // 8)]
    wanted = np.concatenate([target[block.images, block.rows].reshape(-1) for block in blocks])
    pairs = [job.features(block) for block in blocks]
    features = np.concatenate([pair[1] for pair in pairs], axis=1)
    wanted = (wanted - np.concatenate([pair[0] for pair in pairs])).astype(features.dtype)
    coefficients = np.rint(_absolute_fit(features, wanted, step) * 2**COEFFICIENT_BITS)
    coefficients = coefficients.clip(-MAX_COEFFICIENT, MAX_COEFFICIENT).astype(np.int64)
    errors = abs(wanted - weighted((coefficients / 2**COEFFICIENT_BITS).astype(features.dtype), features))
    activities = np.concatenate([job.activities(block, step) for block in blocks], axis=1)
    weights = np.rint(_positive_fit(activities.astype(np.float64), errors.astype(np.float64)) * _WEIGHT_SCALE)
    return coefficients, weights.clip(0, MAX_COEFFICIENT).astype(np.int64)


def _absolute_fit(features: Values, wanted: Values, step: int) -> Floats:
    """Coefficients for which coefficients @ features (f, P) has the least absolute error from wanted (P,), by reweighting."""
    identity = np.eye(len(features))
    emphasis = np.ones(len(wanted), features.dtype)
    for i in range(_ROUNDS + 1):
        system, sums = _normal_equations(features, wanted, emphasis)
        ridge = 0.5 * step**2 * float(emphasis.mean()) + 1e-7 * np.trace(system)
        coefficients: Floats = np.linalg.solve(system + ridge * identity, sums)
        if i < _ROUNDS:
            distance = abs(wanted - weighted(coefficients.astype(features.dtype), features))
            emphasis = 1 / (distance + step + 0.25 * distance.mean())
    return coefficients


def _positive_fit(activities: Floats, errors: Floats) -> Floats:
    """Non-negative weights for which weights @ activities (a, P) approximate the errors (P,), relative to their size."""
    mean = activities.mean(axis=1, keepdims=True) + 1e-9
    activities = activities / mean
    emphasis = (1 + activities.mean(axis=0)) ** -1.5
    used = np.ones(len(activities), bool)
    weights = np.zeros(len(activities))
    while used.any():
        part = activities[used]
        weights[:] = 0
        system, sums = _normal_equations(part, errors, emphasis)
        system += 1e-4 * np.trace(system) * np.eye(len(part)) / len(part) + 1e-9 * np.eye(len(part))
        weights[used] = np.linalg.solve(system, sums)
        if (weights >= 0).all():
            break
        used &= weights > 0
    return weights / mean[:, 0]


def _normal_equations(rows: Values, wanted: Values, emphasis: Values) -> tuple[Floats, Floats]:
    """The matrix (k, k) and right side (k,) of least squares over rows (k, P), in products too small for threads."""
    together = np.concatenate([rows, wanted[None]])
    system = np.zeros((len(together), len(together)))
    tile = max(1, _PRODUCT // len(together) ** 2)
    for start in range(0, rows.shape[1], tile):
        part = together[:, start : start + tile]
        system += (part * emphasis[start : start + tile]) @ part.T
    return system[:-1, :-1], system[:-1, -1]
