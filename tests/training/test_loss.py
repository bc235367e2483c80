"""Losses of several distortions: what they weigh, what they refuse, LPIPS that is not there."""

import sys

import pytest
import torch
from helpers.training import photographs

import caecodec
from caecodec.cli.main import main
from caecodec.training.crops import Crops
from caecodec.training.loss import ms_ssim, weighted
from caecodec.training.recipe import Recipe, default_metric, parse_loss


@pytest.fixture(scope="module")
def images():
    """Photographs and what a codec might make of them."""
    x = Crops(photographs(), 192, "cpu", 0).draw(2, 192)
    return (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))), x


def test_each_term_has_its_weight(images):
    x_hat, x = images
    mse, mae = (x_hat - x).square().mean((1, 2, 3)), (x_hat - x).abs().mean((1, 2, 3))
    torch.testing.assert_close(weighted({"mse": 1.0})(x_hat, x), 255**2 * mse)
    expected = 0.5 * mae + 2 * (1 - ms_ssim(x_hat, x))
    torch.testing.assert_close(weighted(parse_loss("bpp+mae=0.5+ms-ssim=2"))(x_hat, x), expected)


@pytest.mark.parametrize(
    ("loss", "weights", "metric", "crop"),
    [
        ("bpp+mse", {"mse": 1}, "mse", 64),
        ("bpp+mae+ms-ssim+lpips", {"mae": 1, "ms-ssim": 1, "lpips": 1}, "ms-ssim", 192),
        ("bpp+lpips=.25+mse=2e-3", {"lpips": 0.25, "mse": 2e-3}, "mse", 64),
        ("bpp+mae=3", {"mae": 3}, "ms-ssim", 64),
    ],
)
def test_losses(loss, weights, metric, crop):
    recipe = Recipe(steps=1, loss=loss, metric=default_metric(loss))
    assert (recipe.distortions, recipe.metric, recipe.smallest_crop) == (weights, metric, crop)
    assert recipe.shown == "mse"


def test_the_metric_is_the_loss_without_one():
    assert Recipe(steps=1).distortions == {"mse": 1.0}
    recipe = Recipe(steps=1, metric="ms-ssim")
    assert (recipe.distortions, recipe.shown, default_metric(None)) == ({"ms-ssim": 1.0}, "ms-ssim", "mse")


@pytest.mark.parametrize(
    "loss",
    ["", "mse", "bpp", "bpp+", "bpp+psnr", "bpp+mae+mae", "bpp+mae=0", "bpp+mae=-1", "bpp+mae=x", "bpp+mae=inf", "bpp+mae="],
)
def test_losses_that_are_none(loss):
    with pytest.raises(caecodec.ParameterError, match="must be bpp and at least one of mse, mae, ms-ssim, lpips, each once"):
        Recipe(steps=1, loss=loss)


def test_lpips_says_what_it_needs(folder, tmp_path, monkeypatch, capsys):
    """Before the training, and nothing is written."""
    monkeypatch.setitem(sys.modules, "lpips", None)  # as if it were not installed
    output = tmp_path / "mine.safetensors"
    assert main(["train", str(folder), "-o", str(output), "--loss", "bpp+mse+lpips", "--steps", "1", "--quiet"]) == 1
    assert "LPIPS in the loss needs lpips, which is not installed: pip install 'caecodec[lpips]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
