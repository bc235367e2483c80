"""Arrays that are not 8-bit RGB: dtypes, numbers of channels, ranges of values; the network sees them all as images."""

import re

import numcodecs
import numpy as np
import pytest
import zarr
from helpers.images import counts, random_image
from helpers.paths import TINY
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import caecodec
from caecodec.bitstream import autoencoder
from caecodec.chunks.axes import Axes
from caecodec.chunks.planes import Layout
from caecodec.chunks.ranges import Ranges
from caecodec.errors import CorruptionError, ParameterError
from caecodec.images.metrics import psnr

DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 17])
def test_every_dtype_and_number_of_channels(photograph, dtype, channels):
    """Each plane comes back near itself, in its place."""
    grey = photograph[100:180, 200:304].mean(axis=2)
    planes = [np.roll(grey[:: (-1) ** i], 7 * i, axis=1) for i in range(channels or 1)]
    array = np.stack(planes, axis=-1) if channels else planes[0]
    scale, offset = {"uint8": (1, 0), "uint16": (200, 1000), "int16": (100, -9000), "float32": (1e-6, 5), "float64": (1e12, 0)}[
        dtype
    ]
    array = (array * scale + offset).astype(dtype)
    payload = caecodec.encode(array, quality=5, channel_axis=-1 if channels else None)
    decoded = caecodec.decode(payload, expected_shape=array.shape, expected_dtype=dtype)
    assert decoded.dtype == array.dtype
    colours = dtype == "uint8" and channels == 3  # planes that no photograph has, taken for one
    for index in range(channels or 1):
        plane = (..., index) if channels else ...
        assert psnr(array[plane], decoded[plane]) > (20 if colours else 28)
    assert autoencoder.parse(payload).header.version == (1 if colours else 2)


@pytest.mark.parametrize("channel_axis", [0, 1, -3, -1])
def test_leading_axes(channel_axis):
    stack = np.stack([[counts(t * 10 + c) for c in range(2)] for t in range(3)])  # t, c, y, x
    array = np.moveaxis(stack, 1, channel_axis)
    decoded = caecodec.decode(caecodec.encode(array, quality=4, channel_axis=channel_axis))
    back = np.moveaxis(decoded, channel_axis, 1)
    for t, c in np.ndindex(3, 2):
        assert psnr(stack[t, c], back[t, c]) > 30


def test_a_grey_plane_costs_less_than_colour(photograph):
    grey = photograph[..., 1]
    assert len(caecodec.encode(grey, quality=4, channel_axis=None)) < len(caecodec.encode(photograph, quality=4))


def test_a_few_bright_pixels_do_not_crush_the_rest():
    """Dark structure survives beside pixels two thousand times as bright."""
    y, x = np.mgrid[:128, :128]
    array = (100 + 12 * (np.sin(x / 9) + np.cos(y / 7))).astype(np.uint16)
    dark = np.ones(array.shape, bool)
    for v, u in ((10, 10), (70, 90), (100, 30)):
        array[v : v + 3, u : u + 3] = 60000
        dark[max(0, v - 16) : v + 19, max(0, u - 16) : u + 19] = False
    decoded = caecodec.decode(caecodec.encode(array, quality=5, channel_axis=None))
    error = decoded[dark].astype(float) - array[dark]
    assert error.std() < 0.5 * array[dark].std()
    assert decoded[71, 91] > 40000


def test_noise_is_not_blown_up():
    """A background of some tens of units is coded as 8-bit values of that spread are, not as a picture."""
    noise = (100 + np.random.default_rng(0).normal(size=(128, 128)) * 3).astype(np.uint16)
    assert 8 * len(caecodec.encode(noise, quality=3, channel_axis=None)) / noise.size < 1


def test_colour_in_16_bits_is_coded_as_colour(photograph):
    rgb = photograph[:256, :256].astype(np.uint16) * 257
    payload = caecodec.encode(rgb, quality=4)
    assert len(payload) < 1.3 * len(caecodec.encode(photograph[:256, :256], quality=4))
    unlike = np.stack([photograph[:256, :256, 0], photograph[:256, 256:, 0].T, photograph[256:, 256:, 0][::-1]], axis=-1)
    axes = Axes.of(3, -1)
    assert Layout.of(unlike.astype(np.uint16) * 257, axes).separate
    assert not Layout.of(rgb, axes).separate


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_planes_are_exact(dtype):
    array = np.zeros((40, 50, 4), dtype)
    array[..., 1] = 77
    array[..., 3] = random_image(40, 50, 3)[..., 0]
    decoded = caecodec.decode(caecodec.encode(array, quality=4))
    np.testing.assert_array_equal(decoded[..., :3], array[..., :3])
    alone = np.full((3, 40, 50), 99, dtype)
    payload = caecodec.encode(alone, quality=4, channel_axis=None)
    assert autoencoder.parse(payload).header.constant
    np.testing.assert_array_equal(caecodec.decode(payload), alone)
    several = np.stack([np.full((40, 50), value, dtype) for value in (3, 5, 8)])  # no plane needs the network
    np.testing.assert_array_equal(caecodec.decode(caecodec.encode(several, quality=4, channel_axis=None)), several)


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda name: npst.arrays(
            name, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
            elements=npst.from_dtype(np.dtype(name), allow_nan=False, allow_infinity=False),
        )
    )
)  # fmt: skip
def test_any_values(array):
    """Extremes of every dtype come back within the range of their plane."""
    decoded = caecodec.decode(caecodec.encode(array, quality=4, weights=TINY), weights=TINY)
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    if array.dtype.kind == "f":
        assert np.isfinite(decoded).all()
        low, high = array.min(axis=(1, 2), keepdims=True), array.max(axis=(1, 2), keepdims=True)
        assert ((decoded >= low) & (decoded <= high)).all()


