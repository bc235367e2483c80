"""The note in payloads that an array was big-endian: golden files, and decoders that were written from FORMAT.md alone."""

import numpy as np
import pytest
from golden.make import BIG_ENDIAN
from helpers.paths import GOLDEN, TINY, TINY_CONTEXT, TINY_LAYERS
from reference import decoder, layers, overfitted, padded, sections

import caecodec
from caecodec.bitstream import scalable
from caecodec.bitstream.byte_order import as_big_endian
from caecodec.codecs.decoding import parse_payload

each = pytest.mark.parametrize("name", BIG_ENDIAN)


def golden(name):
    """The golden payload of a chunk, and that of the same chunk from a big-endian array."""
    return (GOLDEN / f"{name}.cae").read_bytes(), (GOLDEN / f"big-endian-{name}.cae").read_bytes()


def test_the_cases_have_files():
    assert {path.stem for path in GOLDEN.glob("big-endian-*.cae")} == {f"big-endian-{name}" for name in BIG_ENDIAN}


@each
def test_golden(name, tiny):
    """The header alone tells them apart, in one bit; what is decoded as values is the same."""
    usual, noted = golden(name)
    assert as_big_endian(usual) == as_big_endian(noted) == noted
    assert len(noted) == len(usual)
    headers = parse_payload(usual).header, parse_payload(noted).header
    assert [header.big_endian for header in headers] == [False, True]
    assert headers[0].dtype == headers[1].dtype
    found, expected = caecodec.decode(noted), caecodec.decode(usual)
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())


@each
def test_bytes_come_in_the_order_that_was_encoded(name, tiny):
    """numcodecs calls `decode` for bytes. The arrays themselves are compared, since operations convert the values."""
    codec = caecodec.ConvolutionalAutoencoder()  # decodes the payloads of all codecs
    for data, order in zip(golden(name), "<>", strict=True):
        found, values = codec.decode(data), caecodec.decode(data)
        assert found.dtype == values.dtype.newbyteorder(order)
        assert bytes(np.asarray(found).data) == values.astype(values.dtype.newbyteorder(order)).tobytes()
        out = np.empty(values.shape, found.dtype)
        assert codec.decode(data, out=out) is out
        np.testing.assert_array_equal(out, values)


def test_fewer_layers():
    usual, noted = golden("v4-layered-float32-series")
    for count in (1, 2):
        assert scalable.first_layers(noted, count) == as_big_endian(scalable.first_layers(usual, count))


@each
def test_reference_decoder(name):
    def contents(data):
        content = padded.take_apart(data).payload if data[2] == 5 else data
        if content[2] == 3:
            return overfitted.decode(content)
        if content[2] == 4:
            return sections.decode(content)
        return decoder.decode(content, (TINY_CONTEXT if "context" in name else TINY).read_bytes())

    usual, noted = golden(name)
    found = contents(usual), contents(noted)
    assert [one.big_endian for one in found] == [False, True]
    assert found[0] == found[1]._replace(big_endian=False)
    if usual[2] == 4:
        symbols = [layers.decode(data, TINY_LAYERS.read_bytes()).layers for data in (usual, noted)]
        assert len(symbols[0]) > 1
        np.testing.assert_array_equal(symbols[0], symbols[1])
