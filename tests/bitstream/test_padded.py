"""Payloads of format version 5: the padding around the payload of a content."""

import pytest
from helpers.padding import cases, chunk_of
from reference import padded as reference

import caecodec
from caecodec.bitstream import autoencoder, padded
from caecodec.bitstream.framing import pack_section, seal
from caecodec.bitstream.prefix import MAGIC, PADDED_VERSION

CASES = {case[0]: case for case in cases()}


def payload(name="uint8-plane", **options):
    return caecodec.encode(chunk_of(CASES[name]), **{"quality": 1, "channel_axis": CASES[name][4], **options})


def forged(padding, content):
    return seal(MAGIC + bytes((PADDED_VERSION,)) + pack_section(padding) + content)


@pytest.mark.parametrize("name", CASES)
def test_the_parts(name):
    data = payload(name)
    parts = padded.parse(data)
    content = autoencoder.parse(parts.content)
    header, value = padded.parse_padding(parts.padding, content.header)
    found = reference.take_apart(data)
    _, inside, shape, fill, channel_axis = CASES[name]
    assert (header.shape, content.header.shape) == (shape, inside.shape) == (found.shape, found.content)
    assert found.payload == parts.content == caecodec.encode(inside, quality=1, channel_axis=channel_axis)
    assert inside.dtype.type(found.value).tobytes() == inside.dtype.type(fill).tobytes() == value
    assert (len(value), len(data) - len(parts.content)) == (inside.itemsize, parts.overhead)
    assert padded.pack(*parts) == data
    assert parts.padding == padded.pack_padding(shape, inside.shape, value)


def test_overhead():
    """Two bytes, one for each axis of less than 128, and the value unless all its bits are 0."""
    assert padded.parse(payload("float64-plane")).overhead == 2 + 2
    assert padded.parse(payload("uint16-plane")).overhead == 2 + 2 + 2
    assert padded.parse(payload("rgb")).overhead == 2 + 3 + 1
    assert padded.parse(payload("float32-not-a-number")).overhead == 2 + 2 + 4


def test_truncation_and_flipped_bits():
    data = payload()
    for size in range(len(data)):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(data[:size])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(bytes(damaged))


def test_forged_padding():
    data = payload()  # 33 x 40 of 48 x 40, of 255
    parts = padded.parse(data)
    content = parts.content[2:-4]
    assert parts.padding == b"\x0f\x00\xff"
    for padding, message in (
        (b"\x00\x00\xff", "around uint8 content of shape .* in a chunk of shape .33, 40."),
        (b"\x0f\x00\x00", "1 bytes for the value of its padding"),
        (b"\x0f\x00\xff\xff", "2 bytes for the value"),
        (b"\x0f", "damaged"),
        (b"\xff\xff\xff\xff\x07\xff\xff\x03\xff", "in a chunk of shape"),
        (b"", "damaged"),
    ):
        with pytest.raises(caecodec.CorruptionError, match=message):
            caecodec.decode(forged(padding, content))
    with pytest.raises(caecodec.CorruptionError, match="padding around padding"):
        caecodec.decode(forged(b"\x01\x00", data[2:-4]))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(data, expected_shape=(33, 40))
    with pytest.raises(caecodec.FormatVersionError, match="version of the payload is 9"):
        caecodec.decode(forged(parts.padding, b"\x09" + content[1:]))
    assert caecodec.decode(data, expected_shape=(48, 40)).shape == (48, 40)
