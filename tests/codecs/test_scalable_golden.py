"""Golden payloads of layers decode to the same symbols, and to the same pixels but for rounding, at every number of layers."""

from unittest import mock

import numpy as np
import pytest
from golden import make
from helpers.networks import lower
from helpers.paths import GOLDEN, TINY_LAYERS
from reference import layers as reference

import caecodec
from caecodec import settings, weights
from caecodec.bitstream import directory, scalable
from caecodec.entropy import context_compiled, layered
from caecodec.entropy.streams import CodedSymbols

FILES = sorted(GOLDEN.glob("v4-layered-*.cae"))
LAYERS = 4
SOURCE = weights.open_file(TINY_LAYERS, "mse", LAYERS)
TABLES = weights.load(SOURCE, LAYERS).tables["layers"]
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(params=[True, False], ids=["compiled", "numpy"])
def compiled(request):
    """A test runs with the compiled coder, and again without it."""
    with mock.patch.object(context_compiled, "available", return_value=request.param):
        yield


def ends(data):
    """Where the payload may be cut, and its end, base first; the end alone if it has no layers."""
    return scalable.layer_ends(directory.parse_directory(data)) or [len(data)]


def close(pixels, stored):
    """Whether pixels are the stored ones but for rounding."""
    assert (pixels.shape, pixels.dtype) == (stored.shape, stored.dtype)
    step = 1 if stored.dtype.kind != "f" else 1e-4 * np.ptp(stored)
    difference = np.abs(pixels.astype(float) - stored)
    assert difference.max() <= step
    assert np.mean(difference > step / 100) < 1e-3


def test_the_cases_have_files():
    assert {path.stem for path in FILES} == {f"v4-layered-{name}" for name, *_ in make.layered_cases()}


@each
@pytest.mark.usefixtures("compiled")
def test_pixels(path, tiny, fp32):
    data, stored = path.read_bytes(), np.load(path.with_suffix(".npz"))["pixels"]
    assert len(stored) == len(ends(data))
    for layers, (end, expected) in enumerate(zip(ends(data), stored, strict=True), 1):
        pixels = caecodec.decode(data[:end])
        close(pixels, expected)
        assert pixels.flags.f_contiguous == ("fortran" in path.stem)
        with settings.using(layers=layers):
            np.testing.assert_array_equal(caecodec.decode(data), pixels)
        first = scalable.first_layers(data, layers)
        np.testing.assert_array_equal(caecodec.decode(first), pixels)
        assert scalable.first_layers(data[:end], layers) == first


@each
@pytest.mark.usefixtures("compiled")
def test_symbols(path):
    payload, symbols = scalable.parse(path.read_bytes()), np.load(path.with_suffix(".npz"))["symbols"]
    assert payload.digest == SOURCE.digest
    if not symbols.size:
        assert payload.layers in ((), (b"\0", *[b""] * (LAYERS - 1)))
        return
    base, count = scalable.BaseLayer.parse(payload.layers[0]), len(payload.layers)
    for layers in range(1, count + 1):
        coded = CodedSymbols((*base.streams, *payload.layers[1:layers]), base.escapes)
        expected = layered.middles(layered.quantised(symbols, count - layers), LAYERS - layers)
        np.testing.assert_array_equal(layered.MODEL.decode(coded, lower(TABLES, layers), symbols.shape), expected)
    if count == LAYERS:
        assert layered.MODEL.encode(symbols, TABLES) == coded


@each
def test_reference_decoder(path, tiny, fp32):
    """FORMAT.md alone is enough: the decoder written from it finds the same symbols and, but for rounding, the same pixels."""
    data, file, stored = path.read_bytes(), TINY_LAYERS.read_bytes(), np.load(path.with_suffix(".npz"))
    header = scalable.parse(data).header
    found = reference.decode(data, file)
    assert (found.digest, found.shape, found.channel_axis) == (SOURCE.digest, header.shape, header.channel_axis)
    assert np.dtype(found.dtype) == header.dtype
    for layers, end in enumerate(ends(data), 1):
        pixels = caecodec.decode(data[:end])
        tolerance = 0.501 if pixels.dtype.kind != "f" else 1e-4 * np.ptp(pixels)
        assert np.abs(reference.pixels(found, file, layers) - pixels).max() <= tolerance
    assert len(found.layers) == (len(ends(data)) if stored["symbols"].size else 0)
    for number, symbols in enumerate(found.layers, 1):
        np.testing.assert_array_equal(symbols, layered.quantised(stored["symbols"], len(found.layers) - number))
    cut = reference.decode(data[: ends(data)[0]], file)
    np.testing.assert_array_equal(cut.layers[:1], found.layers[:1])
