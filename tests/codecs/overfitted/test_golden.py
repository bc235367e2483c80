"""Overfitted payloads against a decoder in pure Python, written from FORMAT.md: golden ones, and new ones of their kinds."""

import numpy as np
import pytest
from golden import make
from helpers.paths import GOLDEN
from reference import overfitted as reference_overfitted

import caecodec
from caecodec.bitstream import overfitted
from caecodec.bitstream.overfitted import BODIES, OWN_NETWORK
from caecodec.chunks import planes
from caecodec.chunks.axes import Axes
from caecodec.chunks.planes import Layout
from caecodec.codecs.decoding import parse_payload
from caecodec.codecs.overfitted import laplace, wavefront
from caecodec.codecs.overfitted.architecture import DECODERS
from caecodec.codecs.overfitted.network import Network

CASES = {name: case for name, *case in make.overfitted_cases()}
FILES = sorted(GOLDEN.glob("v3-*.cae"))


def latents_of(payload, section):
    """The network and latents of a payload, as the package has them."""
    header = payload.header
    axes = Axes.of(len(header.shape), header.channel_axis)
    layout = Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    count = layout.images(int(np.prod([header.shape[axis] for axis in axes.leading])), header.channels)
    if not count:
        return None, []
    network = Network.parse(section or payload.network, DECODERS[header.decoder], 1 if layout.separate else 3)
    coded = laplace.Coded(payload.stream, payload.escapes, payload.raw)
    size = count, header.shape[axes.height], header.shape[axes.width]
    return network, [level[0] for level in wavefront.decode([network], [coded], *size)]


def check(data, section):
    """The reference decoder and the package find the same latents, parameters and pixels; and the latter's writer agrees."""
    payload, reference = parse_payload(data), reference_overfitted.decode(data, section or b"")
    header = payload.header
    assert (reference.shape, reference.channel_axis, reference.fortran) == (header.shape, header.channel_axis, header.fortran)
    assert overfitted.DECODERS[reference.decoder] == header.decoder
    assert BODIES[reference.coding] == header.body
    assert (reference.digest, np.dtype(reference.dtype)) == (header.digest, header.dtype)
    decoded = caecodec.decode(data, network=section)
    if header.constant:
        assert np.array(reference.colour, header.dtype).tobytes() == payload.colour
        return
    network, latents = latents_of(payload, section)
    assert len(latents) == len(reference.latents)
    for level, expected in zip(latents, reference.latents, strict=True):
        np.testing.assert_array_equal(level, expected)
    if network:
        for name, values in network.floats().items():
            np.testing.assert_array_equal(values, np.array(reference.parameters[name]))
        assert wavefront.encode(network, latents) == (payload.stream, payload.escapes, payload.raw)
        assert header.body != OWN_NETWORK or network.section() == payload.network
    axes = Axes.of(len(header.shape), header.channel_axis)
    layout = Layout.parse(payload.planes, header.shape, header.numpy_dtype, axes)
    channels = 1 if layout.separate else 3
    pictures = np.array(reference.pictures).reshape(-1, channels, header.shape[axes.height], header.shape[axes.width])
    expected = planes.to_array(pictures, header.shape, header.numpy_dtype, axes, layout)
    step = 1 if header.numpy_dtype.kind != "f" else 1e-4 * np.ptp(expected)
    assert abs(decoded.astype(float) - expected).max() <= step
    assert np.mean(abs(decoded.astype(float) - expected) > step / 100) < 1e-2


@pytest.mark.parametrize("name", CASES)
def test_reference_decoder(name):
    check(*make.overfitted_payload(*CASES[name]))


def test_the_cases_have_all_that_can_happen():
    payloads = [parse_payload(make.overfitted_payload(*case)[0]) for case in CASES.values()]
    assert {payload.header.body for payload in payloads} == set(BODIES.values())
    assert {payload.header.decoder for payload in payloads} == set(DECODERS)
    assert any(payload.escapes for payload in payloads)
    assert any(payload.raw for payload in payloads)
    assert {payload.planes[0] for payload in payloads if payload.planes} == {0, 1, 2, 3}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path):
    """Latents are the same, and pixels but for rounding."""
    stored = np.load(path.with_suffix(".npz"))
    section = stored["network"].tobytes() if "network" in stored else None
    check(path.read_bytes(), section)
    decoded = caecodec.decode(path.read_bytes(), network=section)
    assert (decoded.shape, decoded.dtype) == (stored["pixels"].shape, stored["pixels"].dtype)
    step = 1 if decoded.dtype.kind != "f" else 1e-4 * np.ptp(stored["pixels"])
    assert abs(decoded.astype(float) - stored["pixels"]).max() <= step
    assert decoded.flags.f_contiguous == ("fortran" in path.stem)
