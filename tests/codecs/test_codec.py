import numpy as np
import pytest
from helpers.images import random_image
from helpers.paths import TINY
from helpers.symbols import analyse
from hypothesis import given
from hypothesis import strategies as st
from reference import decoder as reference_decoder

import caecodec
from caecodec import engine, settings, weights
from caecodec.bitstream import autoencoder
from caecodec.chunks.axes import Axes
from caecodec.chunks.planes import Layout
from caecodec.engine import DevicePlacement
from caecodec.entropy import static
from caecodec.images.metrics import psnr

LAYOUTS = {"yxc": -1, "cyx": -3}


@pytest.mark.parametrize("quality", [1, 2, 3, 4, 5])
def test_photograph(photograph, quality):
    """The shipped weights, from real bytes: more quality is more bytes and less error."""
    payload = caecodec.encode(photograph[:256, :256], quality=quality)
    assert psnr(caecodec.decode(payload), photograph[:256, :256]) > 22 + 1.5 * quality
    assert 0.1 * quality < 8 * len(payload) / 256**2 < 0.5 * quality


def test_each_quality_costs_more_and_shows_less_error(photograph):
    payloads = [caecodec.encode(photograph, quality=quality) for quality in (1, 2, 3, 4, 5)]
    errors = [-psnr(caecodec.decode(payload), photograph) for payload in payloads]
    assert sorted(payloads, key=len) == payloads
    assert sorted(errors, reverse=True) == errors


