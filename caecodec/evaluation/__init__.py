"""How good: rate and distortion of caecodec beside other codecs, on any images."""

from ..images.metrics import bd_rate, ms_ssim, psnr
from .curves import Curve, Measurement, Point, Results
from .evaluate import evaluate

__all__ = ["Curve", "Measurement", "Point", "Results", "bd_rate", "evaluate", "ms_ssim", "psnr"]
