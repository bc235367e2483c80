"""How good: distortion of decoded images."""

from .metrics import bd_rate, ms_ssim, psnr

__all__ = ["bd_rate", "ms_ssim", "psnr"]
