"""Damaged payloads: the right error, never wrong pixels, never an allocation that the payload cannot fill."""

import tracemalloc
import zlib

import numpy as np
import pytest
from conftest import TINY, random_image, save_seeded
from hypothesis import given, settings
from hypothesis import strategies as st

import caecodec
from caecodec.bitstream import container, varint
from caecodec.bitstream.header import CODING_CONSTANT, CODING_STATIC, Header


@pytest.fixture
def payload(tiny):
    return caecodec.encode(random_image(40, 50, 3), quality=4, weights=tiny)


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_truncated_at_every_byte(payload):
    for length in range(len(payload)):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(payload[:length])
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode(payload + b"\0")


def test_every_flipped_bit(payload):
    for position in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[position] ^= 1 << bit
            with pytest.raises(caecodec.CorruptionError):
                caecodec.decode(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_behind_a_right_checksum(data):
    """An adversary can fix the checksum: then an array of the stated shape, or an error of ours, and nothing else."""
    body = bytearray(caecodec.encode(random_image(24, 40, 3), quality=4, weights=TINY)[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] = data.draw(st.integers(0, 255))
    try:
        array = caecodec.decode(sealed(bytes(body)), weights=TINY)
    except caecodec.CaeCodecError:
        return
    assert array.shape == container.parse(sealed(bytes(body))).header.shape


def test_huge_geometry_is_refused_before_it_is_allocated(tiny, payload):
    header = container.parse(payload).header
    huge = Header(4, "mse", CODING_STATIC, header.digest, (20000, 20000, 3), 2)
    forged = sealed(huge.pack() + varint.pack(1) + varint.pack(1) + varint.pack(0) + b"\x01\x02\x03\x04")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match="streams"):
        caecodec.decode(forged)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_expected_shape_comes_before_any_allocation(tiny):
    huge = Header(4, "mse", CODING_CONSTANT, b"abcd", (20000, 20000, 3), 2)
    forged = sealed(huge.pack() + b"\x01\x02\x03")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match=r"\(20000, 20000, 3\) but \(64, 64, 3\) is expected"):
        caecodec.decode(forged, expected_shape=(64, 64, 3))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_other_weights(payload, tmp_path):
    other = save_seeded(tmp_path / "other.safetensors", seed=1)
    digest = container.parse(payload).header.digest.hex()
    assert other.digest.hex() != digest
    forged = bytearray(payload[:-4])
    forged[7:11] = b"\xde\xad\xbe\xef"
    with pytest.raises(caecodec.WeightsError, match="digest deadbeef.*CAECODEC_WEIGHTS"):
        caecodec.decode(sealed(bytes(forged)), weights=tmp_path / "other.safetensors")


def test_newer_version(payload):
    newer = bytearray(payload[:-4])
    newer[2] = 3
    with pytest.raises(caecodec.FormatVersionError, match="is 3 .* upgrade"):
        caecodec.decode(sealed(bytes(newer)))


def test_random_bytes():
    rng = np.random.default_rng(0)
    for size in range(64):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(rng.bytes(size))
