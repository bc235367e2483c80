"""Distortion between an image and its reconstruction."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError

MS_SSIM_SIDE = 161


def psnr(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio over all values of two uint8 arrays of one shape, in dB; infinite where they are equal."""
    _same_shape(image, decoded)
    error = float(np.mean((image.astype(np.float64) - decoded.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ms_ssim(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity (Wang et al., 2003) of two uint8 images (height, width, 3), by pytorch-msssim.

    Raises ParameterError for images of less than 161 pixels a side, which have no five scales.
    """
    import torch
    from pytorch_msssim import ms_ssim as similarity

    _same_shape(image, decoded)
    if min(image.shape[:2]) < MS_SSIM_SIDE:
        raise ParameterError(
            f"image of shape {image.shape} is too small for MS-SSIM: each side must have {MS_SSIM_SIDE} pixels"
        )
    one, other = (torch.from_numpy(a.astype(np.float64)).permute(2, 0, 1)[None] for a in (image, decoded))
    return float(similarity(one, other, data_range=255))


def decibels(similarity: float) -> float:
    """MS-SSIM in dB, -10 log10(1 - MS-SSIM): near 1 it tells apart what the plain value does not; infinite at 1."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def shared_range(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The dB, from and to, that two curves of (bpp, dB) points both have; ParameterError where there are none."""
    low, high = (limit(end(db for _, db in curve) for curve in (reference, test)) for limit, end in ((max, min), (min, max)))
    if low >= high:
        raise ParameterError(f"curves share no range of distortion ({low:.2f} to {high:.2f} dB): measure more points")
    return low, high


def bd_rate(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float:
    """Bjøntegaard delta rate: the mean difference of the test rate to the reference rate at equal distortion, in percent.

    Both are curves of (bpp, dB) points, two or more. Log-rates are interpolated by piecewise cubics (PCHIP, as in the common
    test conditions JCTVC-L1100) over the dB that both have. Negative: test needs fewer bits. ParameterError for one point,
    two points of equal dB, and ranges that do not overlap.
    """
    from scipy.interpolate import PchipInterpolator

    for points in (reference, test):
        if len({db for _, db in points}) < max(2, len(points)):
            raise ParameterError(f"curve has {len(points)} points; BD-rate needs two or more, each of another distortion")
    low, high = shared_range(reference, test)
    curves = [np.array(sorted(points, key=lambda point: point[1])) for points in (reference, test)]
    areas = [float(PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high)) for c in curves]
    return 100 * math.expm1((areas[1] - areas[0]) / (high - low))


def _same_shape(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> None:
    if image.shape != decoded.shape:
        raise ParameterError(f"images of shapes {image.shape} and {decoded.shape} cannot be compared: they must be equal")
