import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caecodec.bitstream import autoencoder, varint
from caecodec.bitstream.autoencoder import FAMILIES, METRICS, AutoencoderHeader
from caecodec.bitstream.codings import Body
from caecodec.bitstream.prefix import DTYPES, parse_dtype
from caecodec.errors import CorruptionError, FormatVersionError
from caecodec.models import registry

DIGEST = b"\x01\x02\x03\x04"


def header(**changes):
    fields = {
        "quality": 4, "metric": "mse", "body": Body.SYMBOLS, "digest": DIGEST, "shape": (256, 256, 3), "channel_axis": 2,
        "entropy": "static",
    }  # fmt: skip
    return AutoencoderHeader(**{**fields, **changes})


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_header_bytes_are_those_of_the_specification():
    packed = header(quality=5, metric="ms-ssim", shape=(3, 300, 2), channel_axis=0, fortran=True).pack()
    assert packed.hex(" ") == "ca ec 01 01 15 00 82 01 02 03 04 03 ac 02 02"


def test_wire_ids_never_change():
    ours = {one.wire_id: one.stored_name for one in registry.families() if type(one).__module__.startswith("caecodec.")}
    assert ours == {1: "cae", 2: "residual-attention", 4: "depthwise-residual", 5: "binary"}
    assert ours.items() <= FAMILIES.items()
    assert METRICS == {0: "mse", 1: "ms-ssim"}
    assert DTYPES == {0: "uint8", 1: "uint16", 2: "int16", 3: "float32", 4: "float64"}
    big_endian = {number: parse_dtype(number) for number in range(9, 13)}
    assert big_endian == {9: ("uint16", True), 10: ("int16", True), 11: ("float32", True), 12: ("float64", True)}


def test_header_of_a_usual_chunk_is_24_bytes():
    payload = autoencoder.AutoencoderPayload(header(), (bytes(4 * 16000),))
    assert payload.overhead == 24


@given(
    st.integers(1, 8), st.sampled_from(["mse", "ms-ssim"]), st.lists(st.integers(1, 9), min_size=3, max_size=8), st.booleans(),
    st.lists(st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4]), max_size=4), st.binary(max_size=9),
)  # fmt: skip
def test_payload_round_trip(quality, metric, shape, fortran, streams, escapes):
    about = header(quality=quality, metric=metric, shape=tuple(shape), channel_axis=len(shape) - 1, fortran=fortran)
    payload = autoencoder.AutoencoderPayload(about, tuple(streams), escapes)
    assert autoencoder.parse(autoencoder.pack(payload)) == payload


def test_constant_payload_round_trip():
    payload = autoencoder.AutoencoderPayload(header(body=Body.CONSTANT, entropy=None), colour=b"\x01\x02\x03")
    assert autoencoder.parse(autoencoder.pack(payload)) == payload


@pytest.mark.parametrize(
    ("position", "value", "match"),
    [(2, 6, "format version .* is 6"), (3, 9, "family id .* is 9"), (4, 0xF4, "metric id .* is 15"),
     (5, 0x07, "entropy model id"), (5, 0x50, "dtype id .* is 5"), (5, 0x80, "dtype id .* is 8"),
     (5, 0xD0, "dtype id .* is 13")],
)  # fmt: skip
def test_ids_of_a_newer_format(position, value, match):
    body = bytearray(autoencoder.pack(autoencoder.AutoencoderPayload(header(), (bytes(8),)))[:-4])
    body[position] = value
    with pytest.raises(FormatVersionError, match=match):
        autoencoder.parse(sealed(bytes(body)))


def packed(**changes):
    """A header with these fields, however impossible."""
    shape, channel_axis = changes.pop("shape", (5, 5, 3)), changes.pop("channel_axis", 2)
    data = bytearray(header(**changes).pack()[:11])
    data[6] = len(shape) - 1 | (15 if channel_axis is None else channel_axis) << 3
    return bytes(data) + b"".join(map(varint.pack, shape))


@pytest.mark.parametrize("changes", [{"quality": 0}, {"quality": 9}, {"channel_axis": 3},
                                     {"shape": (5, 3), "channel_axis": 1}, {"shape": (5,), "channel_axis": None},
                                     {"shape": (0, 5, 3)}, {"shape": (65536, 65536, 3)}])  # fmt: skip
def test_impossible_headers(changes):
    with pytest.raises(CorruptionError, match="but a chunk has" if "quality" not in changes else "must say 1 to 8"):
        AutoencoderHeader.parse(packed(**changes))


@pytest.mark.parametrize("body", [
    header().pack() + b"\x01\x02\x00" + bytes(4),  # shorter than its stream
    header().pack() + b"\x01\x01\x00" + bytes(5),  # longer
    header().pack() + b"\xff\xff\x03",  # streams without end
    header(body=Body.CONSTANT, entropy=None).pack() + b"\x01\x02",
])  # fmt: skip
def test_lengths_that_disagree(body):
    with pytest.raises(CorruptionError):
        autoencoder.parse(sealed(body))


@pytest.mark.parametrize("data", [b"", b"\xca", b"\xca\xec", b"PK\x03\x04", bytes(40)])
def test_not_a_payload(data):
    with pytest.raises(CorruptionError):
        autoencoder.parse(data)
