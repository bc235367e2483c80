"""Payloads of format version 4: their bytes, what is proven of them, and what becomes of damaged and cut ones."""

import tracemalloc
import zlib

import numpy as np
import pytest
from helpers.paths import GOLDEN
from helpers.sections import BASE, FAMILY, KNOWN, LAYER, NOTE, cases
from hypothesis import given
from hypothesis import strategies as st
from reference import sections as reference

import caecodec
from caecodec.bitstream import directory, varint
from caecodec.bitstream.directory import DirectoryPayload, Section, pack, parse, parse_directory
from caecodec.bitstream.prefix import Prefix
from caecodec.errors import CorruptionError, FormatVersionError, ParameterError

ALL = range(256)
FILES = [path for path in sorted(GOLDEN.glob("v4-*.cae")) if "layered" not in path.stem]  # those have a family that is known
SMALL = pack(Prefix(FAMILY, (5, 6, 3), 2), [Section(BASE, b"base"), Section(LAYER, b""), Section(LAYER, b"refinement")])


def crc(data):
    return zlib.crc32(data).to_bytes(4, "little")


def assembled(prefix, listed, sections):
    """A payload with right checksums around this prefix, list of sections and bytes of sections, however impossible."""
    head = prefix + listed
    body = head + bytes(byte ^ 0xFF for byte in crc(head)) + sections
    return body + crc(body)


def test_bytes_are_those_of_the_specification():
    data = pack(Prefix(FAMILY, (3, 300, 2), 0, True, "uint16"), [Section(1, b"ab"), Section(130, b"c" * 130)])
    prefix = "ca ec 04 f0 10 82 03 ac 02 02"
    listed = f"02 01 02 {crc(b'ab').hex()} 82 82 01 {crc(b'c' * 130).hex()}"
    assert data == assembled(bytes.fromhex(prefix), bytes.fromhex(listed), b"ab" + b"c" * 130)
    entries = parse_directory(data).entries
    assert [data[entry.start : entry.stop] for entry in entries] == [b"ab", b"c" * 130]


@given(
    st.integers(0, 255), st.lists(st.integers(1, 9), min_size=3, max_size=8), st.booleans(), st.booleans(),
    st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), min_size=1, max_size=9),
)  # fmt: skip
def test_round_trip(family, shape, channels, fortran, dtype, listed):
    header = Prefix(family, tuple(shape), len(shape) - 1 if channels else None, fortran, dtype)
    sections = tuple(Section(*one) for one in listed)
    data = pack(header, sections)
    assert parse(data, ALL) == parse(bytearray(data), ALL, partial=True) == DirectoryPayload(header, sections)
    assert parse_directory(data).size == len(data)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path):
    data, stored = path.read_bytes(), np.load(path.with_suffix(".npz"))
    payload, found = parse(data, ALL), reference.decode(data)
    ends = np.cumsum(stored["lengths"])
    parts = [stored["data"][end - length : end].tobytes() for end, length in zip(ends, stored["lengths"], strict=True)]
    assert payload.sections == found.sections == tuple(zip(stored["ids"].tolist(), parts, strict=True))
    header = payload.header
    assert (header.family, header.dtype) == (int(stored["family"]), str(stored["dtype"]))
    assert (header.shape, header.fortran) == (tuple(stored["shape"]), bool(stored["fortran"]))
    assert header.channel_axis == (None if stored["channel_axis"] < 0 else stored["channel_axis"])
    assert (found.family, found.shape, found.fortran) == (header.family, header.shape, header.fortran)
    assert (found.channel_axis, np.dtype(found.dtype)) == (header.channel_axis, header.dtype)
    assert pack(header, payload.sections) == data


def test_golden_files_are_what_is_written_today():
    assert {path.stem: path.read_bytes() for path in FILES} == {f"v4-{name}": pack(*case) for name, *case in cases()}


@pytest.mark.parametrize("name", ["layers", "one-section", "optional", "empty-sections"])
def test_truncated_at_every_byte(name):
    data = (GOLDEN / f"v4-{name}.cae").read_bytes()
    full, entries = parse(data, ALL), parse_directory(data).entries
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            parse(data[:length], ALL)
        with pytest.raises(CorruptionError):
            caecodec.decode(data[:length])
        if length < entries[0].start:
            with pytest.raises(CorruptionError, match="cut short|must start"):
                parse(data[:length], ALL, partial=True)
            continue
        payload = parse(data[:length], ALL, partial=True)
        whole = sum(entry.stop <= length for entry in entries)
        assert payload == DirectoryPayload(full.header, full.sections[:whole], tuple(entry.id for entry in entries[whole:]))
        assert reference.decode(data[:length])[-2:] == (payload.sections, False)


def test_what_is_said_of_truncation():
    with pytest.raises(CorruptionError, match=r"has 9 bytes and ends within its directory: it is cut short"):
        parse(SMALL[:9], ALL)
    with pytest.raises(CorruptionError, match=rf"has {len(SMALL) - 8} bytes but .* says {len(SMALL)}.* 2 of 3 sections whole"):
        parse(SMALL[:-8], ALL)


@pytest.mark.parametrize("extra", [b"\0", b"\xca\xec", SMALL])
def test_bytes_that_follow(extra):
    for partial in (False, True):
        with pytest.raises(CorruptionError, match=f"says {len(SMALL)}: something follows it"):
            parse(SMALL + extra, ALL, partial)


