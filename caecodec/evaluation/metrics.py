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
    one, other = (torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1)[None].double() for a in (image, decoded))
    return float(similarity(one, other, data_range=255))


def bd_rate(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float:
    """Bjøntegaard delta rate: the mean difference of the test rate to the reference rate at equal distortion, in percent.

    Both are curves of (bpp, dB) points, two or more. Log-rates are interpolated by piecewise cubics (PCHIP) over the dB
    that both have. Negative: test needs fewer bits. ParameterError where the ranges do not overlap.
    """
    from scipy.interpolate import PchipInterpolator

    curves = [np.array(sorted(points, key=lambda point: point[1])) for points in (reference, test)]
    low, high = max(c[0, 1] for c in curves), min(c[-1, 1] for c in curves)
    if low >= high:
        raise ParameterError(f"curves share no range of distortion ({low:.2f} to {high:.2f} dB): measure more points")
    areas = [float(PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high)) for c in curves]
    return 100 * math.expm1((areas[1] - areas[0]) / (high - low))


def _same_shape(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> None:
    if image.shape != decoded.shape:
        raise ParameterError(f"images of shapes {image.shape} and {decoded.shape} cannot be compared: they must be equal")
