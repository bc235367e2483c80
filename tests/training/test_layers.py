"""Weights of layers: made of one quality without training, or trained."""

import re

import numpy as np
import pytest
import torch
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY_BINARY, TINY_DEPTHWISE
from helpers.training import each, photographs

import caecodec
from caecodec import weights
from caecodec.bitstream import directory, scalable
from caecodec.cli.main import main
from caecodec.entropy import layered
from caecodec.images.metrics import psnr
from caecodec.models.depthwise.architecture import Architecture, Transform
from caecodec.models.depthwise.training.backbone import DepthwiseBackbone
from caecodec.training.crops import Crops
from caecodec.training.layered_trainer import LayeredNetwork, LayeredTrainer
from caecodec.training.loop import Training
from caecodec.training.loss import rate_distortion, squared_error
from caecodec.training.recipe import Recipe
from caecodec.training.state import family_of

SIZES = Architecture(Transform(12, 1, 14, 1), Transform(12, 1, 14, 1), 12)


class GivenLatents(torch.nn.Module):
    """A network whose latents are the image, and whose image is its latents."""

    def analysis(self, x, quality):
        assert (quality == 3).all()  # whatever the layer, the analysis is that of the last one
        return x

    def synthesis(self, y, quality):
        return y


def test_latents_of_layers_round_to_symbols_that_are_halved():
    """And the synthesis takes the middles, as decoders do."""
    network, y = LayeredNetwork(GivenLatents(), 4), torch.linspace(-40, 40, 3203)[None, None, None]
    for layer in range(4):
        latents = network.analysis(y, each(1, layer))
        symbols = layered.quantised(y.round().int().numpy(), 3 - layer)
        np.testing.assert_array_equal(latents.round().int().numpy(), symbols)
        middles = network.synthesis(torch.from_numpy(symbols).float(), each(1, layer))
        np.testing.assert_array_equal(2 * middles.numpy(), layered.middles(symbols, 3 - layer))
    np.testing.assert_allclose(latents, y, rtol=0, atol=1e-6)


def test_training_for_layers_learns_and_resumes(tmp_path):
    whole = small_run(0)
    before = losses(whole)
    advance(whole, 15)
    torch.save(whole.state(), tmp_path / "half.ckpt")
    advance(whole, 30)
    resumed = small_run(30, torch.load(tmp_path / "half.ckpt", weights_only=True))
    assert (losses(whole) < before).all()
    torch.testing.assert_close(losses(resumed), losses(whole), rtol=1e-3, atol=0)
    with pytest.raises(caecodec.ParameterError, match="layers is 2 but that of the checkpoint is 3; pass the same"):
        small_run(0, whole.state(), layers=2)


def small_run(steps, state=None, layers=3):
    """Steps of a small network from the principal components of photographs."""
    torch.manual_seed(1)
    recipe = Recipe(qualities=(5,), layers=layers, steps=30, crop=64, batch=6, lr=1e-3, family="depthwise-residual")
    crops = Crops(photographs(), 64, "cpu", recipe.seed)
    network = LayeredNetwork(DepthwiseBackbone(SIZES, (5,) * layers, dtype=torch.float32), layers)
    recipe.trainer.start_from_images(network, crops.draw(50, 64), recipe.lmbdas[-1:])
    training = Training(network, recipe, crops)
    if state:
        training.resume(state)
    advance(training, steps)
    return training


def advance(training, steps):
    while training.step < steps:
        training.take_step()


def losses(training):
    """Of each layer, on crops that are always the same."""
    x, recipe = Crops(photographs(), 64, "cpu", 7).draw(6, 64), training.recipe
    found = []
    with torch.no_grad():
        for layer, lmbda in enumerate(recipe.lmbdas):
            random = torch.Generator().manual_seed(0)
            bpp, _, distortion = rate_distortion(training.backbone, x, each(6, layer), squared_error, random)
            found.append((bpp + lmbda * distortion).mean())
    return torch.stack(found)


def test_state_dicts_of_layers_are_recognised():
    state = small_run(1).state()["state_dict"]
    family, trainer = family_of(state)
    assert (family.name, type(trainer)) == ("depthwise-residual", LayeredTrainer)
    assert (trainer.qualities(state), trainer.metric(state)) == ((1, 2, 3), "mse")
    tensors = trainer.tensors(state)
    np.testing.assert_array_equal(tensors["q1.g_a.latent.scale"], tensors["q3.g_a.latent.scale"])
    assert (tensors["q1.g_s.latent.scale"] != tensors["q3.g_s.latent.scale"]).any()
    doubled = 2 * tensors["q2.latent_scale"]
    np.testing.assert_allclose(doubled, state["network.latent_scale"][1].exp(), rtol=1e-6)


