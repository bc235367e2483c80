import math

import numpy as np
import pytest

import caecodec
from caecodec.evaluation import ms_ssim, psnr


def test_psnr_of_a_known_error():
    image = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(image, image + 5) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(image + 5, image) == psnr(image, image + 5)  # uint8 differences must not wrap
    assert psnr(image, image) == math.inf


def test_ms_ssim(photograph):
    noise = np.random.default_rng(0).normal(size=photograph.shape)
    noisy = [np.clip(photograph + scale * noise, 0, 255).astype(np.uint8) for scale in (0, 5, 20, 60)]
    values = [ms_ssim(photograph, other) for other in noisy]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert 0.5 < values[-1] < 0.95


def test_images_that_cannot_be_compared(photograph):
    for metric in (psnr, ms_ssim):
        with pytest.raises(caecodec.ParameterError, match="must be equal"):
            metric(photograph, photograph[:100])
    with pytest.raises(caecodec.ParameterError, match="161 pixels"):
        ms_ssim(photograph[:100], photograph[:100])
