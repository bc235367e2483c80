"""caecodec train with the family residual-attention, made narrow so that it is quick: starts, losses, all that follows."""

import pytest
import torch
from helpers.training import each, photographs

import caecodec
from caecodec import weights
from caecodec.cli.main import main
from caecodec.images.metrics import psnr
from caecodec.training.crops import Crops
from caecodec.training.loop import Training
from caecodec.training.loss import rate_distortion, squared_error
from caecodec.training.recipe import LMBDAS, Recipe
from caecodec.training.start import KLT, RANDOM, default_init, start

FAMILY = "residual-attention"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("caecodec.models.residual_attention.training.trainer.HIDDEN", 12)
    for name, number in (("start.KLT_CROPS", 20), ("start.RATE_CROPS", 4)):
        monkeypatch.setattr(f"caecodec.training.{name}", number)
    monkeypatch.setattr("caecodec.models.rate.FIT_STEPS", 10)


def test_command_trains_it(folder, tmp_path, capsys):
    """From principal components, with three terms in the loss; and what comes of it is the start of another training."""
    images, output = str(folder / "0.png"), tmp_path / "mine.safetensors"
    options = ["--family", FAMILY, "--qualities", "3", "--batch", "1", "--validation", "0", "--steps", "1"]
    loss = ["--loss", "bpp+mae=2+ms-ssim", "--crop", "192"]
    assert main(["train", images, "-o", str(output), *options, *loss, "--init", "klt"]) == 0
    assert f"{FAMILY} starts from klt\n" in capsys.readouterr().out
    source = weights.open_file(output, "ms-ssim", 3)
    assert (source.family, source.metric, source.qualities) == (FAMILY, "ms-ssim", (3,))
    card = output.with_suffix(".md").read_text()
    assert f"| network | {FAMILY}, 12 hidden, 32 latent channels, fp16 |" in card
    assert "| loss | bits per pixel + lmbda (2 MAE + (1 - MS-SSIM)), lmbda 8.73 |" in card
    image = photographs()[0][:96, :96]
    payload = caecodec.encode(image, 3, metric="ms-ssim", weights=output)
    assert psnr(caecodec.decode(payload, weights=output), image) > 18

    checkpoint, exported = output.with_suffix(".ckpt"), tmp_path / "exported.safetensors"
    assert main(["export", str(checkpoint), images, "-o", str(exported), "--crops", "2"]) == 0
    assert weights.open_file(exported, "ms-ssim", 3).family == FAMILY
    crops, again = Crops(photographs(), 128, "cpu", 0), Recipe(qualities=(3,), steps=1, metric="ms-ssim", family=FAMILY)
    x = crops.draw(1, 128)
    from_file, from_checkpoint = (start(str(path), again, crops, torch.float32) for path in (output, checkpoint))
    y = from_file.analysis(x, each(1))
    torch.testing.assert_close(from_checkpoint.analysis(x, each(1)), y, atol=1e-4, rtol=1e-4)
    assert y.abs().max() > 1

    assert main(["train", images, "-o", str(output), *options, "--resume", "--overwrite", "--loss", "bpp+mae"]) == 1
    assert "loss is 'bpp+mae' but that of the checkpoint is 'bpp+mae=2+ms-ssim'; pass the same" in capsys.readouterr().err


@pytest.mark.parametrize("family", [FAMILY, "depthwise-residual"])
def test_noise_is_a_start(family):
    crops = Crops(photographs(), 128, "cpu", 0)
    network = start(RANDOM, Recipe(qualities=(2,), steps=1, family=family), crops, torch.float32)
    assert network.analysis(crops.draw(1, 128), each(1)).isfinite().all()


def test_without_shipped_weights_the_images_are_the_start():
    assert default_init(Recipe(qualities=(2,), steps=1, family=FAMILY)) == KLT


def test_it_learns():
    """The loss falls, and all blocks leave their rest."""
    torch.manual_seed(1)
    recipe = Recipe(qualities=(3,), steps=15, crop=64, batch=2, lr=1e-2, family=FAMILY)
    crops = Crops(photographs(), 128, "cpu", 0)
    training = Training(start(RANDOM, recipe, crops, torch.float32), recipe, crops)
    x = Crops(photographs(), 64, "cpu", 7).draw(4, 64)

    def loss():
        with torch.no_grad():
            bpp, _, distortion = rate_distortion(training.backbone, x, each(4), squared_error, torch.Generator().manual_seed(0))
        return float((bpp + LMBDAS["mse"][2] * distortion).mean())

    before = loss()
    while training.progress < 1:
        training.take_step()
    assert loss() < 0.8 * before
    assert all(
        value.abs().max() > 0 for name, value in training.backbone.named_parameters() if name.endswith("conv_out.weight")
    )
