import math

import numpy as np
import pytest

import caecodec
from caecodec.evaluation import bd_rate, ms_ssim, psnr
from caecodec.images.metrics import decibels


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


def test_bd_rate():
    curve = [(0.2, 27.0), (0.4, 30.0), (0.8, 33.0), (1.6, 36.0)]
    half = [(bpp / 2, db) for bpp, db in curve]
    assert bd_rate(curve, curve) == pytest.approx(0)
    assert bd_rate(curve, half) == pytest.approx(-50)
    assert bd_rate(half, curve) == pytest.approx(100)
    with pytest.raises(caecodec.ParameterError, match="share no range"):
        bd_rate(curve, [(0.1, 20.0), (0.2, 22.0)])


def test_bd_rate_of_published_curves():
    """A whole hyperprior is known to gain about 21 % over the factorized prior (published Kodak points, mse)."""
    factorized = [(0.1226, 26.909), (0.1885, 28.218), (0.2878, 29.617), (0.4404, 31.277), (0.6481, 32.956), (0.967, 35.381)]
    hyperprior = [(0.1313, 27.582), (0.2089, 29.197), (0.3199, 30.972), (0.4784, 32.838), (0.6687, 34.526), (0.9388, 36.743)]
    assert bd_rate(factorized, hyperprior) == pytest.approx(-21, abs=1.5)


def test_bd_rate_of_the_example_of_bjontegaard():
    """Points of the example in the README of the package bjontegaard (FAU-LMS); the value its release 1.3.0 returns for

    them with method="pchip", which its authors state to agree with the spreadsheet of JVET-T2010 to ten decimals.
    """
    anchor = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
    test = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]
    assert bd_rate(anchor, test) == pytest.approx(-4.417485350589045, abs=1e-9)


def test_bd_rate_of_curves_of_different_lengths():
    """Points of CompressAI's published Kodak results; the value is that of bjontegaard 1.3.0, method="pchip", min_overlap=0."""
    jpeg = [(0.2212, 23.78), (0.5879, 29.785), (0.8497, 31.705), (1.1274, 33.235), (1.8588, 36.329)]
    factorized = [
        (0.1226, 26.909),
        (0.1885, 28.218),
        (0.2878, 29.617),
        (0.4404, 31.277),
        (0.6481, 32.956),
        (0.967, 35.381),
        (1.3512, 37.397),
        (1.8333, 39.621),
    ]
    assert bd_rate(jpeg, factorized) == pytest.approx(-46.92331970120547, abs=1e-9)


def test_bd_rate_needs_two_points_of_different_distortion():
    for curve in ([(1.0, 30.0)], [(1.0, 30.0), (2.0, 30.0)]):
        with pytest.raises(caecodec.ParameterError, match="two or more"):
            bd_rate(curve, [(0.5, 28.0), (2.0, 34.0)])


def test_decibels():
    assert decibels(0.99) == pytest.approx(20)
    assert decibels(1.0) == math.inf
