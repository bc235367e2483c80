"""The family depthwise-residual: the folded network is the trained one; tiles, precision, damaged files, all that codecs do."""

import numpy as np
import pytest
import torch
import zarr
from helpers.images import random_image
from helpers.networks import save_depthwise, seeded_depthwise
from helpers.paths import TINY_DEPTHWISE

import caecodec
from caecodec import weights
from caecodec.arrays.inspection import inspect
from caecodec.bitstream.autoencoder import FAMILIES
from caecodec.chunks import tiling
from caecodec.errors import ParameterError, WeightsError
from caecodec.models import registry
from caecodec.models.depthwise import file
from caecodec.models.depthwise.architecture import Architecture, Transform
from caecodec.models.depthwise.training import initial
from caecodec.models.depthwise.training.backbone import DepthwiseBackbone
from caecodec.training.recipe import LMBDAS, Recipe

FAMILY = registry.by_name("depthwise-residual")
STRIDE = FAMILY.stride
SIZES = Architecture(Transform(20, 2, 24, 1), Transform(16, 1, 28, 2), 18)
QUALITIES = (2, 3)


@pytest.fixture(scope="module")
def folded():
    return FAMILY.fold(seeded_depthwise(5), 4)


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(random_image(9 * 16, 7 * 16, 3).transpose(2, 0, 1)[None].astype(np.float32) / 255)


@pytest.fixture(scope="module")
def backbone(image):
    """An untrained network whose blocks and modulations are not at rest."""
    torch.manual_seed(0)
    backbone = DepthwiseBackbone(SIZES, QUALITIES, dtype=torch.float32)
    initial.klt(backbone, image, [LMBDAS["mse"][quality - 1] for quality in QUALITIES])
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith(("_out", ".s", ".b")):
                parameter.add_(0.03 * torch.randn_like(parameter))
    return backbone


def test_names_and_ids():
    assert FAMILIES.name(4) == FAMILY.name == FAMILY.stored_name
    assert registry.by_stored_name("depthwise-residual") is FAMILY
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
        torch.testing.assert_close(network.latents(image), y, atol=0.02, rtol=0.01)
        symbols = y.round()
        torch.testing.assert_close(
            network.synthesis(symbols.to(torch.int32)), backbone.synthesis(symbols, quality), atol=4e-3, rtol=0.01
        )


def test_a_network_continues_from_its_weights_file(backbone, image):
    """A quality that the file lacks starts from the nearest one, with steps by the square root of the trade-offs."""
    tensors = FAMILY.trainer().tensors(backbone.state_dict())
    lmbdas = dict(enumerate(LMBDAS["mse"], 1))
    again = DepthwiseBackbone(SIZES, (3, 4), dtype=torch.float32)
    FAMILY.trainer().start_from_weights(again, tensors, lmbdas)
    with torch.inference_mode():
        y = backbone.analysis(image, torch.tensor([1]))
        torch.testing.assert_close(again.analysis(image, torch.tensor([0])), y, atol=0.02, rtol=0.01)
        finer = again.analysis(image, torch.tensor([1]))
        torch.testing.assert_close(finer, y * (lmbdas[4] / lmbdas[3]) ** 0.5, atol=0.05, rtol=0.01)
        expected = backbone.synthesis(y, torch.tensor([1]))
        torch.testing.assert_close(again.synthesis(finer, torch.tensor([1])), expected, atol=4e-3, rtol=0.01)


def test_principal_components_code_already(image):
    """With all blocks at zero, the synthesis is the inverse of the analysis on the components that are kept."""
    backbone = DepthwiseBackbone(
        Architecture(Transform(192, 1, 200, 1), Transform(192, 1, 200, 1), 200), (5,), dtype=torch.float32
    )
    initial.klt(backbone, image, [LMBDAS["mse"][4]])
    quality = torch.tensor([0])
    with torch.inference_mode():
        decoded = backbone.synthesis(backbone.analysis(image, quality).round(), quality)
    assert (image - decoded).square().mean() < 10**-2.5


