"""The family residual-attention: the folded network is the trained one; receptive field, tiles, damaged files, codecs."""

import numpy as np
import pytest
import torch
import zarr
from helpers.images import random_image
from helpers.networks import save_residual_attention, seeded_residual_attention
from helpers.paths import TINY_RESIDUAL_ATTENTION

import caecodec
from caecodec import weights
from caecodec.arrays.inspection import inspect
from caecodec.bitstream.autoencoder import FAMILIES
from caecodec.chunks import tiling
from caecodec.errors import ParameterError, WeightsError
from caecodec.models import registry
from caecodec.models.residual_attention.training import initial
from caecodec.models.residual_attention.training.backbone import ResidualAttentionBackbone
from caecodec.training.recipe import LMBDAS, Recipe

FAMILY = registry.by_name("residual-attention")
STRIDE = FAMILY.stride
QUALITIES = (2, 3)
LMBDA = dict(enumerate(LMBDAS["mse"], 1))


@pytest.fixture(scope="module")
def folded():
    return FAMILY.fold(seeded_residual_attention(5), 4)


@pytest.fixture(scope="module")
def image():
    return pixels(5, 4)


def pixels(rows, columns):
    """An image (1, 3, height, width) in [0, 1] of this many latent rows and columns."""
    rgb = random_image(rows * STRIDE, columns * STRIDE, 3)
    return torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def backbone_at_rest(image, hidden=12, latent=10):
    torch.manual_seed(0)
    backbone = ResidualAttentionBackbone(hidden, latent, QUALITIES, dtype=torch.float32)
    initial.klt(backbone, image, [LMBDA[quality] for quality in QUALITIES])
    return backbone


@pytest.fixture(scope="module")
def backbone(image):
    """An untrained network of which nothing is zero."""
    backbone = backbone_at_rest(image)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if not name.endswith(("beta", "gamma")):
                parameter.add_(0.03 * torch.randn_like(parameter))
    return backbone


def test_names_and_ids():
    assert FAMILIES.name(2) == FAMILY.name == FAMILY.stored_name
    assert registry.by_stored_name("residual-attention") is FAMILY
    assert not FAMILY.exact


@pytest.mark.parametrize("index", [0, 1])
def test_the_folded_network_is_the_trained_one(backbone, image, index):
    """But for the rounding of weights to fp16."""
    tensors = FAMILY.trainer().tensors(backbone.state_dict())
    FAMILY.check(tensors, QUALITIES[index])
    network = FAMILY.build(FAMILY.fold(tensors, QUALITIES[index]).tensors)
    quality = torch.tensor([index])
    with torch.inference_mode():
        y = backbone.analysis(image, quality)
        assert y.abs().max() > 3
        torch.testing.assert_close(network.latents(image), y, atol=0.03, rtol=0.01)
        symbols = y.round()
        torch.testing.assert_close(
            network.synthesis(symbols.to(torch.int32)), backbone.synthesis(symbols, quality), atol=0.01, rtol=0.01
        )


def test_a_network_continues_from_its_weights_file(backbone, image):
    """A quality that the file lacks starts from the nearest one, with steps by the square root of the trade-offs."""
    tensors = FAMILY.trainer().tensors(backbone.state_dict())
    again = ResidualAttentionBackbone(12, 10, (3, 4), dtype=torch.float32)
    FAMILY.trainer().start_from_weights(again, tensors, LMBDA)
    with torch.inference_mode():
        y = backbone.analysis(image, torch.tensor([1]))
        torch.testing.assert_close(again.analysis(image, torch.tensor([0])), y, atol=0.03, rtol=0.01)
        finer = again.analysis(image, torch.tensor([1]))
        torch.testing.assert_close(finer, y * (LMBDA[4] / LMBDA[3]) ** 0.5, atol=0.05, rtol=0.01)
        expected = backbone.synthesis(y, torch.tensor([1]))
        torch.testing.assert_close(again.synthesis(finer, torch.tensor([1])), expected, atol=0.01, rtol=0.01)
    with pytest.raises(WeightsError, match=r"\(12, 3, 3, 3\) in these weights but must have \(6, 3, 3, 3\).*or from klt"):
        FAMILY.trainer().start_from_weights(ResidualAttentionBackbone(6, 10, (3,)), tensors, LMBDA)