def test_every_flipped_bit():
    for position in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[position] ^= 1 << bit
            for partial in (False, True):
                with pytest.raises(CorruptionError):
                    parse(damaged, ALL, partial)
            with pytest.raises(CorruptionError):
                caecodec.decode(damaged)


def test_damage_is_located_and_is_no_end():
    entries = parse_directory(SMALL).entries
    damaged = bytearray(SMALL)
    damaged[entries[2].start] ^= 1
    for data in (damaged, damaged[: entries[2].stop]):
        with pytest.raises(CorruptionError, match=r"section 3 of 3 \(id 2\) fails its CRC-32"):
            parse(data, ALL, partial=True)
    payload = parse(damaged[: entries[2].start], ALL, partial=True)
    assert ([section.data for section in payload.sections], payload.missing) == ([b"base", b""], (LAYER,))


def test_sections_that_a_reader_does_not_know():
    data = (GOLDEN / "v4-optional.cae").read_bytes()
    assert [section.id for section in parse(data, KNOWN).sections] == [NOTE, BASE, LAYER, NOTE]
    assert [section.id for section in parse(data, {BASE, LAYER}).sections] == [BASE, LAYER]
    cut = data[: parse_directory(data).entries[1].start]
    assert parse(cut, {BASE, LAYER}, partial=True).missing == (BASE, LAYER)
    for part, partial in ((data, False), (data, True), (cut, True)):
        with pytest.raises(FormatVersionError, match="family 240 needs section 2, which this caecodec does not know; upgrade"):
            parse(part, {BASE, NOTE}, partial)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_family_that_is_not_known(path):
    with pytest.raises(FormatVersionError, match=r"family 2\d\d of format version 4 is not known to this caecodec; upgrade"):
        caecodec.decode(path.read_bytes())


@pytest.mark.parametrize(
    ("position", "value", "error", "match"),
    [
        (0, 0xCB, CorruptionError, "must start with ca ec"),
        (2, 6, FormatVersionError, "format version .* is 6 .* knows 1, 2, 3, 4, 5; upgrade"),
        (2, 2, CorruptionError, "format version 2, which has no directory"),
        (4, 0x50, FormatVersionError, "dtype id .* is 5"),
        (4, 0x01, FormatVersionError, "flags 1 .* upgrade"),
        (5, 0x22, CorruptionError, "channel axis 4"),
        (6, 0, CorruptionError, r"shape \(0, 6, 3\)"),
        (9, 0, CorruptionError, "has no sections"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_prefixes_with_right_checksums(position, value, error, match, partial):
    first = parse_directory(SMALL).entries[0].start
    head = bytearray(SMALL[: first - 4])
    head[position] = value
    with pytest.raises(error, match=match):
        parse(assembled(bytes(head), b"", SMALL[first:-4]), ALL, partial)


def test_a_wrong_checksum_behind_right_ones():
    head = b"\xca\xec\x04\xf0\x00\x79\x05\x06"
    data = assembled(head, b"\x01\x01\x02" + crc(b"aa"), b"ab")
    with pytest.raises(CorruptionError, match=r"section 1 of 1 \(id 1\) fails"):
        parse(data, ALL)
    right = assembled(head, b"\x01\x01\x02" + crc(b"ab"), b"ab")
    assert parse(right, ALL).sections == (Section(1, b"ab"),)
    with pytest.raises(CorruptionError, match="fails its CRC-32"):
        parse(right[:-1] + bytes((right[-1] ^ 1,)), ALL)
    longer = assembled(head, b"\x01\x01\x82\x00" + crc(b"ab"), b"ab")
    with pytest.raises(CorruptionError, match="no valid integer"):
        parse(longer, ALL)


@pytest.mark.parametrize("partial", [False, True])
def test_lengths_without_bytes_take_no_memory(partial):
    listed = bytes((255,)) + (bytes((BASE,)) + varint.pack(2**32 - 1) + b"abcd") * 255
    data = assembled(b"\xca\xec\x04\xf0\x00\x79\x05\x06", listed, b"")
    tracemalloc.start()
    if partial:
        assert parse(data, ALL, partial) == DirectoryPayload(Prefix(FAMILY, (5, 6), None), (), (BASE,) * 255)
    else:
        with pytest.raises(CorruptionError, match="0 of 255 sections whole"):
            parse(data, ALL, partial)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ([], "0 sections but must have 1 to 255"),
        ([Section(BASE, b"")] * 256, "256 sections"),
        ([Section(256, b"")], "id is 256 but must be 0 to 255"),
        ([Section(-1, b"")], "id is -1"),
    ],
)
def test_what_no_payload_can_have(sections, match):
    with pytest.raises(ParameterError, match=match):
        pack(Prefix(FAMILY, (4, 4), None), sections)


def test_a_section_that_is_too_long(monkeypatch):
    monkeypatch.setattr(directory.varint, "MAX_VALUE", 9)
    with pytest.raises(ParameterError, match="section 1 has 10 bytes but must have at most 9; use smaller chunks"):
        pack(Prefix(FAMILY, (4, 4), None), [Section(BASE, bytes(10))])
