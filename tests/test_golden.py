"""Payloads of every released format version decode to the same symbols, and to the same pixels but for rounding."""

from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from conftest import TINY

import caecodec
from caecodec import weights
from caecodec.bitstream import container
from caecodec.bitstream.header import CODING_CONSTANT
from caecodec.entropy import static

GOLDEN = sorted(Path(__file__).parent.joinpath("golden").glob("*.cae"))
pytestmark = pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)


def tables(payload):
    source = weights.resolve(weights.Spec.parse(TINY), payload.header.metric, payload.header.quality)
    assert source.digest == payload.header.digest
    return weights.load(source, payload.header.quality).tables


def test_pixels(path, tiny):
    stored = np.load(path.with_suffix(".npz"))
    pixels = caecodec.decode(path.read_bytes())
    assert pixels.shape == stored["pixels"].shape
    assert np.abs(pixels.astype(int) - stored["pixels"]).max() <= 1
    assert np.mean(pixels != stored["pixels"]) < 1e-3
    assert pixels.flags.f_contiguous == ("fortran" in path.stem or pixels.size == 3)


def test_symbols(path):
    payload = container.parse(path.read_bytes())
    symbols = np.load(path.with_suffix(".npz"))["symbols"]
    if payload.header.coding == CODING_CONSTANT:
        assert not payload.streams
        return
    coded = static.Coded(payload.streams, payload.escapes)
    np.testing.assert_array_equal(static.decode(coded, tables(payload), symbols.shape), symbols)
    assert static.encode(symbols, tables(payload)) == coded


def test_reference_decoder(path):
    """FORMAT.md alone is enough: the decoder written from it agrees."""
    payload = container.parse(path.read_bytes())
    reference = reference_decoder.decode(path.read_bytes(), TINY.read_bytes())
    header = payload.header
    assert reference.shape == header.shape
    assert reference.channel_axis == header.channel_axis
    assert (reference.quality, reference.digest, reference.fortran) == (header.quality, header.digest, header.fortran)
    assert reference.colour == payload.colour
    if header.coding != CODING_CONSTANT:
        np.testing.assert_array_equal(np.array(reference.symbols), np.load(path.with_suffix(".npz"))["symbols"])
