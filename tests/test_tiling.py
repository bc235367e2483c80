import numpy as np
import pytest
import torch
from conftest import TINY, random_image

from caecodec import tiling, weights
from caecodec.models.factorized import HALO, STRIDE, FactorizedPrior


@pytest.fixture(scope="module")
def network():
    source = weights.resolve(weights.Spec.parse(TINY), "mse", 4)
    return FactorizedPrior.build(weights.load(source, 4).tensors)


def run(function):
    def numpy(part):
        with torch.inference_mode():
            return function(torch.from_numpy(np.ascontiguousarray(part))).numpy()

    return numpy


@pytest.mark.parametrize("tile", [1, 2, 3, 5])
def test_tiles_equal_the_whole(network, tile):
    """The halo covers the receptive field: every tile size gives what one pass gives, borders included."""
    image = random_image(9 * 16, 7 * 16, 3).transpose(2, 0, 1)[None].astype(np.float32) / 255
    whole = run(network.analysis)(image)
    assert np.abs(whole).max() > 5
    tiled = tiling.apply(run(network.analysis), image, STRIDE, 1, tile, HALO)
    assert np.mean(tiled != whole) < 1e-3  # a latent next to a rounding boundary may fall to its other side
    assert np.abs(tiled - whole).max() <= 1
    picture = run(network.synthesis)(whole)
    np.testing.assert_allclose(tiling.apply(run(network.synthesis), whole, 1, STRIDE, tile, HALO), picture, atol=1e-4)


def test_a_smaller_halo_would_not_do(network):
    """The test above can fail."""
    image = random_image(9 * 16, 7 * 16, 3).transpose(2, 0, 1)[None].astype(np.float32) / 255
    whole = run(network.analysis)(image)
    picture = run(network.synthesis)(whole)
    assert np.mean(tiling.apply(run(network.analysis), image, STRIDE, 1, 3, HALO - 1) != whole) > 0.01
    assert np.abs(tiling.apply(run(network.synthesis), whole, 1, STRIDE, 3, HALO - 1) - picture).max() > 1e-3


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