def tiled(run, source, scale_in, scale_out, tile, halo):
    """run(source), tile by tile."""
    rows, columns = (side // scale_in for side in source.shape[2:])
    parts = tiling.tiles(rows, columns, tile, halo)
    assert len(parts) > 1
    with torch.inference_mode():
        outputs = [
            (part, run(source[:, :, *part.seen(scale_in)].contiguous(memory_format=torch.channels_last))) for part in parts
        ]
        whole = torch.full((*outputs[0][1].shape[:2], rows * scale_out, columns * scale_out), torch.nan)
        for part, out in outputs:
            whole[:, :, *part.place(scale_out)] = out[:, :, *part.kept(scale_out)]
    return whole


@pytest.mark.parametrize("tile", [1, 2])
def test_tiles_equal_the_whole(folded, image, tile):
    """And a smaller halo would not do."""
    network, halo = FAMILY.build(folded.tensors), FAMILY.halo(folded.tensors)
    assert halo == 3  # of the synthesis: two coarse blocks, and a fine one
    with torch.inference_mode():
        latents, symbols = network.latents(image), network.analysis(image)
        picture = network.synthesis(symbols)
    torch.testing.assert_close(tiled(network.latents, image, STRIDE, 1, tile, halo), latents, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(tiled(network.synthesis, symbols, 1, STRIDE, tile, halo), picture, atol=1e-5, rtol=1e-5)
    assert (tiled(network.synthesis, symbols, 1, STRIDE, tile, halo - 1) - picture).abs().max() > 1e-4


def test_a_batch_equals_its_images(folded, image):
    network = FAMILY.build(folded.tensors)
    batch = torch.cat([image, image.flip(3)])
    with torch.inference_mode():
        symbols = network.analysis(batch)
        assert torch.equal(symbols, torch.cat([network.analysis(one) for one in batch.split(1)]))
        torch.testing.assert_close(
            network.synthesis(symbols), torch.cat([network.synthesis(one) for one in symbols.split(1)]), atol=1e-5, rtol=1e-5
        )


def test_bfloat16_is_near(folded, image):
    """Pixels and latents stay in float32, and so does a network that is not asked."""
    exact, low = FAMILY.build(folded.tensors), FAMILY.build(folded.tensors)
    FAMILY.reduce_precision(exact, "fp32", 4, "cpu")
    FAMILY.reduce_precision(low, "bf16", 4, "cpu")
    with torch.inference_mode():
        symbols = exact.analysis(image)
        difference = (low.synthesis(symbols) - exact.synthesis(symbols)).abs()
    assert 0 < difference.mean() < 0.01
    assert low.synthesis(symbols).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("g_a.merge.weight", lambda t: t[:, :-1], "g_a.merge.weight is float16"),
        ("g_s.fine.0.depthwise.weight", lambda t: t[:, :2], "g_s.fine.0.depthwise.weight"),
        ("q4.latent_scale", lambda t: t[:-1], "q4.latent_scale"),
        ("g_a.coarse.0.channel_in.weight", lambda t: t.astype(np.int8), "g_a.coarse.0.channel_in.weight is int8"),
        ("q4.g_s.split.shift", lambda t: t * np.inf, "not finite"),
        ("g_a.latent.weight", None, "g_a.latent.weight"),
        ("q4.g_s.coarse.1.channel_in.scale", None, "q4.g_s.coarse.1.channel_in.scale"),
        ("g_a.patch.weight", lambda t: t[0, 0], "g_a.patch.weight"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, change, named):
    tensors = seeded_depthwise(5)
    value = tensors.pop(name)
    if change:
        tensors[name] = np.asarray(change(value))
    about = {"name": "x", "family": FAMILY.stored_name, "metric": "mse", "qualities": (4,)}
    source = weights.save(tmp_path / "x.safetensors", tensors, **about)
    with pytest.raises(WeightsError, match=named):
        weights.load(source, 4)


def test_blocks_are_counted_from_zero():
    tensors = seeded_depthwise(5)
    assert [file.blocks(tensors, f"{side}.{scale}") for side in ("g_a", "g_s") for scale in ("fine", "coarse")] == [2, 1, 1, 2]


def test_through_zarr(tmp_path, fp32):
    """Both formats, and inspection: zarr's chunks are those of the codec."""
    rgb = random_image(90, 70, 3, seed=2)
    expected = caecodec.decode(caecodec.encode(rgb[32:64, :48], 4, weights=TINY_DEPTHWISE), weights=TINY_DEPTHWISE)
    assert np.ptp(expected) > 20
    for zarr_format, keyword in ((2, "compressors"), (3, "serializer")):
        codec = {"compressors": None, keyword: caecodec.ConvolutionalAutoencoder(4, weights=TINY_DEPTHWISE)}
        path = tmp_path / f"{zarr_format}.zarr"
        z = zarr.create_array(path, data=rgb, chunks=(32, 48, 3), zarr_format=zarr_format, **codec)
        np.testing.assert_array_equal(z[32:64, :48], expected)
        assert inspect(path)[0].qualities == (4,)


@pytest.mark.parametrize(("scale", "dtype", "axis"), [(99, np.uint16, None), (1 / 7, np.float32, -1), (1, np.int16, -1)])
def test_dtypes(scale, dtype, axis):
    array = (random_image(40, 50, 3, seed=2)[..., 0 if axis is None else slice(3)] * scale).astype(dtype)
    decoded = caecodec.decode(caecodec.encode(array, 4, channel_axis=axis, weights=TINY_DEPTHWISE), weights=TINY_DEPTHWISE)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert array.min() <= decoded.min() < decoded.max() <= array.max()


def test_a_bound_needs_no_network(image):
    """max_error alone works as ever; with a quality it is refused, and the error says why."""
    rgb = random_image(40, 30, 3)
    payload = caecodec.encode(rgb, max_error=2)
    assert np.abs(caecodec.decode(payload).astype(int) - rgb).max() <= 2
    with pytest.raises(ParameterError, match="depthwise-residual"):
        caecodec.encode(rgb, 4, max_error=2, weights=TINY_DEPTHWISE)


def test_recipes_know_its_ranges():
    assert Recipe(qualities=(6, 8), steps=1, family=FAMILY.name).lmbdas
    with pytest.raises(ParameterError, match="6 to 8"):
        Recipe(qualities=(5, 6), steps=1, family=FAMILY.name)


def test_channels_are_named(tmp_path):
    loaded = weights.load(save_depthwise(tmp_path / "x.safetensors"), 1)
    assert loaded.family.channels(loaded.network) == {
        "analysis": 12, "coarse analysis": 14, "latent": 12, "coarse synthesis": 13, "synthesis": 10
    }  # fmt: skip
