"""Distortion between an image and its reconstruction."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError

MS_SSIM_SIDE = 161
SSIM_SIDE = 11


def psnr(image: npt.NDArray[Any], decoded: npt.NDArray[Any]) -> float:
    """Peak signal-to-noise ratio over all values of two arrays of one shape and dtype, in dB; infinite where they are equal."""
    _check_shapes(image, decoded)
    error = float(np.mean(np.square(image.astype(np.float64) - decoded.astype(np.float64))))
    return math.inf if error == 0 else 20 * math.log10(peak(image)) - 10 * math.log10(error)


def peak(image: npt.NDArray[Any]) -> float:
    """The peak of the PSNR: 255 for uint8, and the range of the image's values for other dtypes."""
    return 255.0 if image.dtype == np.uint8 else float(image.max()) - float(image.min())


def ssim(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al., 2004) of two uint8 images (height, width, 3), by scikit-image.

    The mean over the channels, in Gaussian windows of 11x11 pixels as in the paper.

    Raises ParameterError for images with a side of less than 11 pixels, which hold no such window.
    """
    from skimage.metrics import structural_similarity

    _check_shapes(image, decoded)
    if min(image.shape[:2]) < SSIM_SIDE:
        raise ParameterError(
            f"image of shape {image.shape} is too small for SSIM: each side must have at least {SSIM_SIDE} pixels"
        )
    paper = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    similarity: Any = structural_similarity  # which has no annotations
    return float(similarity(image, decoded, channel_axis=-1, data_range=255, **paper))


def ms_ssim(image: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity (Wang et al., 2003) of two uint8 images (height, width, 3), by pytorch-msssim.

    Raises ParameterError for images with a side of less than 161 pixels, which do not have five scales.
    """
    import torch
    from pytorch_msssim import ms_ssim as similarity

    _check_shapes(image, decoded)
    if min(image.shape[:2]) < MS_SSIM_SIDE:
        raise ParameterError(
            f"image of shape {image.shape} is too small for MS-SSIM: each side must have at least {MS_SSIM_SIDE} pixels"
        )
    one, other = (torch.from_numpy(a.astype(np.float64)).permute(2, 0, 1)[None] for a in (image, decoded))
    return float(similarity(one, other, data_range=255))


def decibels(similarity: float) -> float:
    """MS-SSIM in dB, -10 log10(1 - MS-SSIM), which spreads out values near 1; infinite at 1."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _check_shapes(image: npt.NDArray[Any], decoded: npt.NDArray[Any]) -> None:
    if image.shape != decoded.shape:
        raise ParameterError(f"images of shapes {image.shape} and {decoded.shape} cannot be compared; they must be equal")
