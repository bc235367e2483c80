"""Payloads of layers: their bytes, what is read of the beginning of one, and what no encoder writes."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caecodec.bitstream import directory, scalable, varint
from caecodec.bitstream.directory import Section
from caecodec.bitstream.prefix import Prefix
from caecodec.bitstream.scalable import COLOUR, FAMILY, FIRST_LAYER, HEAD, PADDING, BaseLayer, ScalablePayload, layer_ends
from caecodec.errors import CorruptionError, FormatVersionError

PREFIX = Prefix(FAMILY, (5, 6, 3), 2)
ABOUT = {"header": PREFIX, "metric": "ms-ssim", "family": "cae", "digest": b"abcd"}
POINT = b"\x01\x01abcd"
LAYERS = (b"base", b"", b"layer 3")
PAYLOAD = ScalablePayload(**ABOUT, planes=b"\0", layers=LAYERS)
DATA = scalable.pack(PAYLOAD)
SECTIONS = [Section(HEAD, POINT + b"\0"), *(Section(FIRST_LAYER + i, layer) for i, layer in enumerate(LAYERS))]


def ends(data):
    return layer_ends(directory.parse_directory(data))


def parsed(*sections):
    return scalable.parse(directory.pack(PREFIX, sections))


def test_bytes_are_those_of_the_specification():
    assert directory.pack(PREFIX, SECTIONS) == DATA
    assert DATA[:9].hex(" ") == "ca ec 04 06 00 12 05 06 03"
    assert [entry.id for entry in directory.parse_directory(DATA).entries] == [1, 16, 17, 18]
    assert (
        BaseLayer((b"1234" * 200, b"", b"5678"), b"escapes").pack() == b"\x03\xc8\x01\x00\x01" + b"1234" * 200 + b"5678escapes"
    )


@given(
    st.sampled_from(["mse", "ms-ssim"]), st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=9),
    st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.binary(max_size=5),
)  # fmt: skip
def test_round_trip(metric, digest, planes, layers, padding):
    payload = ScalablePayload(PREFIX, metric, "cae", digest, planes, tuple(layers), 0, padding)
    data = scalable.pack(payload)
    assert scalable.parse(data) == scalable.parse(bytearray(data)) == scalable.parse(memoryview(data)) == payload
    assert payload.overhead == len(data) - sum(map(len, layers))
    assert len(ends(data)) == len(layers)


@given(st.lists(st.lists(st.binary(min_size=4, max_size=4), max_size=70).map(b"".join), max_size=9), st.binary(max_size=9))
def test_the_base(streams, escapes):
    base = BaseLayer(tuple(streams), escapes)
    assert BaseLayer.parse(base.pack()) == base


@pytest.mark.parametrize(("data", "match"), [
    (b"", "cut short"), (b"\x01", "cut short"), (b"\xff\xff\xff\xff\x0f", "cut short"), (b"\x80\x00", "no valid integer"),
    (b"\x01\x01abc", "3 bytes of streams and escapes but should have 4"),
    (b"\x02\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f", "0 bytes of streams"),
])  # fmt: skip
def test_a_base_that_is_none(data, match):
    with pytest.raises(CorruptionError, match=match):
        BaseLayer.parse(data)


def test_one_colour():
    plain = ScalablePayload(**ABOUT, colour=b"rgb")
    data = scalable.pack(plain)
    assert scalable.parse(data) == plain == parsed(Section(HEAD, POINT), Section(COLOUR, b"rgb"))
    assert ends(data) == []
    around = ScalablePayload(**ABOUT, colour=b"rgb", padding=b"\x01\x00\x00")
    assert scalable.parse(scalable.pack(around)) == around
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            scalable.parse(data[:length])


def test_cut_at_every_byte():
    """At the ends of layers there are fewer; everywhere else the payload is damaged."""
    for length in range(len(DATA)):
        if length not in ends(DATA):
            with pytest.raises(CorruptionError):
                scalable.parse(DATA[:length])
            continue
        count = sum(end <= length for end in ends(DATA))
        found = scalable.parse(DATA[:length])
        assert found == ScalablePayload(**ABOUT, planes=b"\0", layers=LAYERS[:count], missing=3 - count)
        assert scalable.parse(scalable.pack(found)).missing == 0
    assert len(ends(DATA)) == 3
    with pytest.raises(CorruptionError, match="something follows"):
        scalable.parse(DATA + b"\0")


def test_first_layers():
    first, _, third = ends(DATA)
    for count, layers in ((0, 1), (1, 1), (2, 2), (3, 3), (9, 3)):
        data = scalable.first_layers(DATA, count)
        assert scalable.parse(data) == ScalablePayload(**ABOUT, planes=b"\0", layers=LAYERS[:layers])
    assert scalable.first_layers(DATA, 3) == DATA
    assert scalable.first_layers(DATA[:third], 3) == DATA
    assert scalable.first_layers(DATA[:first], 1) == scalable.first_layers(DATA, 1)


def test_every_flipped_bit():
    for position in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptionError):
                scalable.parse(damaged)
    for end in ends(DATA)[:1]:
        for position in range(end):
            damaged = bytearray(DATA[:end])
            damaged[position] ^= 1
            with pytest.raises(CorruptionError):
                scalable.parse(damaged)


def test_optional_sections_may_be_anywhere():
    note = Section(200, b"note")
    for place in range(len(SECTIONS) + 1):
        data = directory.pack(PREFIX, [*SECTIONS[:place], note, *SECTIONS[place:]])
        assert scalable.parse(data) == PAYLOAD
        assert scalable.parse(data[: ends(data)[1]]).layers == LAYERS[:2]


HEAD_OF, BASE, SECOND, THIRD = SECTIONS
COLOURED = Section(COLOUR, b"rgb")
AROUND = Section(PADDING, b"\x01\x00\x00")


@pytest.mark.parametrize("sections", [
    [HEAD_OF], [BASE], [BASE, HEAD_OF], [HEAD_OF, SECOND], [HEAD_OF, SECOND, BASE], [HEAD_OF, BASE, THIRD],
    [HEAD_OF, BASE, BASE], [HEAD_OF, HEAD_OF, BASE], [HEAD_OF, BASE, SECOND, SECOND], [AROUND, HEAD_OF, BASE],
    [HEAD_OF, BASE, AROUND], [HEAD_OF, AROUND, AROUND, BASE], [HEAD_OF, AROUND], [HEAD_OF, BASE, HEAD_OF],
    [Section(HEAD, POINT), COLOURED, BASE], [Section(HEAD, POINT), BASE, COLOURED], [COLOURED], [HEAD_OF, COLOURED],
    [Section(HEAD, POINT), COLOURED, COLOURED], [Section(HEAD, POINT), COLOURED, AROUND],
    [Section(HEAD, POINT[:5]), BASE], [Section(HEAD, b""), BASE],
], ids=lambda sections: " ".join(str(section.id) for section in sections))  # fmt: skip
def test_lists_of_sections_that_no_encoder_writes(sections):
    with pytest.raises(CorruptionError, match="must have a head, and then one colour, or layers from the base on"):
        parsed(*sections)


def test_sections_of_a_beginning():
    """What is missing must be layers as well."""
    for sections in ([HEAD_OF, BASE, THIRD], [HEAD_OF, BASE, AROUND], [HEAD_OF, BASE, BASE], [HEAD_OF, BASE, HEAD_OF]):
        data = directory.pack(PREFIX, sections)
        with pytest.raises(CorruptionError, match="layers from the base on"):
            scalable.parse(data[: ends(data)[0]])


@pytest.mark.parametrize(("sections", "error", "match"), [
    ([Section(HEAD, POINT), Section(COLOUR, b"rg")], CorruptionError, "2 bytes of values"),
    ([Section(HEAD, POINT), Section(COLOUR, b"")], CorruptionError, "0 bytes of values"),
    ([HEAD_OF, BASE, Section(4, b"")], FormatVersionError, "needs section 4"),
    ([HEAD_OF, BASE, Section(24, b"")], FormatVersionError, "needs section 24"),
    ([Section(HEAD, b"\x02" + POINT[1:] + b"\0"), BASE], FormatVersionError, "metric id"),
    ([Section(HEAD, b"\x00\x63abcd\0"), BASE], FormatVersionError, "model family id"),
])  # fmt: skip
def test_other_sections(sections, error, match):
    with pytest.raises(error, match=match):
        parsed(*sections)


def test_lengths_without_bytes():
    """A directory may claim more than there is; only what is there is read."""
    head = DATA[:9] + bytes((2,))
    for section, claimed in ((HEAD_OF, len(HEAD_OF.data)), (BASE, varint.MAX_VALUE)):
        head += bytes((section.id,)) + varint.pack(claimed) + zlib.crc32(section.data).to_bytes(4, "little")
    head += (zlib.crc32(head) ^ 0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(CorruptionError, match="1 of 2 sections whole"):
        scalable.parse(head + HEAD_OF.data + BASE.data)
