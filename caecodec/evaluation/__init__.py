"""Measures rate and distortion of caecodec beside other codecs, on any images."""

from ..images.metrics import ms_ssim, psnr, ssim
from .bd_rates import bd_rate
from .curves import Curve, Measurement, Point, Results
from .evaluate import evaluate
from .report import report
from .score import Score, Scores, score, write_scores

__all__ = [
    "Curve", "Measurement", "Point", "Results", "Score", "Scores", "bd_rate", "evaluate", "ms_ssim", "psnr", "report", "score",
    "ssim", "write_scores",
]  # fmt: skip
