"""Edge chunks that zarr fills up: what is inside is as good as without, at hardly more bytes, and the padding is exact."""

import numpy as np
import pytest
import zarr
from helpers.overfitted import fit_by_hand
from helpers.padding import FILLS, behind, bits, cases, chunk_of, inside, padded, picture
from helpers.paths import GOLDEN, TINY
from reference import padded as reference

import caecodec
from caecodec.bitstream.prefix import PADDED_VERSION
from caecodec.codecs.overfitted import codec as overfitted_codec

CASES = list(cases())
OPTIONS = ({"quality": 1}, {"quality": 4}, {"max_error": 0}, {"max_error": 3}, {"quality": 4, "max_error": 1}, {"psnr": 30})
DTYPES = sorted(FILLS)


@pytest.fixture(autouse=True)
def _weights(tiny):
    """The tiny networks."""


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_chunk_is_its_content_and_a_few_bytes(case, options):
    _, content, shape, _, channel_axis = case
    chunk = chunk_of(case)
    alone = caecodec.encode(content, channel_axis=channel_axis, weights=TINY, **options)
    data = caecodec.encode(chunk, channel_axis=channel_axis, weights=TINY, **options)
    assert data[2] == PADDED_VERSION
    assert len(data) <= len(alone) + 2 + len(shape) + content.itemsize
    found = caecodec.decode(data, expected_shape=shape, expected_dtype=content.dtype)
    np.testing.assert_array_equal(bits(inside(found, content)), bits(caecodec.decode(alone)))
    np.testing.assert_array_equal(behind(found, content), behind(chunk, content))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_overfitted(case, monkeypatch):
    monkeypatch.setattr(overfitted_codec, "_fit", fit_by_hand)
    _, content, shape, _, channel_axis = case
    codec = caecodec.OverfittedAutoencoder(2, channel_axis=channel_axis, decoder="lop")
    data = codec.encode(chunk_of(case))
    assert data[2] == PADDED_VERSION
    assert len(data) <= len(codec.encode(content)) + 2 + len(shape) + content.itemsize
    found = np.asarray(codec.decode(data))
    np.testing.assert_array_equal(bits(inside(found, content)), bits(np.asarray(codec.decode(codec.encode(content)))))
    np.testing.assert_array_equal(behind(found, content), behind(chunk_of(case), content))


def test_overfitted_chunks_that_cannot_be_fitted(monkeypatch):
    """The other codec's payload of the content has no padding of its own, though the content ends in one value."""
    monkeypatch.setattr(overfitted_codec, "_fit", lambda *arguments: None)
    content = picture(9, 20)
    content[-2:] = 4
    chunk = padded(content, (16, 20), 0)
    with pytest.warns(RuntimeWarning, match="stored without loss"):
        data = caecodec.OverfittedAutoencoder(2, channel_axis=None).encode(chunk)
    np.testing.assert_array_equal(caecodec.decode(data), chunk)
    assert reference.take_apart(data).content == (9, 20)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_whose_chunks_reach_over_the_edge(dtype, zarr_format):
    """Whatever the fill value, each chunk is as if what is inside were all there is."""
    codec = caecodec.ConvolutionalAutoencoder(4, channel_axis=None, weights=TINY)
    slot = {"compressors": codec} if zarr_format == 2 else {"compressors": None, "serializer": codec}
    for side in (20, 36, 62):
        values = picture(1, side, 50, dtype=dtype)
        expected = np.empty_like(values)
        for place in np.ndindex(-(-side // 32), 2):
            region = (0, *(slice(32 * i, 32 * i + 32) for i in place))
            expected[region] = codec.decode(codec.encode(np.ascontiguousarray(values[region])))
        for fill in FILLS[dtype]:
            with zarr.config.set({"async.concurrency": 1}):  # in a batch a latent may be rounded to the other side
                array = zarr.create_array({}, data=values, chunks=(2, 32, 32), zarr_format=zarr_format, fill_value=fill, **slot)
                np.testing.assert_array_equal(array[:], expected)


@pytest.mark.parametrize("fill", [-9999, 1e20, np.nan])
def test_appending_to_a_padded_chunk(fill):
    """What was padding is there to be written on."""
    values = picture(40, 50, dtype="float32")
    array = zarr.create_array(
        {}, data=values[:20], chunks=(32, 50), fill_value=fill, compressors=None,
        serializer=caecodec.ConvolutionalAutoencoder(max_error=0, channel_axis=None),
    )  # fmt: skip
    array.resize((40, 50))
    np.testing.assert_array_equal(array[20:32], np.full((12, 50), fill, np.float32))
    array[20:] = values[20:]
    np.testing.assert_array_equal(array[:], values)


def test_values_that_are_not_finite_inside_are_refused():
    chunk = padded(picture(20, 24, dtype="float32"), (32, 24), np.nan)
    chunk[3, 4] = np.inf
    with pytest.raises(caecodec.ParameterError, match="chunk has 1 values that are NaN or infinite"):
        caecodec.encode(chunk, quality=4, channel_axis=None, weights=TINY)


def test_lossless_floats_keep_every_bit():
    """Zeros of both signs, every kind of NaN, infinities and the least numbers; in chunks of one value as well."""
    patterns = [0, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x3F800000]
    values = np.array(patterns, "u4").view(np.float32)
    mixed = np.resize(values, (13, 17))
    zeros = np.zeros((16, 16), np.float32)
    zeros[:8] = -0.0
    wide = np.random.default_rng(0).integers(0, 2**64, (12, 9), "u8").view(np.float64)
    for array in (mixed, zeros, wide, *(np.full((8, 8), value, np.float32) for value in values)):
        for order in "CF":
            given = np.asarray(array, order=order)
            found = caecodec.decode(caecodec.encode(given, max_error=0, channel_axis=None, weights=TINY))
            np.testing.assert_array_equal(bits(found), bits(given))


PATHS = sorted(GOLDEN.glob("v5-*.cae"))


def test_there_is_a_golden_payload_of_each_case():
    assert {path.stem for path in PATHS} == {f"v5-{case[0]}" for case in CASES}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden_payloads(path, fp32):
    stored = np.load(path.with_suffix(".npz"))["pixels"]
    data = path.read_bytes()
    pixels = caecodec.decode(data)
    assert (pixels.shape, pixels.dtype) == (stored.shape, stored.dtype)
    parts = reference.take_apart(data)
    _, content, shape, fill, _ = next(case for case in CASES if path.stem == f"v5-{case[0]}")
    assert (parts.shape, parts.content) == (shape, content.shape)
    np.testing.assert_array_equal(behind(pixels, content), behind(padded(content, shape, fill), content))
    step = 1 if stored.dtype.kind != "f" else 1e-4 * np.ptp(content)
    assert np.abs(inside(pixels, content).astype(float) - inside(stored, content)).max() <= step
    np.testing.assert_array_equal(bits(caecodec.decode(parts.payload)), bits(np.ascontiguousarray(inside(pixels, content))))
