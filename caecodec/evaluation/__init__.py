"""Measures rate and distortion of caecodec beside other codecs, on any images."""

from ..images.metrics import ms_ssim, psnr
from .bd_rates import bd_rate
from .curves import Curve, Measurement, Point, Results
from .evaluate import evaluate
from .report import report

__all__ = ["Curve", "Measurement", "Point", "Results", "bd_rate", "evaluate", "ms_ssim", "psnr", "report"]
