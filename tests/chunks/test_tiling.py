import numpy as np
import pytest
import torch
from helpers.images import random_image
from helpers.paths import TINY

from caecodec import weights
from caecodec.chunks import tiling
from caecodec.models.factorized.family import HALO, STRIDE
from caecodec.models.factorized.network import FactorizedPrior


@pytest.fixture(scope="module")
def network():
    source = weights.resolve(weights.Spec.parse(TINY), "mse", 4)
    return FactorizedPrior.build(weights.load(source, 4).network.tensors)


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(random_image(9 * 16, 7 * 16, 3).transpose(2, 0, 1)[None].astype(np.float32) / 255)


def tiled(run, source, scale_in, scale_out, tile, halo=HALO):
    """run(source), tile by tile."""
    rows, columns = (side // scale_in for side in source.shape[2:])
    parts = tiling.tiles(rows, columns, tile, halo)
    assert len(parts) > 1
    with torch.inference_mode():
        whole = None
        for part in parts:
            out = run(source[:, :, *part.seen(scale_in)].contiguous(memory_format=torch.channels_last))
            if whole is None:
                whole = out.new_full((*out.shape[:2], rows * scale_out, columns * scale_out), torch.nan)
            whole[:, :, *part.place(scale_out)] = out[:, :, *part.kept(scale_out)]
    return whole


@pytest.mark.parametrize("tile", [1, 2, 3])
def test_tiles_equal_the_whole(network, image, tile):
    """The halo covers the receptive field: every tile size gives the latents and pixels of one pass, borders included."""
    with torch.inference_mode():
        latents = network.latents(image)
        symbols = network.analysis(image)
        picture = network.synthesis(symbols)
    assert symbols.abs().max() > 5
    torch.testing.assert_close(tiled(network.latents, image, STRIDE, 1, tile), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiled(network.synthesis, symbols, 1, STRIDE, tile), picture, atol=1e-5, rtol=1e-5)


def test_a_smaller_halo_would_not_do(network, image):
    """The test above can fail."""
    with torch.inference_mode():
        latents = network.latents(image)
        symbols = network.analysis(image)
        picture = network.synthesis(symbols)
    assert (tiled(network.latents, image, STRIDE, 1, 3, HALO - 1) - latents).abs().max() > 1e-3
    assert (tiled(network.synthesis, symbols, 1, STRIDE, 3, HALO - 1) - picture).abs().max() > 1e-3


@pytest.mark.parametrize(("size", "tile"), [(1, 1), (10, 3), (64, 60), (7, 100)])
def test_spans_cover_once(size, tile):
    kept = [i for span in tiling.spans(size, tile, 2) for i in range(span.start, span.stop)]
    assert kept == list(range(size))
    assert all(span.stop - span.start <= tile for span in tiling.spans(size, tile, 2))


def test_pad_repeats_the_border():
    images = np.arange(2 * 3 * 5 * 17, dtype=np.float32).reshape(2, 3, 5, 17)
    padded = tiling.pad(images, 16)
    assert padded.shape == (2, 3, 16, 32)
    np.testing.assert_array_equal(padded[:, :, :5, :17], images)
    np.testing.assert_array_equal(padded[:, :, 5:, :17], images[:, :, 4:5].repeat(11, axis=2))
    np.testing.assert_array_equal(padded[:, :, :5, 17:], images[:, :, :, 16:].repeat(15, axis=3))
