"""The family binary: the folded network is the trained one; bits and symbols, tiles, damaged files, training from nothing."""

import numpy as np
import pytest
import torch
from helpers.images import random_image
from helpers.networks import save_binary, seeded_binary
from helpers.paths import TINY_BINARY
from helpers.training import photographs
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.chunks import tiling
from caecodec.cli.main import main
from caecodec.errors import ParameterError, WeightsError
from caecodec.images.metrics import psnr
from caecodec.models import registry
from caecodec.models.binary.network import bits_of
from caecodec.models.binary.training import initial
from caecodec.models.binary.training.backbone import ACTIVE, BinaryBackbone
from caecodec.training.crops import Crops
from caecodec.training.loop import Training
from caecodec.training.recipe import Recipe
from caecodec.training.start import KLT, default_init, start

FAMILY = registry.by_name("binary")
STRIDE = FAMILY.stride
QUALITIES = (2, 6)


@pytest.fixture(scope="module")
def folded():
    return FAMILY.fold(seeded_binary(7), 4)


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(random_image(9 * 8, 7 * 8, 3).transpose(2, 0, 1)[None].astype(np.float32) / 255)


@pytest.fixture(scope="module")
def backbone(image):
    """A small untrained network with statistics, and with modulations that are not at rest."""
    torch.manual_seed(0)
    backbone = BinaryBackbone(QUALITIES, hidden=(6, 8), bits=32)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name == "latent_scale" or (name.startswith("g_") and name.endswith((".s", ".b"))):
                parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(30):
            quality = torch.tensor([0, 1])
            backbone.synthesis(backbone.analysis(torch.cat([image, image.flip(3)]), quality), quality)
    return backbone.eval()


def test_the_family_is_known():
    assert (FAMILY.wire_id, FAMILY.stored_name, FAMILY.exact) == (5, "binary", False)


