"""Payloads of every released format version decode to the same symbols, and to the same pixels but for rounding."""

from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from conftest import TINY, TINY_CONTEXT

import caecodec
from caecodec import weights
from caecodec.bitstream import container
from caecodec.bitstream.header import CODING_CONSTANT, CODING_CONTEXT, CODING_STATIC
from caecodec.entropy import context, static
from caecodec.entropy.streams import Coded

GOLDEN = sorted(Path(__file__).parent.joinpath("golden").glob("*.cae"))
pytestmark = pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)


CODERS = {CODING_STATIC: static, CODING_CONTEXT: context}


def weights_file(path):
    return TINY_CONTEXT if "context" in path.stem else TINY


def tables(payload, path):
    source = weights.resolve(weights.Spec.parse(weights_file(path)), payload.header.metric, payload.header.quality)
    assert source.digest == payload.header.digest
    return weights.load(source, payload.header.quality).entropy_tables(payload.header.coding)


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
    assert ("context" in path.stem) == (payload.header.coding == CODING_CONTEXT)
    coder, coded = CODERS[payload.header.coding], Coded(payload.streams, payload.escapes)
    np.testing.assert_array_equal(coder.decode(coded, tables(payload, path), symbols.shape), symbols)
    assert coder.encode(symbols, tables(payload, path)) == coded


def test_reference_decoder(path):
    """FORMAT.md alone is enough: the decoder written from it agrees."""
    payload = container.parse(path.read_bytes())
    reference = reference_decoder.decode(path.read_bytes(), weights_file(path).read_bytes())
    header = payload.header
    assert reference.shape == header.shape
    assert reference.channel_axis == header.channel_axis
    assert (reference.quality, reference.digest, reference.fortran) == (header.quality, header.digest, header.fortran)
    assert np.dtype(reference.dtype) == header.dtype
    assert np.array(reference.colour, header.dtype).tobytes() == payload.colour
    if header.coding != CODING_CONSTANT:
        np.testing.assert_array_equal(np.array(reference.symbols), np.load(path.with_suffix(".npz"))["symbols"])
