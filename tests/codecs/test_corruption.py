"""Damaged payloads: the right error, never wrong pixels, never an allocation that the payload cannot fill."""

import json
import pickle
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY
from hypothesis import given
from hypothesis import strategies as st

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder, varint
from caecodec.bitstream.autoencoder import AutoencoderHeader
from caecodec.bitstream.codings import Body
from caecodec.entropy import static


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
    assert array.shape == autoencoder.parse(sealed(bytes(body))).header.shape


def test_huge_geometry_is_refused_before_it_is_allocated(tiny, payload):
    header = autoencoder.parse(payload).header
    huge = AutoencoderHeader(4, "mse", Body.SYMBOLS, header.digest, (20000, 20000, 3), 2, entropy="static")
    forged = sealed(huge.pack() + varint.pack(1) + varint.pack(1) + varint.pack(0) + b"\x01\x02\x03\x04")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match="streams"):
        caecodec.decode(forged)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_expected_shape_comes_before_any_allocation(tiny):
    huge = AutoencoderHeader(4, "mse", Body.CONSTANT, b"abcd", (20000, 20000, 3), 2)
    forged = sealed(huge.pack() + b"\x01\x02\x03")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match=r"\(20000, 20000, 3\) but \(64, 64, 3\) is expected"):
        caecodec.decode(forged, expected_shape=(64, 64, 3))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_zarr_refuses_another_geometry_before_any_allocation(tiny):
    """Through the Zarr v3 format, sharded or not."""
    huge = AutoencoderHeader(4, "mse", Body.CONSTANT, b"abcd", (20000, 20000, 3), 2)
    store = {}
    serializer = caecodec.zarr.ConvolutionalAutoencoder(quality=4, weights=tiny)
    zarr.create_array(store, data=random_image(64, 64, 3), chunks=(32, 32, 3), serializer=serializer, compressors=None)
    store["c/1/1/0"] = type(store["c/0/0/0"]).from_bytes(sealed(huge.pack() + b"\x01\x02\x03"))
    array = zarr.open_array(store, mode="r")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match=r"\(20000, 20000, 3\) but \(32, 32, 3\) is expected"):
        array[32:, 32:]
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert array[:32].shape == (32, 64, 3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunks", [(64, 32, 3), (32, 32, 3), (16, 64, 3), (64, 64, 3), (96, 64)])
def test_zarr_v2_refuses_another_geometry(tiny, order, chunks):
    """Where the number of values is equal, too; zarr would only shape them otherwise."""
    store = {}
    codec = caecodec.ConvolutionalAutoencoder(quality=4, weights=tiny)
    image = random_image(64, 64, 3)
    array = zarr.create_array(store, data=image, chunks=(32, 64, 3), zarr_format=2, compressors=codec, order=order)
    assert type(array[:32]) is np.ndarray
    metadata = json.loads(store[".zarray"].to_bytes())
    metadata.update(chunks=chunks, shape=[64, 64, 3][: len(chunks)])
    store[".zarray"] = type(store[".zarray"]).from_bytes(json.dumps(metadata).encode())
    if len(chunks) == 2:
        store["0.0"] = store["0.0.0"]
    with pytest.raises(caecodec.CorruptionError, match=r"\(32, 64, 3\) but .* is expected here"):
        zarr.open_array(store, mode="r")[:]


def test_numcodecs_refuses_an_out_that_does_not_fit(tiny, payload):
    codec = caecodec.ConvolutionalAutoencoder(quality=4, weights=tiny)
    huge = sealed(AutoencoderHeader(4, "mse", Body.CONSTANT, b"abcd", (20000, 20000, 3), 2).pack() + b"\x01\x02\x03")
    tracemalloc.start()
    for data, shape in ((payload, (50, 40, 3)), (payload, (40, 50)), (huge, (40, 50, 3)), (huge, (6000,))):
        with pytest.raises(caecodec.CorruptionError, match="is expected here"):
            codec.decode(data, out=np.empty(shape, np.uint8))
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    flat = np.empty(6000, np.uint8)
    assert (codec.decode(payload, out=flat).reshape(40, 50, 3) == codec.decode(payload)).all()


def test_a_decoded_chunk_is_an_ordinary_array_otherwise(tiny, payload):
    chunk = caecodec.ConvolutionalAutoencoder(quality=4, weights=tiny).decode(payload)
    assert type(chunk + 1) is np.ndarray
    assert chunk.reshape(-1, 3).shape == chunk.reshape(-1).reshape(-1, 3).shape == (2000, 3)
    assert chunk[:10].reshape(-1).reshape(50, 10, 3).shape == (50, 10, 3)
    assert (pickle.loads(pickle.dumps(chunk)) == chunk).all()
    with pytest.raises(caecodec.CorruptionError):
        chunk.reshape(-1).reshape(50, 40, 3)


def test_symbols_that_overflow_the_network(tiny):
    """Forged symbols of 2^24 are in range, but what the network makes of them is no image."""
    source = weights.resolve(weights.Spec.parse(tiny), "mse", 4)
    tables = weights.load(source, 4).tables["static"]
    symbols = np.full((1, 12, 2, 2), 2**24, np.int32)
    symbols[:, ::2] *= -1
    coded = static.MODEL.encode(symbols, tables)
    header = AutoencoderHeader(4, "mse", Body.SYMBOLS, source.digest, (32, 32, 3), 2, entropy="static")
    payload = autoencoder.pack(autoencoder.AutoencoderPayload(header, coded.streams, coded.escapes))
    with pytest.raises(caecodec.CorruptionError, match="decode to no pixels"):
        caecodec.decode(payload)


@pytest.mark.parametrize("path", ["a.cae", Path("a.cae")])
def test_a_path_in_place_of_a_payload(path):
    with pytest.raises(
        caecodec.ParameterError, match=r"path 'a\.cae' but must be a payload; pass Path\('a\.cae'\)\.read_bytes"
    ):
        caecodec.decode(path)


def test_other_weights(payload, tmp_path):
    other = save_seeded(tmp_path / "other.safetensors", seed=1)
    digest = autoencoder.parse(payload).header.digest.hex()
    assert other.digest.hex() != digest
    forged = bytearray(payload[:-4])
    forged[7:11] = b"\xde\xad\xbe\xef"
    with pytest.raises(caecodec.WeightsError, match="digest deadbeef.*CAECODEC_WEIGHTS"):
        caecodec.decode(sealed(bytes(forged)), weights=tmp_path / "other.safetensors")


def test_newer_version(payload):
    newer = bytearray(payload[:-4])
    newer[2] = 6
    with pytest.raises(caecodec.FormatVersionError, match="is 6 .* upgrade"):
        caecodec.decode(sealed(bytes(newer)))


def test_random_bytes():
    rng = np.random.default_rng(0)
    for size in range(64):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(rng.bytes(size))