def test_two_bits_are_a_symbol():
    symbols = torch.tensor([-2, -1, 0, 1, 2]).view(1, 1, 1, 5)
    assert bits_of(symbols).view(2, 5).T.tolist() == [[-1, -1], [-1, 1], [0, 0], [1, -1], [1, 1]]
    assert torch.equal((3 * bits_of(symbols)[:, :1] + bits_of(symbols)[:, 1:]) // 2, symbols)


@pytest.mark.parametrize("index", [0, 1])
def test_the_folded_network_is_the_trained_one(backbone, image, index):
    """But for the rounding of weights to fp16; the channels that a quality leaves out are zero."""
    tensors = FAMILY.trainer().tensors(backbone.state_dict())
    FAMILY.check(tensors, QUALITIES[index])
    network = FAMILY.build(FAMILY.fold(tensors, QUALITIES[index]).tensors)
    quality, active = torch.tensor([index]), ACTIVE[QUALITIES[index] - 1] * 16 // 128
    with torch.inference_mode():
        y = backbone.latents(image, quality)
        torch.testing.assert_close(network.latents(image), y, atol=0.01, rtol=0.01)
        symbols = network.analysis(image)
        clear = (y.abs() > 0.01) | (torch.arange(32) >= 2 * active)[:, None, None]
        assert torch.equal(bits_of(symbols)[clear], backbone.analysis(image, quality).int()[clear])
        assert not symbols[:, active:].any()
        assert set(symbols[:, :active].unique().tolist()) == {-2, -1, 1, 2}
        expected = backbone.synthesis(bits_of(symbols).float(), quality)
        torch.testing.assert_close(network.synthesis(symbols), expected, atol=4e-3, rtol=0.01)


def test_bits_are_drawn_in_training_and_signs_afterwards(backbone, image):
    """With a probability that follows from the latent, and a gradient as of the tanh."""
    quality = torch.tensor([1])
    backbone.train()
    try:
        with torch.no_grad():
            drawn = torch.stack([backbone.analysis(image, quality) for _ in range(100)])[:, :, :16].round()
            expected = backbone.latents(image, quality)[:, :16].tanh()
        assert set(drawn.unique().tolist()) == {-1.0, 1.0}
        assert (drawn.mean(0) - expected).abs().mean() < 0.1
        backbone.analysis(image, quality).sum().backward()
        assert backbone.g_a[0].weight.grad.abs().sum() > 0
    finally:
        backbone.eval()
        backbone.zero_grad()
    assert torch.equal(backbone.analysis(image, quality), backbone.analysis(image, quality))


def test_the_rate_is_that_of_the_bits(backbone):
    """One bit for each pair's sign and, before the rate has learnt, one for its magnitude; noise does not matter."""
    quality = torch.tensor([0])
    y = torch.ones(1, 32, 4, 5)
    y[:, 4:] = 0
    noise = torch.rand(y.shape) - 0.5
    torch.testing.assert_close(backbone.bits(y + noise, quality).sum(), torch.tensor(2.0 * 2 * 20))
    with torch.no_grad():
        backbone.pair_rate.b[0].fill_(1.0)  # equal bits are likely: sigmoid(1)
        likely = backbone.bits(y, quality).sum()
        backbone.pair_rate.b[0].zero_()
    torch.testing.assert_close(likely, torch.tensor(40 * (1 + np.log2(1 + np.exp(-1)))), check_dtype=False)


def test_a_network_continues_from_its_weights_file(backbone, image):
    """A quality that the file lacks starts from the nearest one, with its own number of channels."""
    tensors = FAMILY.trainer().tensors(backbone.state_dict())
    again = BinaryBackbone((6, 7), hidden=(6, 8), bits=32).eval()
    FAMILY.trainer().start_from_weights(again, tensors, {})
    with torch.inference_mode():
        y = backbone.latents(image, torch.tensor([1]))
        for index in (0, 1):
            torch.testing.assert_close(again.latents(image, torch.tensor([index])), y, atol=0.01, rtol=0.01)
    assert again.active.sum(1).tolist() == [8, 12]
    with pytest.raises(WeightsError, match=r"g_a.0.weight .* has shape .* or from klt"):
        FAMILY.trainer().start_from_weights(BinaryBackbone((6,)), tensors, {})


def tiled(run, source, scale_in, scale_out, tile, halo):
    """run(source), tile by tile."""
    rows, columns = (side // scale_in for side in source.shape[2:])
    parts = tiling.tiles(rows, columns, tile, halo)
    assert len(parts) > 1
    with torch.inference_mode():
        outputs = [(part, run(source[:, :, *part.seen(scale_in)])) for part in parts]
        whole = torch.full((*outputs[0][1].shape[:2], rows * scale_out, columns * scale_out), torch.nan)
        for part, out in outputs:
            whole[:, :, *part.place(scale_out)] = out[:, :, *part.kept(scale_out)]
    return whole


@pytest.mark.parametrize("tile", [1, 3])
def test_tiles_equal_the_whole(folded, image, tile):
    """And a smaller halo would not do."""
    network, halo = FAMILY.build(folded.tensors), FAMILY.halo(folded.tensors)
    with torch.inference_mode():
        latents, symbols = network.latents(image), network.analysis(image)
        picture = network.synthesis(symbols)
    torch.testing.assert_close(tiled(network.latents, image, STRIDE, 1, tile, halo), latents, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(tiled(network.synthesis, symbols, 1, STRIDE, tile, halo), picture, atol=1e-5, rtol=1e-5)
    assert (tiled(network.latents, image, STRIDE, 1, tile, halo - 1) - latents).abs().max() > 1e-4
    assert (tiled(network.synthesis, symbols, 1, STRIDE, tile, halo - 1) - picture).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("g_a.1.weight", lambda t: t[:, :-1], "g_a.1.weight is float16"),
        ("g_a.2.weight", lambda t: t[:-1], "g_a.2"),
        ("g_s.1.weight", lambda t: t[0], "g_s.1.weight has shape"),
        ("g_s.0.mean", lambda t: t[:-1], "g_s.0.mean"),
        ("g_s.0.variance", lambda t: -t, "no variance may be negative"),
        ("q4.g_s.2.shift", lambda t: t * np.inf, "not finite"),
        ("q4.g_a.0.scale", lambda t: t.astype(np.int8), "q4.g_a.0.scale is int8"),
        ("q4.active", lambda t: t + 1, "of 0 and 1 alone"),
        ("q4.active", lambda t: t.astype(np.float32), "must be uint8"),
        ("q4.active", None, "q4.active"),
        ("q4.latent_scale", lambda t: t[:-1], "q4.latent_scale"),
        ("g_s.2.weight", None, "g_s.2.weight"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, change, named):
    tensors = seeded_binary(7)
    value = tensors.pop(name)
    if change:
        tensors[name] = np.asarray(change(value))
    about = {"name": "x", "family": FAMILY.stored_name, "metric": "mse", "qualities": (4,)}
    source = weights.save(tmp_path / "x.safetensors", tensors, **about)
    with pytest.raises(WeightsError, match=named):
        weights.load(source, 4)


def test_a_bound_needs_no_network():
    rgb = random_image(40, 30, 3)
    assert np.abs(caecodec.decode(caecodec.encode(rgb, max_error=2, weights=TINY_BINARY)).astype(int) - rgb).max() <= 2
    with pytest.raises(ParameterError, match="binary"):
        caecodec.encode(rgb, 4, max_error=2, weights=TINY_BINARY)


def test_channels_are_named(tmp_path):
    loaded = weights.load(save_binary(tmp_path / "x.safetensors"), 1)
    assert loaded.family.channels(loaded.network) == {"hidden 1": 6, "hidden 2": 8, "bit": 12, "latent": 12}


@pytest.fixture(scope="module")
def crops():
    return Crops(photographs(), 128, "cpu", 0)


def test_principal_components_code_already(crops):
    """Before any training, each quality is better than the one before, and the norm is as in inference."""
    torch.manual_seed(0)
    network = BinaryBackbone((1, 4, 7))
    initial.klt(network, crops.draw(16, 64))
    tensors = FAMILY.trainer().tensors(network.state_dict())
    photograph = photographs()[0]
    x = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float() / 255
    found = []
    for quality in (1, 4, 7):
        inference = FAMILY.build(FAMILY.fold(tensors, quality).tensors)
        with torch.inference_mode():
            decoded = inference.synthesis(inference.analysis(x))[0].permute(1, 2, 0).clip(0, 1) * 255
        found.append(psnr(photograph, decoded.round().byte().numpy()))
    assert found == sorted(found)
    assert found[0] > 15
    assert found[2] > 22


def test_the_command_trains_and_the_file_works(tmp_path, capsys, crops):
    """From principal components by default, or from random; the file is a start, for another quality too."""
    Image.fromarray(photographs()[0][:256, :256]).save(tmp_path / "a.png")
    output = tmp_path / "mine.safetensors"
    command = ["train", str(tmp_path), "-o", str(output), "--family", "binary", "--qualities", "2,8", "--validation", "0"]
    command += ["--steps", "2", "--crop", "64", "--batch", "2"]
    assert main([*command, "--init", "random"]) == 0
    assert "binary starts from random\n" in capsys.readouterr().out
    image = photographs()[0][:64, :72]
    sizes = {}
    for quality in (2, 8):
        for entropy in ("static", "context"):
            payload = caecodec.encode(image, quality, weights=output, entropy=entropy)
            assert caecodec.decode(payload, weights=output).shape == image.shape
            sizes[quality, entropy] = len(payload)
        assert sizes[quality, "static"] < 1.3 * ACTIVE[quality - 1] * 72 / 8 + 50  # about as many bits as there are
    assert sizes[2, "context"] < sizes[8, "context"] / 4
    recipe = Recipe(qualities=(7,), steps=1, family="binary")
    assert default_init(recipe) == KLT
    network = start(str(output), recipe, crops, torch.float32)
    assert network.active.sum() == 48


def test_training_learns():
    """In sixty small steps it is well above the noise that it begins with."""
    recipe = Recipe(qualities=(4,), steps=60, family="binary", crop=64, batch=2, lr=1.5e-3)
    torch.manual_seed(0)
    training = Training(
        recipe.trainer.network(recipe.qualities, "mse", torch.float32), recipe, Crops(photographs(), 64, "cpu", 0)
    )
    reports = []
    training.run(reports.append, 1e9, lambda training: None)
    assert reports[-1].bpp[0] < 0.51
    tensors = FAMILY.trainer().tensors(training.state()["state_dict"])
    network = FAMILY.build(FAMILY.fold(tensors, 4).tensors)
    photograph = photographs()[0][:128, :128]
    with torch.inference_mode():
        x = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float() / 255
        decoded = network.synthesis(network.analysis(x))[0].permute(1, 2, 0).clip(0, 1) * 255
    assert psnr(photograph, decoded.round().byte().numpy()) > 12