def test_blocks_pass_their_input_on_at_first(image):
    backbone = backbone_at_rest(image)
    x, quality = torch.rand(1, 12, 8, 8), torch.tensor([0])
    for side, stages in ((backbone.g_a, "1346"), (backbone.g_s, "0134")):
        for stage in stages:
            torch.testing.assert_close(side[stage](x, quality, backbone.parts), x)


def test_principal_components_code_already(image):
    """With enough channels, the synthesis is the inverse of the analysis but for quantisation."""
    backbone = backbone_at_rest(image, hidden=192, latent=768)
    quality = torch.tensor([0])
    with torch.inference_mode():
        y = backbone.analysis(image, quality)
        torch.testing.assert_close(backbone.synthesis(y, quality), image, atol=1e-3, rtol=0)
        coarse = backbone.synthesis(y.round(), quality)
    assert 1e-5 < (image - coarse).square().mean() < 1e-3


def test_the_halo_is_the_receptive_field(backbone):
    """129 pixels to the side in the analysis, so nine latents; nine in the synthesis."""
    halo, place = FAMILY.halo({}), 11
    quality = torch.tensor([0])
    x = pixels(1, 2 * place).requires_grad_()
    backbone.analysis(x, quality)[..., place].sum().backward()
    (seen,) = x.grad.abs().sum((0, 1, 2)).nonzero(as_tuple=True)
    assert place * STRIDE - int(seen[0]) == 129
    assert int(seen[-1]) - (place + 1) * STRIDE < 129
    y = torch.randn(1, 10, 1, 2 * place, requires_grad=True)
    backbone.synthesis(y, quality)[..., place * STRIDE : (place + 1) * STRIDE].sum().backward()
    (seen,) = y.grad.abs().sum((0, 1, 2)).nonzero(as_tuple=True)
    assert (place - int(seen[0]), int(seen[-1]) - place) == (halo, halo)
    assert halo == -(-129 // STRIDE) == 9


def tiled(run, source, scale_in, scale_out, halo):
    """run(source), tile by tile of four latents a side."""
    rows, columns = (side // scale_in for side in source.shape[2:])
    parts = tiling.tiles(rows, columns, 4, halo)
    assert len(parts) > 4
    with torch.inference_mode():
        outputs = [(part, run(source[:, :, *part.seen(scale_in)].contiguous())) for part in parts]
        whole = torch.full((*outputs[0][1].shape[:2], rows * scale_out, columns * scale_out), torch.nan)
        for part, out in outputs:
            whole[:, :, *part.place(scale_out)] = out[:, :, *part.kept(scale_out)]
    return whole


@pytest.mark.parametrize("shape", [(24, 2), (2, 26)])
def test_tiles_equal_the_whole(folded, shape):
    """And a halo of two would not do."""
    network, halo, image = FAMILY.build(folded.tensors), FAMILY.halo(folded.tensors), pixels(*shape)
    with torch.inference_mode():
        latents, symbols = network.latents(image), network.analysis(image)
        picture = network.synthesis(symbols)
    torch.testing.assert_close(tiled(network.latents, image, STRIDE, 1, halo), latents, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(tiled(network.synthesis, symbols, 1, STRIDE, halo), picture, atol=1e-5, rtol=1e-5)
    assert (tiled(network.synthesis, symbols, 1, STRIDE, 2) - picture).abs().max() > 1e-3


def test_a_batch_equals_its_images(folded, image):
    network = FAMILY.build(folded.tensors)
    batch = torch.cat([image, image.flip(3)])
    with torch.inference_mode():
        symbols = network.analysis(batch)
        assert torch.equal(symbols, torch.cat([network.analysis(one) for one in batch.split(1)]))
        torch.testing.assert_close(
            network.synthesis(symbols), torch.cat([network.synthesis(one) for one in symbols.split(1)]), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("g_a.2.shortcut.weight", lambda t: t[:, :, 0, 0], "g_a.2.shortcut.weight is float16"),
        ("g_s.4.mask.2.conv_out.weight", lambda t: t[:, :2], "g_s.4.mask.2.conv_out.weight"),
        ("g_a.3.gate.weight", lambda t: t.astype(np.int8), "g_a.3.gate.weight is int8"),
        ("g_a.1.norm.beta", lambda t: -t, "g_a.1.norm.beta holds values that are not above 0"),
        ("q4.latent_scale", lambda t: t[:-1], "q4.latent_scale"),
        ("q4.g_s.6.conv_out.shift", lambda t: t * np.inf, "not finite"),
        ("g_s.latent.weight", None, "g_s.latent.weight"),
        ("g_s.0.trunk.1.conv_in.weight", None, "g_s.0.trunk.1.conv_in.weight"),
        ("q4.g_s.7.conv_out.scale", None, "q4.g_s.7.conv_out.scale"),
        ("g_a.latent.weight", lambda t: t[0, 0], "g_a.latent.weight"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, change, named):
    tensors = seeded_residual_attention(5)
    value = tensors.pop(name)
    if change:
        tensors[name] = np.asarray(change(value))
    about = {"name": "x", "family": FAMILY.stored_name, "metric": "mse", "qualities": (4,)}
    source = weights.save(tmp_path / "x.safetensors", tensors, **about)
    with pytest.raises(WeightsError, match=named):
        weights.load(source, 4)


def test_through_zarr(tmp_path, fp32):
    """Both formats, and inspection: zarr's chunks are those of the codec."""
    rgb = random_image(90, 70, 3, seed=2)
    codec_weights = TINY_RESIDUAL_ATTENTION
    expected = caecodec.decode(caecodec.encode(rgb[32:64, :48], 4, weights=codec_weights), weights=codec_weights)
    assert np.ptp(expected) > 20
    for zarr_format, keyword in ((2, "compressors"), (3, "serializer")):
        codec = {"compressors": None, keyword: caecodec.ConvolutionalAutoencoder(4, weights=codec_weights)}
        path = tmp_path / f"{zarr_format}.zarr"
        z = zarr.create_array(path, data=rgb, chunks=(32, 48, 3), zarr_format=zarr_format, **codec)
        np.testing.assert_array_equal(z[32:64, :48], expected)
        assert inspect(path)[0].qualities == (4,)


def test_a_bound_with_a_quality_is_refused():
    with pytest.raises(ParameterError, match="residual-attention"):
        caecodec.encode(random_image(40, 30, 3), 4, max_error=2, weights=TINY_RESIDUAL_ATTENTION)


@pytest.mark.parametrize(("qualities", "latent"), [((1, 2, 3), 32), ((2, 5), 192), ((6, 8), 320)])
def test_high_qualities_have_more_latent_channels(qualities, latent, monkeypatch):
    monkeypatch.setattr("caecodec.models.residual_attention.training.trainer.HIDDEN", 4)
    recipe = Recipe(qualities=qualities, steps=1, family=FAMILY.name)
    assert recipe.trainer.network(qualities, "mse", torch.float32).latent_scale.shape == (len(qualities), latent)


def test_recipes_know_its_ranges():
    with pytest.raises(ParameterError, match="6 to 8"):
        Recipe(qualities=(5, 6), steps=1, family=FAMILY.name)


def test_channels_are_named(tmp_path):
    loaded = weights.load(save_residual_attention(tmp_path / "x.safetensors"), 1)
    assert loaded.family.channels(loaded.network) == {"hidden": 6, "latent": 12}
