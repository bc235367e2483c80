"""Overfitted payloads that are damaged, forged, newer or of another chunk."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from helpers.images import random_image
from helpers.surfaces import encode

import caecodec
from caecodec.bitstream import overfitted
from caecodec.codecs.decoding import parse_payload

pytestmark = pytest.mark.usefixtures("by_hand")


def test_chunks_that_are_not_taken():
    for array, message in (
        (np.zeros((4, 4, 3), bool), "dtype is bool"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        (np.zeros((4, 4), np.uint8), "axes"),
    ):
        with pytest.raises(caecodec.ParameterError, match=message):
            encode(array)


def test_truncation_and_flipped_bits():
    data = encode(random_image(9, 9, 3))
    for size in range(len(data)):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(data[:size])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(damaged)


def change(data, **changes):
    payload = parse_payload(data)
    header = {name: changes.pop(name) for name in list(changes) if name in {f.name for f in dataclasses.fields(payload.header)}}
    return overfitted.pack(dataclasses.replace(payload, header=dataclasses.replace(payload.header, **header), **changes))


def test_forged_payloads():
    data = encode(random_image(20, 20, 3))
    payload = parse_payload(data)
    for forged, message in (
        (change(data, network=b""), "network has steps"),
        (change(data, stream=payload.stream[4:]), "damaged"),
        (change(data, stream=payload.stream + b"\1\0\0\0"), "damaged"),
        (change(data, escapes=b"\0"), "more escapes"),
        (change(data, raw=b"\0"), "more low bits"),
        (change(data, planes=b"\1"), "damaged"),
        (change(data, planes=b""), "planes"),
        (change(data, shape=(40, 10, 3)), "damaged"),
    ):
        with pytest.raises(caecodec.CorruptionError, match=message):
            caecodec.decode(forged)
    planes = encode(np.full((2, 8, 8), 5.0).cumsum(axis=0), channel_axis=None)
    with pytest.raises(caecodec.CorruptionError, match="all its planes have one value"):
        caecodec.decode(change(planes, network=payload.network))


def test_huge_geometry_is_refused_before_it_is_allocated():
    forged = change(encode(random_image(20, 20, 3)), stream=b"", shape=(20000, 20000, 3))
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match="0 bytes for 533.* latents"):
        caecodec.decode(forged)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(("position", "value", "error", "message"), [
    (2, 6, caecodec.FormatVersionError, "format version of the payload is 6 but this caecodec knows 1, 2, 3, 4, 5"),
    (2, 1, caecodec.FormatVersionError, "model family id of the payload is 3"),
    (3, 9, caecodec.FormatVersionError, "model family id of the payload is 9"),
    (4, 3, caecodec.FormatVersionError, "decoder id of the payload is 3"),
    (4, 16, caecodec.FormatVersionError, "decoder id of the payload is 16"),
    (5, 2, caecodec.FormatVersionError, "coding id of the payload is 2"),
    (5, 0x50, caecodec.FormatVersionError, "dtype id of the payload is 5"),
    (6, 0x22, caecodec.CorruptionError, "channel axis 4"),
])  # fmt: skip
def test_newer_payloads(position, value, error, message):
    body = bytearray(encode(random_image(9, 9, 3))[:-4])
    body[position] = value
    from caecodec.bitstream.framing import seal

    with pytest.raises(error, match=message):
        caecodec.decode(seal(bytes(body)))


def test_other_shape_and_dtype():
    data = encode(random_image(9, 8, 3))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(data, expected_shape=(8, 9, 3))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(data, expected_dtype="uint16")