@given(
    st.lists(st.integers(1, 3), max_size=2), st.integers(1, 70), st.integers(1, 70), st.sampled_from([-1, -3, 0]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_shape(leading, height, width, channel_axis, fortran, strided):
    array = np.moveaxis(random_image(*leading, height, width, 3), -1, channel_axis)
    if strided:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    if fortran:
        array = np.asfortranarray(array)
    array.flags.writeable = False
    payload = caecodec.encode(array, quality=4, channel_axis=channel_axis, weights=TINY)
    decoded = caecodec.decode(payload, weights=TINY)
    assert decoded.shape == array.shape
    assert decoded.dtype == np.uint8
    same = caecodec.decode(caecodec.encode(np.ascontiguousarray(array), 4, "mse", channel_axis, TINY), TINY)
    np.testing.assert_array_equal(decoded, same)


@pytest.mark.parametrize(("height", "width"), [(1, 4096), (4096, 1), (1, 1), (15, 17), (250, 256)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_extreme_sizes(photograph, height, width, layout):
    tall = np.tile(photograph, (8, 8, 1))[:height, :width]
    array = tall if layout == "yxc" else tall.transpose(2, 0, 1)
    decoded = caecodec.decode(caecodec.encode(array, quality=5, channel_axis=LAYOUTS[layout]))
    assert decoded.shape == array.shape
    assert psnr(decoded, array) > 28


def test_layouts_agree(photograph):
    crop = photograph[100:260, 50:300]
    one = caecodec.decode(caecodec.encode(crop, quality=3))
    other = caecodec.decode(caecodec.encode(crop.transpose(2, 0, 1), quality=3, channel_axis=0))
    np.testing.assert_array_equal(other.transpose(1, 2, 0), one)


def test_a_batch_is_its_images(tiny):
    array = random_image(5, 2, 40, 56, 3)
    batch = caecodec.decode(caecodec.encode(array, quality=4, weights=tiny))
    for index in np.ndindex(5, 2):
        alone = caecodec.decode(caecodec.encode(array[index], quality=4, weights=tiny))
        assert np.abs(batch[index].astype(int) - alone).max() <= 1


@pytest.mark.parametrize("level", [0, 255, 128])
def test_constant_chunks(level):
    array = np.full((256, 256, 3), level, np.uint8)
    payload = caecodec.encode(array, quality=1)
    assert len(payload) <= 64
    np.testing.assert_array_equal(caecodec.decode(payload), array)


def test_nearly_constant_chunk_keeps_its_exception():
    array = np.full((64, 64, 3), 255, np.uint8)
    array[20:30, 20:30] = 0
    assert caecodec.decode(caecodec.encode(array, quality=5))[25, 25].max() < 100


@pytest.mark.parametrize("quality", [1, 3, 5])
def test_payload_is_near_the_ideal_length(photograph, slide, quality):
    source = weights.resolve(weights.Spec("default"), "mse", quality)
    tables = engine.engine().load(source, quality).tables["static"]
    axes = Axes.of(3, -1)
    actual, ideal = 0, 0.0
    for image in (photograph, slide):
        for y, x in np.ndindex(2, 2):
            chunk = image[256 * y : 256 * (y + 1), 256 * x : 256 * (x + 1)]
            payload = autoencoder.parse(caecodec.encode(chunk, quality=quality))
            assert payload.overhead <= 24
            actual += sum(map(len, payload.streams)) + len(payload.escapes)
            ideal += static.MODEL.code_length(analyse(chunk, axes, Layout(separate=False), source, quality, None), tables) / 8
    assert actual <= 1.01 * ideal


@pytest.mark.parametrize("quality", [2, 5])
def test_reference_decoder_on_photographs(photograph, quality):
    chunk = photograph[:256, 128:384]
    payload = caecodec.encode(chunk, quality=quality)
    source = weights.resolve(weights.Spec("default"), "mse", quality)
    symbols = analyse(chunk, Axes.of(3, -1), Layout(separate=False), source, quality, None)
    reference = reference_decoder.decode(payload, source.location.read_bytes())
    np.testing.assert_array_equal(np.array(reference.symbols), symbols)


def test_tiles_of_a_large_chunk_show_no_seams(photograph):
    array = np.tile(photograph, (2, 3, 1))
    whole = caecodec.decode(caecodec.encode(array, quality=4))
    with settings.using(memory="64M"):
        tiled = caecodec.decode(caecodec.encode(array, quality=4))
    assert np.mean(tiled != whole) < 1e-3
    assert psnr(tiled, whole) > 60


@pytest.mark.parametrize("quality", [1, 4, 6, 7, 8])
def test_reduced_precision_is_near_fp32(photograph, quality):
    """On every processor, since those without bfloat16 compute the same more slowly; auto loses no more."""
    loss = 0.03 if DevicePlacement.choose(None).on_cpu else 0.05  # a GPU, which adds in another order, lost 0.034 at quality 6
    payloads, decoded = {}, {}
    for precision in ("fp32", "bf16", "auto"):
        with settings.using(precision=precision):
            payloads[precision] = caecodec.encode(photograph, quality=quality)
            decoded[precision] = caecodec.decode(payloads["fp32"])
    for precision, least, most in (("bf16", 50, 0.08), ("auto", 50, loss)):
        assert psnr(decoded[precision], decoded["fp32"]) > least
        assert psnr(decoded["fp32"], photograph) - psnr(decoded[precision], photograph) < most
        assert abs(len(payloads[precision]) / len(payloads["fp32"]) - 1) < 0.005


def test_reduced_precision_is_used(photograph):
    """The test above could not fail if it were not."""
    payload = caecodec.encode(photograph[:64, :64], quality=4)
    with settings.using(precision="bf16"):
        half = caecodec.decode(payload)
    with settings.using(precision="fp32"):
        assert not np.array_equal(half, caecodec.decode(payload))


@pytest.mark.parametrize(("changes", "match"), [
    ({"quality": 0}, "quality is 0 .* 1 "), ({"quality": 9}, "quality is 9"), ({"quality": 2.5}, "quality is 2.5"),
    ({"quality": True}, "quality is True"), ({"metric": "psnr"}, "metric is 'psnr' .* 'ms-ssim'"),
    ({"channel_axis": "c"}, "channel_axis is 'c'"), ({"channel_axis": 7}, "-3 to 2"),
])  # fmt: skip
def test_wrong_parameters(photograph, changes, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        caecodec.encode(photograph, **{"quality": 4, **changes})


def test_not_an_array():
    with pytest.raises(caecodec.ParameterError, match="list"):
        caecodec.encode([[1, 2, 3]], quality=4)


def test_gpu_true_works_anywhere(photograph):
    payload = caecodec.encode(photograph, quality=4, gpu=True)
    assert psnr(caecodec.decode(payload, gpu=True), caecodec.decode(payload, gpu=False)) > 50
