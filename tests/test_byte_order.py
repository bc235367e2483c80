"""Arrays of either byte order, and filters before the codec that leave one, in both Zarr formats and in numcodecs alone."""

import itertools

import numcodecs
import numpy as np
import pytest
import zarr
from helpers.padding import picture
from helpers.paths import TINY, TINY_LAYERS
from zarr.codecs.numcodecs import AsType

import caecodec
from caecodec.bitstream.byte_order import as_big_endian

LOSSLESS = caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None)
CODECS = {
    "quality": caecodec.ConvolutionalAutoencoder(4, channel_axis=None, weights=TINY),
    "psnr": caecodec.ConvolutionalAutoencoder(psnr=40, channel_axis=None, weights=TINY),
    "bound": caecodec.ConvolutionalAutoencoder(max_error=3, channel_axis=None),
    "lossless": LOSSLESS,
    "scalable": caecodec.ScalableAutoencoder(channel_axis=None, weights=TINY_LAYERS),
    "overfitted": caecodec.OverfittedAutoencoder(2, preset="instant", channel_axis=None),
}
ORDERED = [">u2", ">i2", ">f4", ">f8", "<u2", "<i2", "<f4", "<f8"]
FILTERED = [  # of the array, and as the filter leaves it
    ("<u2", ">u2"), ("<i2", ">i2"), ("<f4", ">f4"), ("<f8", ">f8"), ("<u4", ">u2"), (">u4", ">u2"), ("<f8", ">f4"),
    (">u2", "<u2"), (">f4", "<f4"), (">u4", "<u2"), ("<i2", "<f8"),
]  # fmt: skip


def values_of(dtype, shape=(40, 50)):
    """An image whose last chunks of 32x32 have padding, the first of which is of one value."""
    values = picture(*shape, dtype="uint16") * 20
    values[:32, :32] = 700
    return values.astype(dtype)


def create(values, **options):
    """A Zarr array in chunks of 32x32, and the same opened anew."""
    store = {}
    zarr.create_array(store, data=values, chunks=(32, 32), **options)
    return store, zarr.open_array(store, mode="r+")


def v2(values, codec, **options):
    return create(values, zarr_format=2, compressors=codec, **options)


def v3(values, codec, **options):
    return create(values, serializer=codec, compressors=None, **options)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("form", [v2, v3])
def test_a_filter_to_the_other_byte_order(codec, form, tiny, fp32):
    """The values are those without the filter, of every codec and kind of bound."""
    values = values_of("<u2", (20, 44))
    filters = [numcodecs.AsType(">u2", "<u2")] if form is v2 else [AsType(encode_dtype=">u2", decode_dtype="<u2")]
    _, array = form(values, codec, filters=filters)
    np.testing.assert_array_equal(array[:], form(values, codec)[1][:])


@pytest.mark.parametrize(("dtype", "left"), FILTERED)
@pytest.mark.parametrize("form", [v2, v3])
def test_dtypes_that_filters_leave(dtype, left, form):
    values = values_of(dtype)
    filters = [numcodecs.AsType(left, dtype)] if form is v2 else [AsType(encode_dtype=left, decode_dtype=dtype)]
    store, array = form(values, LOSSLESS, filters=filters)
    np.testing.assert_array_equal(array[:], values)
    array[5:35, 7:40] = values[6:36, 8:41]
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[5:35, 7:40], values[6:36, 8:41])


@pytest.mark.parametrize("order", ["C", "F"])
def test_several_filters_and_memory_orders(order):
    values = values_of("<f8")
    filters = [numcodecs.Quantize(digits=1, dtype="<f8", astype=">f8"), numcodecs.AsType(">f4", ">f8")]
    _, array = v2(values, LOSSLESS, filters=filters, order=order)
    np.testing.assert_array_equal(array[:], values)


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("form", [v2, v3])
def test_arrays_and_values_of_either_byte_order(dtype, form):
    """Values of one byte order may be written to an array of the other."""
    values = values_of(dtype)
    store, array = form(values, LOSSLESS)
    assert form is v3 or array.dtype == dtype
    np.testing.assert_array_equal(array[:], values)
    array[:] = values[::-1].astype(np.dtype(dtype).newbyteorder())
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[:], values[::-1])
    np.testing.assert_array_equal(caecodec.read(array, (slice(3, 37), slice(9, 50))), values[::-1][3:37, 9:])


