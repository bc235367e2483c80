"""Zarr v2 format, and numcodecs alone."""

import asyncio
import copy
import pickle

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import processes

import caecodec
from caecodec.images.metrics import psnr


@pytest.fixture
def codec():
    return caecodec.ConvolutionalAutoencoder(quality=5)


def test_create_array(codec, photograph):
    z = zarr.create_array({}, data=photograph, chunks=(256, 256, 3), zarr_format=2, compressors=codec)
    assert psnr(z[:], photograph) > 30
    assert z.nbytes_stored() < photograph.nbytes / 8
    assert "ConvolutionalAutoencoder(quality=5, metric='mse', channel_axis=-1, weights='photo@" in str(z.info)


def test_zarr_array(codec, photograph):
    z = zarr.array(photograph, chunks=(256, 256, 3), compressor=codec, zarr_format=2)
    assert psnr(z[:], photograph) > 30


def test_register_codec_works_and_is_not_needed(codec):
    config = {"id": "caecodec_cae", "quality": 5}
    assert numcodecs.get_codec(dict(config)) == codec
    numcodecs.register_codec(caecodec.ConvolutionalAutoencoder)
    assert numcodecs.get_codec(dict(config)) == codec


def test_config(codec):
    config = codec.get_config()
    assert set(config) == {"id", "quality", "metric", "channel_axis", "weights"}
    assert numcodecs.get_codec(dict(config)) == codec
    assert caecodec.ConvolutionalAutoencoder(quality=5, gpu=True).get_config() == config
    assert eval(repr(codec), {"ConvolutionalAutoencoder": caecodec.ConvolutionalAutoencoder}) == codec


def test_a_configuration_of_a_newer_version(codec):
    with pytest.raises(caecodec.FormatVersionError, match="depth=2.*upgrade caecodec"):
        numcodecs.get_codec({**codec.get_config(), "depth": 2})


def test_masked_arrays():
    """The values are what counts: a payload has no mask."""
    values = np.arange(3000, 3064, dtype=np.int16).reshape(8, 8)
    codec = caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None)
    for given in (values, np.ma.masked_array(values), np.ma.masked_equal(values, 0)):
        decoded = codec.decode(codec.encode(given))
        np.testing.assert_array_equal(decoded, values)
    for encode in (codec.encode, lambda array: caecodec.encode(array, channel_axis=None, psnr=30)):
        with pytest.raises(caecodec.ParameterError, match="1 masked values.*filled"):
            encode(np.ma.masked_equal(values, 3001))


def test_filters_before_it(photograph):
    plane = photograph[:40, :50, 0].astype(np.uint32)
    codec = caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None)
    options = {"data": plane, "chunks": (32, 32), "zarr_format": 2, "compressors": codec}
    z = zarr.create_array({}, filters=[numcodecs.AsType(encode_dtype="u2", decode_dtype="u4")], **options)
    np.testing.assert_array_equal(z[:], plane)
    with pytest.raises(caecodec.ParameterError, match="1 axes.*filter flattened it.*Zarr v3"):
        zarr.create_array({}, filters=[numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="u4", astype="u2")], **options)


def test_metadata_of_weights_that_are_not_here_still_opens(photograph):
    config = {"id": "caecodec_cae", "quality": 8, "metric": "mse", "channel_axis": -1, "weights": "mine@01234567"}
    codec = numcodecs.get_codec(dict(config))
    assert codec.get_config() == config
    with pytest.raises(caecodec.WeightsError, match="mine@01234567"):
        codec.encode(photograph)


def test_copies(codec, photograph):
    crop = photograph[:64, :64]
    for other in (pickle.loads(pickle.dumps(codec)), copy.copy(codec), copy.deepcopy(codec)):
        assert other == codec
        np.testing.assert_array_equal(other.decode(codec.encode(crop)), codec.decode(other.encode(crop)))


def test_decode_into_out_and_from_any_buffer(codec, photograph):
    crop = photograph[:64, :80]
    payload = codec.encode(crop)
    out = np.empty_like(crop)
    assert codec.decode(payload, out=out) is out
    for buffer in (payload, bytearray(payload), memoryview(payload), np.frombuffer(payload, np.uint8)):
        np.testing.assert_array_equal(codec.decode(buffer), out)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("source_order", ["C", "F"])
def test_decode_into_out_of_another_order(codec, photograph, order, source_order):
    payload = codec.encode(np.asarray(photograph[:40, :50], order=source_order))
    out = np.empty((40, 50, 3), np.uint8, order=order)
    assert codec.decode(payload, out=out) is out
    np.testing.assert_array_equal(out, codec.decode(payload))