def test_train_command_makes_layers(folder, tmp_path, capsys, short_start):
    output = tmp_path / "mine.safetensors"
    command = ["train", str(folder), "-o", str(output), "--family", "depthwise-residual", "--steps", "1", "--crop", "64"]
    assert main([*command, "--layers", "3", "-q", "5", "--batch", "3", "--validation", "0.34"]) == 0
    assert " l3 " in capsys.readouterr().out
    source = weights.open_file(output, "mse", 0)
    assert source.qualities == (1, 2, 3)
    card = output.with_suffix(".md").read_text()
    assert "| qualities | 5 as the last of 3 layers, metric mse |" in card
    assert "\n| layer | bpp |" in card
    assert_layers_help(output, photographs()[0][:128, :128])
    for init, match in ((output, "of layers, but training starts from qualities"), (output.with_suffix(".ckpt"), "of layers")):
        other = [str(tmp_path / "other.safetensors") if part == str(output) else part for part in command]
        assert main([*other, "-q", "3", "--init", str(init)]) == 1
        assert match in capsys.readouterr().err


def assert_layers_help(path, image):
    """Each further layer brings the image closer."""
    payload = caecodec.ScalableAutoencoder(weights=path).encode(image)
    ends = scalable.layer_ends(directory.parse_directory(payload))
    quality = [psnr(image, caecodec.decode(payload[:end], weights=path)) for end in ends]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 2


def test_fit_layers_command(folder, tmp_path, capsys):
    output = tmp_path / "layers.safetensors"
    before = save_seeded(tmp_path / "plain.safetensors", seed=4)
    command = ["fit-layers", str(before.location), str(folder), "-o", str(output), "-q", "4", "--layers", "3"]
    assert main([*command, "--crops", "6", "--name", "mine"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["layer", "bpp", "PSNR", "MS-SSIM"]
    source = weights.open_file(output, "mse", 0)
    assert (source.name, source.qualities) == ("mine", (1, 2, 3))
    card = output.with_suffix(".md").read_text()
    assert source.sha256 in card
    assert "The network is that of plain.safetensors, whose quality 4 is the last layer" in card
    array = random_image(64, 64, 3)
    np.testing.assert_array_equal(
        caecodec.ScalableAutoencoder(weights=output).decode(caecodec.ScalableAutoencoder(weights=output).encode(array)),
        caecodec.decode(caecodec.encode(array, 4, weights=before.location), weights=before.location),
    )
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["fit-layers", str(output), str(folder), "-o", str(tmp_path / "again.safetensors"), "-q", "3"]) == 1
    assert "is of layers already; choose weights of qualities" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "match"), [
    (["none.safetensors", "."], "does not exist"),
    ([str(TINY_BINARY), ".", "-q", "4"], "family is 'binary', whose latents are bits"),
    ([str(TINY_DEPTHWISE), ".", "-q", "2"], "quality is 2 but .* has 1, 4; choose"),
    ([str(TINY_DEPTHWISE), ".", "-q", "4"], "no image of 256x256"),
    ([str(TINY_DEPTHWISE), ".", "--layers", "9"], "layers is 9 but must be 2 to 8"),
    ([str(TINY_DEPTHWISE), ".", "--crops", "0"], "crops is 0 but"),
    ([str(TINY_DEPTHWISE), ".", "-o", "x.bin"], "NAME.safetensors"),
])  # fmt: skip
def test_fit_layers_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(tmp_path)
    assert main(["fit-layers", "-o", "out.safetensors", *arguments]) == 1
    assert re.search(match, capsys.readouterr().err)


@pytest.mark.parametrize(("options", "match"), [
    ({"family": "binary"}, "family is 'binary', whose latents are bits"),
    ({"layers": 1}, "layers is 1 but must be 2 to 8"),
    ({"qualities": (4, 5)}, "the last layer is one of them"),
    ({"batch": 3}, "batch is 3 but must be at least 4, a crop for each layer"),
])  # fmt: skip
def test_recipes_for_layers_are_checked(options, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        Recipe(**{"qualities": (5,), "layers": 4, "steps": 1, **options})
