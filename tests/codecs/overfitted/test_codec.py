"""Arrays of every layout and dtype through the overfitted codec, its parameters and shared networks."""

import base64
import copy
import json
import pickle

import numcodecs
import numpy as np
import pytest
from helpers.images import random_image
from helpers.surfaces import encode

import caecodec
from caecodec.bitstream.overfitted import OWN_NETWORK, SHARED_NETWORK
from caecodec.codecs.decoding import parse_payload
from caecodec.codecs.overfitted import codec
from caecodec.codecs.overfitted.network import digest, identify
from caecodec.codecs.overfitted.parameters import LMBDAS, OverfittedParameters
from caecodec.images.metrics import psnr
from caecodec.zarr import OverfittedAutoencoder as Serializer

pytestmark = pytest.mark.usefixtures("by_hand")


@pytest.mark.parametrize("shape", [(40, 56, 3), (1, 2, 3), (2, 3, 17, 5, 3)], ids=str)
@pytest.mark.parametrize("channel_axis", [-1, -3, 0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_three_channels(shape, channel_axis, dtype):
    array = np.moveaxis(random_image(*shape, seed=2), -1, channel_axis).astype(dtype)
    if dtype == "int16":
        array -= 100
    data = encode(array, channel_axis=channel_axis)
    decoded = caecodec.decode(data, expected_shape=array.shape, expected_dtype=dtype)
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert psnr(decoded, array) > 24
    header = parse_payload(data).header
    assert (header.version, header.family, header.body, header.decoder) == (3, "overfitted", OWN_NETWORK, "lop")


@pytest.mark.parametrize(("shape", "channel_axis"), [
    ((40, 56), None), ((4, 40, 56), None), ((2, 40, 56), 0), ((40, 56, 5), -1), ((2, 3, 40, 56), None), ((3, 4, 9, 7), 1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_planes(shape, channel_axis, dtype):
    rng = np.random.default_rng(1)
    array = np.cumsum(rng.normal(size=shape), axis=-1)
    array = (128 + 90 * array / abs(array).max()).astype(dtype)
    if dtype != "uint8":
        array *= 7
    decoded = caecodec.decode(encode(array, channel_axis=channel_axis))
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert abs(decoded.astype(float) - array).max() <= (3 if dtype == "uint8" else np.ptp(array) / 60)


def test_fortran_order_and_strides():
    array = random_image(30, 40, 3)
    assert caecodec.decode(encode(np.asfortranarray(array))).flags.f_contiguous
    data = encode(array)
    assert encode(array[::-1, ::-1][::-1, ::-1]) == data == encode(np.ascontiguousarray(array))
    assert caecodec.decode(data).flags.c_contiguous
    assert caecodec.decode(data).flags.writeable


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "channel_axis"), [((16, 9, 3), -1), ((2, 16, 9), 0), ((16, 9), None)], ids=str)
def test_constant_chunks_are_exact(dtype, shape, channel_axis):
    array = np.full(shape, 77.25 if dtype.startswith("f") else 77, dtype)
    if channel_axis is not None:
        array.swapaxes(0, channel_axis)[0] = 3
    data = encode(array, channel_axis=channel_axis)
    assert parse_payload(data).header.constant
    np.testing.assert_array_equal(caecodec.decode(data), array)


def test_constant_planes():
    """Planes of one value are exact, and no pictures; a chunk of such planes alone has neither network nor latents."""
    array = np.stack([np.full((20, 30), value, np.float64) for value in (np.pi, -1e300, 0)])
    data = encode(array, channel_axis=None)
    np.testing.assert_array_equal(caecodec.decode(data), array)
    payload = parse_payload(data)
    assert (payload.network, payload.latent_bytes, payload.header.body) == (b"", 0, OWN_NETWORK)
    array[1] = np.linspace(0, 1, 600).reshape(20, 30)
    decoded = caecodec.decode(encode(array, channel_axis=None))
    np.testing.assert_array_equal(decoded[::2], array[::2])
    assert abs(decoded[1] - array[1]).max() < 0.02


def test_decoder_by_size():
    names = [parse_payload(encode(random_image(side, side, 3))).header.decoder for side in (255, 256)]
    assert names == ["lop", "mop"]
    assert parse_payload(encode(random_image(16, 16, 3), decoder="hop")).header.decoder == "hop"


def test_parameters():
    codec = caecodec.OverfittedAutoencoder()
    assert codec.get_config() == {
        "id": "caecodec_overfitted", "quality": 8, "preset": "fast", "channel_axis": -1, "tune": "mse", "seed": 0,
    }  # fmt: skip
    assert [caecodec.OverfittedAutoencoder(q).parameters.trade_off for q in range(1, 9)] == list(LMBDAS)
    assert list(LMBDAS) == sorted(LMBDAS, reverse=True)
    chosen = caecodec.OverfittedAutoencoder(lmbda=1e-3, preset="slow", decoder="hop", channel_axis=None, seed=7)
    assert chosen.parameters.trade_off == 1e-3
    assert chosen.get_config()["decoder"] == "hop"
    assert "quality" not in chosen.get_config()
    for one in (codec, chosen):
        assert numcodecs.get_codec(one.get_config()) == one == pickle.loads(pickle.dumps(one)) == copy.deepcopy(one)
        assert json.loads(json.dumps(one.get_config())) == one.get_config()
        assert eval(repr(one), {"OverfittedAutoencoder": caecodec.OverfittedAutoencoder}) == one


@pytest.mark.parametrize(("parameters", "message"), [
    ({"quality": 0}, "quality is 0 but must be"),
    ({"quality": 4, "lmbda": 1e-3}, "only one of them"),
    ({"lmbda": 0}, "lmbda is 0 but must be above 0"),
    ({"lmbda": "much"}, "lmbda is 'much'"),
    ({"preset": "quick"}, "preset is 'quick' but must be one of instant, faster"),
    ({"decoder": "top"}, "decoder is 'top' but must be"),
    ({"tune": "vmaf"}, "tune is 'vmaf' but must be"),
    ({"seed": -1}, "seed is -1 but must be"),
    ({"seed": 0.5}, "seed is 0.5 but must be"),
    ({"channel_axis": "c"}, "channel_axis is 'c'"),
    ({"network": "?", "decoder": "lop"}, "base64"),
    ({"network": 5, "decoder": "lop"}, "base64"),
    ({"network": b"1234"}, "network is not a network section"),
])  # fmt: skip
def test_wrong_parameters(parameters, message):
    for surface in (caecodec.OverfittedAutoencoder, Serializer):
        with pytest.raises(caecodec.ParameterError, match=message):
            surface(**parameters)


def test_shared_network(sections):
    array = random_image(48, 64, 3)
    own = encode(array, decoder="lop")
    shared = caecodec.OverfittedAutoencoder(decoder="lop", network=sections[3])
    data = shared.encode(array)
    payload = parse_payload(data)
    assert (payload.header.body, payload.header.digest, payload.network) == (SHARED_NETWORK, digest(sections[3]), b"")
    assert len(data) == len(own) - len(sections[3]) - 1 + 4
    np.testing.assert_array_equal(shared.decode(data), caecodec.decode(own))
    np.testing.assert_array_equal(caecodec.decode(data, network=sections[3]), caecodec.decode(own))
    assert shared.get_config()["network"] == base64.b64encode(sections[3]).decode()
    assert numcodecs.get_codec(shared.get_config()) == shared
    assert f"<{len(sections[3])} bytes, {digest(sections[3]).hex()}>" in repr(shared)


def test_another_network(sections):
    shared = caecodec.OverfittedAutoencoder(decoder="lop", network=sections[3])
    data = shared.encode(random_image(20, 20, 3))
    with pytest.raises(caecodec.WeightsError, match=f"digest {digest(sections[3]).hex()} but none is given"):
        caecodec.decode(data)
    with pytest.raises(caecodec.WeightsError, match=f"the one given is {digest(sections[1]).hex()}"):
        caecodec.decode(data, network=sections[1])
    with pytest.raises(caecodec.ParameterError, match="network is of decoder 'lop' but decoder is 'hop'"):
        caecodec.OverfittedAutoencoder(decoder="hop", network=sections[3])


def test_shared_networks_say_how_planes_are_coded(sections):
    """Three planes that are not alike are a picture for a network of colours; colours are planes for one of planes."""
    rng = np.random.default_rng(0)
    for array in (random_image(24, 24, 3), rng.integers(0, 4000, (24, 24, 3)).astype(np.uint16)):
        for channels, section in sections.items():
            shared = caecodec.OverfittedAutoencoder(decoder="lop", network=section)
            data = shared.encode(array)
            assert parse_payload(data).planes[0] & 1 == (channels == 1)
            assert shared.decode(data).shape == array.shape
    with pytest.raises(caecodec.ParameterError, match="network is for pictures of 3 channels"):
        encode(random_image(24, 24, 3)[..., 0], channel_axis=None, decoder="lop", network=sections[3])


def test_a_network_for_chunks_that_are_plain_in_the_middle():
    """It is fitted to another part of them, and to nothing where there is none."""
    parameters = OverfittedParameters.parse(quality=3, preset="instant")
    chunks = np.full((16, 136, 136, 3), 90, np.uint8)
    assert codec.fit_network(parameters, chunks) is None
    chunks[5:7, 128:, :] = random_image(8, 136, 3)
    assert identify(codec.fit_network(parameters, chunks)).channels == 3
    planes = np.arange(2, dtype=np.uint16)[:, None, None] + np.zeros((2, 70, 70), np.uint16)
    assert codec.fit_network(OverfittedParameters.parse(preset="instant", channel_axis=None), [planes]) is None