@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_shards(shards):
    values = values_of("<f4", (40, 64))
    filters = [AsType(encode_dtype=">f4", decode_dtype="<f4")]
    array = zarr.create_array(
        {}, data=values, chunks=(16, 32), shards=shards, filters=filters, serializer=LOSSLESS, compressors=None
    )
    np.testing.assert_array_equal(array[:], values)


def test_payloads():
    """Those of big-endian arrays say so where zarr, filters or numcodecs ask for bytes, and nowhere else."""
    values = values_of("<u2", (32, 32))[::-1, ::-1]
    swapped, options = values.astype(">u2"), {"max_error": 0, "channel_axis": None}
    usual = caecodec.encode(values, **options)
    assert caecodec.encode(swapped, **options) == usual
    for data in (values, swapped):
        assert v3(data, LOSSLESS)[0]["c/0/0"].to_bytes() == usual
    assert v2(values, LOSSLESS)[0]["0.0"].to_bytes() == LOSSLESS.encode(values) == usual
    assert v2(swapped, LOSSLESS)[0]["0.0"].to_bytes() == LOSSLESS.encode(swapped) == as_big_endian(usual)
    assert LOSSLESS.encode(values.astype(">u1")) == LOSSLESS.encode(values.astype("u1"))


@pytest.mark.parametrize("dtype", [">u2", ">i2", ">f4", ">f8"])
def test_arrays_whose_payloads_do_not_say_it(dtype):
    """They were written by earlier states of this package, and their metadata say it."""
    values = values_of(dtype)
    store, array = v2(values, LOSSLESS)
    native, _ = v2(values.astype(values.dtype.newbyteorder("=")), LOSSLESS)
    chunks = [key for key in store if not key.startswith(".")]
    assert len(chunks) == 4
    for key in chunks:
        assert store[key].to_bytes() == as_big_endian(native[key].to_bytes())
        store[key] = native[key]
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(caecodec.read(array), values)


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numcodecs_alone(dtype, order):
    """`decode` returns the bytes that were given to `encode`, also those of NaN; an `out` of any order gets the values."""
    values = np.asarray(values_of(dtype), order=order)
    if values.dtype.kind == "f":
        bits = values.reshape(-1, order="A").view(f"{dtype[0]}u{dtype[2]}")
        bits[3] = {4: 0x7F800001, 8: 0x7FF0000000000001}[values.itemsize]
    payload = LOSSLESS.encode(values)
    found = LOSSLESS.decode(payload)
    assert found.dtype == values.dtype
    assert np.asarray(found).tobytes() == values.tobytes()
    assert found.flags.f_contiguous == (order == "F")
    for byte_order, memory in itertools.product("<>", "CF"):
        out = np.empty(values.shape, values.dtype.newbyteorder(byte_order), order=memory)
        assert LOSSLESS.decode(payload, out=out) is out
        np.testing.assert_array_equal(out, values)


def test_latents_and_inspection(tmp_path, tiny):
    """What reads payloads by itself takes the note for what it is."""
    paths = [tmp_path / "big.zarr", tmp_path / "little.zarr"]
    for path, dtype in zip(paths, (">u2", "<u2"), strict=True):
        codec = CODECS["quality"]
        zarr.create_array(path, data=values_of(dtype), chunks=(32, 32), zarr_format=2, compressors=codec)
    big, little = (caecodec.open_latents(path)[...] for path in paths)
    np.testing.assert_array_equal(big, little)
    big, little = (caecodec.inspect(path)[0] for path in paths)
    assert (big.header_bytes, big.stream_bytes, big.qualities) == (little.header_bytes, little.stream_bytes, (4,))
