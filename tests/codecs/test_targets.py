"""Quality by target: psnr= or bpp= in place of quality, chunk by chunk."""

import numcodecs
import numpy as np
import pytest
import zarr
from helpers.images import random_image

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder
from caecodec.bitstream.codings import Body
from caecodec.codecs.autoencoder.parameters import AutoencoderParameters
from caecodec.images.metrics import psnr


def quality_of(payload):
    return autoencoder.parse(payload).header.quality


@pytest.fixture(scope="module")
def qualities():
    return sorted(weights.resolve_all(weights.Spec("default"), "mse"))


@pytest.mark.parametrize("target", [24.0, 29.0, 32.5])
def test_the_lowest_quality_that_reaches_a_psnr(photograph, qualities, target):
    chunk = photograph[100:228, 200:328]
    payload = caecodec.encode(chunk, psnr=target)
    assert psnr(chunk, caecodec.decode(payload)) >= target
    below = quality_of(payload) - 1
    assert below < qualities[0] or psnr(caecodec.decode(caecodec.encode(chunk, quality=below)), chunk) < target


@pytest.mark.parametrize("target", [0.3, 0.8, 1.2])
def test_the_highest_quality_that_keeps_to_a_rate(photograph, qualities, target):
    chunk = photograph[100:228, 200:328]
    payload = caecodec.encode(chunk, bpp=target)
    assert 8 * len(payload) / 128**2 <= target
    above = quality_of(payload) + 1
    assert above > qualities[-1] or 8 * len(caecodec.encode(chunk, quality=above)) / 128**2 > target


def test_a_rate_that_no_quality_keeps_to(photograph, qualities):
    assert quality_of(caecodec.encode(photograph[:64, :64], bpp=0.001)) == qualities[0]


@pytest.mark.parametrize("target", [48.0, 55.0, 90.0])
def test_a_psnr_that_no_quality_reaches(photograph, target):
    chunk = photograph[100:164, 200:264]
    payload = caecodec.encode(chunk, psnr=target)
    assert autoencoder.parse(payload).header.body is Body.BOUNDED
    assert psnr(chunk, caecodec.decode(payload)) >= target
    assert len(payload) < chunk.size


def test_at_most_four_passes(photograph, monkeypatch):
    from caecodec.engine import CpuLine

    calls = []
    analyse = CpuLine.analyse
    monkeypatch.setattr(CpuLine, "analyse", lambda *arguments: calls.append(arguments) or analyse(*arguments))
    for options in ({"psnr": 31}, {"bpp": 0.5}, {"psnr": 20}, {"bpp": 9}):
        calls.clear()
        caecodec.encode(photograph[:64, :64], **options)
        assert 1 <= len(calls) <= 4


def test_chunks_of_an_array_choose_for_themselves(photograph, tmp_path):
    """Smooth chunks take a lower quality than detailed ones; metadata say what was asked for, and open again."""
    smooth = np.full((128, 128, 3), 120, np.uint8) + random_image(128, 128, 3) // 64
    array = np.concatenate([smooth, photograph[100:228, 200:328]], axis=1)
    codec = caecodec.zarr.ConvolutionalAutoencoder(psnr=30)
    z = zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(128, 128, 3), serializer=codec, compressors=None)
    for x in (0, 128):
        assert psnr(z[:, x : x + 128], array[:, x : x + 128]) >= 30
    again = zarr.open_array(tmp_path / "a.zarr")
    assert again.serializer == codec
    assert "quality" not in again.serializer.to_dict()["configuration"]
    from caecodec.arrays.inspection import inspect

    (report,) = inspect(tmp_path / "a.zarr")
    assert len(report.qualities) == 2
    assert report.asked == "psnr 30"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": 3, "psnr": 30}, "only one of quality, psnr and bpp"),
        ({"bpp": 1, "psnr": 30}, "only one of quality, psnr and bpp"),
        ({"max_error": 1, "psnr": 30}, "max_error alone or with quality"),
        ({"psnr": -1}, "psnr is -1"),
        ({"psnr": "high"}, "psnr is 'high'"),
        ({"bpp": 0}, "bpp is 0 but must be above 0"),
        ({"bpp": float("nan")}, "bpp is nan"),
        ({"max_error": True}, "max_error is True"),
        ({"max_error": -1}, "0 or more, in the array's units"),
    ],
)
def test_targets_that_cannot_be(arguments, message):
    with pytest.raises(caecodec.ParameterError, match=message):
        caecodec.ConvolutionalAutoencoder(**arguments)


def test_configuration_keeps_what_was_asked_for():
    for options in ({"psnr": 35.0}, {"bpp": 1.5}, {"max_error": 2.0}, {"max_error": 0.0, "quality": 3}, {"quality": 2}):
        codec = caecodec.ConvolutionalAutoencoder(**options)
        config = codec.get_config()
        assert {name: config[name] for name in options} == options
        assert set(config) - set(options) == {"id", "metric", "channel_axis", "weights"}
        assert numcodecs.get_codec(dict(config)) == codec
        parameters = AutoencoderParameters.parse(**codec.parameters.arguments())
        assert parameters == codec.parameters