@given(npst.arrays(np.uint16, (2, 6, 7, 3), elements=st.integers(0, 65535)))
def test_ranges_invert(images):
    ranges = Ranges.of(images)
    assert set(np.unique(ranges.power)) <= {0, 1, 2, 4}
    back = np.rint(ranges.inverse(ranges.forward(images)))
    spread = ranges.high.astype(int) - ranges.low
    assert (np.abs(back.astype(int) - images) <= 1e-6 * spread[:, None, None]).all()
    parsed, used = Ranges.parse(memoryview(ranges.pack() + b"more"), (2, 3), images.dtype)
    assert used == 6 * 5
    for name in ("power", "low", "high"):
        np.testing.assert_array_equal(getattr(parsed, name), getattr(ranges, name))


def test_powers_follow_the_values():
    picture = random_image(64, 64, 3)[None, ..., :1].astype(np.uint16) * 100
    assert Ranges.of(picture).power.item() == 1
    assert Ranges.of(counts(1)[None, ..., None]).power.item() == 2
    hot = np.full((1, 64, 64, 1), 100, np.uint16) + np.arange(64, dtype=np.uint16)[:, None] % 5
    hot[0, 0, 0] = 65535
    assert Ranges.of(hot).power.item() == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_that_are_not_finite(value, dtype):
    array = np.zeros((20, 20), dtype)
    array[3, 4] = value
    with pytest.raises(ParameterError, match=r"1 values that are NaN or infinite.*nan_to_num"):
        caecodec.encode(array, quality=4, channel_axis=None)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_arrays(tmp_path, dtype, zarr_format):
    array = np.stack([counts(i) for i in range(2)]).astype(dtype) if dtype != "uint8" else random_image(128, 128, 3)[..., :2]
    axis = -3 if dtype != "uint8" else -1
    chunks = (2, 64, 64) if axis == -3 else (64, 64, 2)
    if zarr_format == 2:
        options = {"compressors": caecodec.ConvolutionalAutoencoder(quality=4, channel_axis=axis), "zarr_format": 2}
    else:
        options = {"serializer": caecodec.zarr.ConvolutionalAutoencoder(quality=4, channel_axis=axis), "compressors": None}
    z = zarr.create_array(tmp_path / "a.zarr", data=array, chunks=chunks, **options)
    decoded = zarr.open_array(tmp_path / "a.zarr")[...]
    assert decoded.dtype == array.dtype
    assert psnr(array, decoded) > 25
    assert z.nbytes_stored() < array.nbytes / 4


def test_planes_without_channels_in_zarr(tmp_path):
    codec = {"name": "caecodec.cae", "configuration": {"quality": 4, "channel_axis": None}}
    data = counts(3)
    z = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(64, 64), serializer=codec, compressors=None)
    assert psnr(data, z[...]) > 28


def test_a_payload_of_another_dtype(tmp_path):
    payload = caecodec.encode(counts(0), quality=4, channel_axis=None)
    with pytest.raises(CorruptionError, match="chunk of uint16 but int16"):
        caecodec.decode(payload, expected_dtype="int16")


def test_a_zarr_v2_array_whose_metadata_name_another_dtype(tmp_path):
    codec = caecodec.ConvolutionalAutoencoder(quality=4, channel_axis=None)
    data = counts(0)
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(64, 64), zarr_format=2, compressors=codec)
    metadata = tmp_path / "a.zarr" / ".zarray"
    for name in ("<i2", "<f4", "|u1"):
        metadata.write_text(re.sub(r'"dtype": ".*?"', f'"dtype": "{name}"', metadata.read_text()))
        with pytest.raises(CorruptionError, match=f"chunk of uint16 but {np.dtype(name)}"):
            zarr.open_array(tmp_path / "a.zarr")[...]


def test_damaged_planes():
    payload = autoencoder.parse(caecodec.encode(np.stack([counts(0), counts(1)]), quality=4, channel_axis=0))
    kind, ranges = payload.planes[:1], payload.planes[1:]
    for planes in (b"", b"\x01", b"\x04", kind + ranges[:-1], kind + ranges + b"\0", b"\x00" + ranges,
                   kind + b"\x03" + ranges[1:], kind + b"\0" + ranges[1:]):  # fmt: skip
        damaged = autoencoder.pack(
            autoencoder.AutoencoderPayload(payload.header, payload.streams, payload.escapes, planes=planes)
        )
        with pytest.raises(CorruptionError):
            caecodec.decode(damaged)


def test_numcodecs_returns_what_was_given():
    codec = numcodecs.get_codec({"id": "caecodec_cae", "quality": 4, "channel_axis": None})
    array = counts(5)
    out = np.empty_like(array)
    codec.decode(codec.encode(array), out=out)
    assert psnr(array, out) > 28