@pytest.mark.parametrize("shape", [(1, 40, 50), (40, 1, 50), (40, 50, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("source_order", ["C", "F"])
def test_decode_into_axes_of_one_position(photograph, shape, dtype, source_order):
    plane = np.asarray(photograph[:40, :50, 0], dtype=dtype, order=source_order)
    exact = caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None)
    out = np.empty(shape, dtype, order="F")
    assert exact.decode(exact.encode(plane), out=out) is out
    np.testing.assert_array_equal(out.squeeze(), plane)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float64"])
def test_decode_into_bytes(photograph, dtype):
    plane = photograph[:40, :50, 0].astype(dtype)
    exact = caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None)
    payload = exact.encode(plane)
    for out in (bytearray(plane.nbytes), memoryview(bytearray(plane.nbytes)), np.empty(plane.nbytes, np.uint8)):
        exact.decode(payload, out=out)
        np.testing.assert_array_equal(np.frombuffer(out, dtype).reshape(plane.shape), plane)
    for wrong in (bytearray(plane.nbytes + 1), np.empty(plane.shape[::-1], dtype), np.empty(plane.shape, np.int16)):
        with pytest.raises(caecodec.CorruptionError, match="belongs to another array"):
            exact.decode(payload, out=wrong)


def test_what_is_no_buffer(codec):
    for wrong in ([1, 2], None, "text"):
        for function in (codec.encode, codec.decode):
            with pytest.raises(caecodec.ParameterError, match=f"{type(wrong).__name__} is no array and no buffer"):
                function(wrong)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("source_order", ["C", "F"])
def test_orders(codec, photograph, order, source_order):
    a = np.asarray(photograph[:200, :120], order=source_order)
    z = zarr.create_array({}, data=a, chunks=(100, 60, 3), zarr_format=2, compressors=codec, order=order)
    assert psnr(z[:], a) > 29
    assert psnr(z[50:150, 30:90], a[50:150, 30:90]) > 29


def test_edge_chunks_and_leading_axes(photograph):
    a = np.stack([photograph[:100, :150], photograph[200:300, 100:250]])[:, None]
    codec = caecodec.ConvolutionalAutoencoder(quality=5)
    z = zarr.create_array({}, data=a, chunks=(1, 1, 64, 64, 3), zarr_format=2, compressors=codec)
    assert psnr(z[:], a) > 27
    channels_first = np.moveaxis(a, -1, -3)
    codec = caecodec.ConvolutionalAutoencoder(quality=5, channel_axis=-3)
    z = zarr.create_array({}, data=channels_first, chunks=(2, 1, 3, 64, 64), zarr_format=2, compressors=codec)
    assert psnr(z[:], channels_first) > 27


def test_another_process_reads_it_without_importing_caecodec(tmp_path, codec, photograph):
    path = tmp_path / "a.zarr"
    z = zarr.create_array(path, data=photograph, chunks=(256, 256, 3), zarr_format=2, compressors=codec)
    np.save(tmp_path / "expected.npy", z[:])
    code = (
        "import sys, zarr, numpy as np; assert 'caecodec' not in sys.modules; "
        f"z = zarr.open_array({str(path)!r}, mode='r'); "
        f"assert (abs(z[:].astype(int) - np.load({str(tmp_path / 'expected.npy')!r})) <= 1).all(); print('same')"
    )
    assert processes.run("-c", code).stdout == "same\n"


@pytest.mark.parametrize(("array", "match"), [
    (np.zeros((8, 8, 3), np.int32), "dtype is int32"),
    (np.zeros((8, 8, 40), np.uint8), "40 channels"),
    (np.zeros(64, np.uint8), "1 axes"),
])  # fmt: skip
def test_chunks_it_cannot_take(codec, array, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        codec.encode(array)


def test_a_damaged_chunk_raises(tmp_path, codec, photograph):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=photograph, chunks=(256, 256, 3), zarr_format=2, compressors=codec)
    chunk = path / "0.1.0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    z = zarr.open_array(path, mode="r")
    assert psnr(z[:, :256], photograph[:, :256]) > 29
    with pytest.raises(caecodec.CorruptionError, match="CRC-32"):
        z[:]


def test_async(codec, photograph):
    async def write_and_read():
        a = await zarr.api.asynchronous.create_array(
            {}, data=photograph, chunks=(128, 128, 3), zarr_format=2, compressors=codec
        )
        return await asyncio.gather(*(a.getitem((slice(i, i + 256), slice(None))) for i in (0, 100, 256)))

    for part, start in zip(asyncio.run(write_and_read()), (0, 100, 256), strict=True):
        assert psnr(part, photograph[start : start + 256]) > 29
