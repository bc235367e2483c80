"""max_error: a bound on the error of every value, whatever device, threads and precision decode it."""

import json

import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.images import counts, random_image
from helpers.paths import TINY, TINY_CONTEXT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import caecodec
from caecodec.bitstream import autoencoder, framing
from caecodec.bitstream.codings import Body
from caecodec.errors import CaeCodecError, CorruptionError, ParameterError

DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


def worst(decoded, array):
    """The largest error, exact."""
    return (
        max(abs(int(a) - int(b)) for a, b in zip(decoded.ravel(), array.ravel(), strict=True))
        if array.dtype.kind != "f"
        else (np.abs(decoded.astype(np.longdouble) - array.astype(np.longdouble)).max())
    )


@pytest.mark.parametrize("error", [0, 1, 2, 4, 8, 300])
@pytest.mark.parametrize("quality", [None, 1, 4])
def test_every_value_is_within_the_bound(photograph, error, quality):
    chunk = photograph[100:180, 200:304]
    payload = caecodec.encode(chunk, quality=quality, max_error=error)
    assert autoencoder.parse(payload).header.body is Body.BOUNDED
    decoded = caecodec.decode(payload)
    assert worst(decoded, chunk) <= error
    assert len(payload) < chunk.nbytes


def test_a_looser_bound_takes_fewer_bytes(photograph):
    sizes = [len(caecodec.encode(photograph[:128, :128], max_error=error)) for error in (0, 1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [None, 2, 3])
def test_every_dtype(dtype, channels):
    planes = np.stack([counts(i, 40, 56) for i in range(channels or 1)], axis=-1)
    array = (planes if channels else planes[..., 0]) // 256 if dtype == "uint8" else planes if channels else planes[..., 0]
    array = array.astype(dtype) / (7 if dtype.startswith("f") else 1)
    array = array.astype(dtype)
    for error in (0, 1, 10):
        bound = error / 7 if dtype.startswith("f") else error
        for quality in (None, 3):
            payload = caecodec.encode(array, quality=quality, channel_axis=-1 if channels else None, max_error=bound)
            decoded = caecodec.decode(payload)
            assert decoded.dtype == array.dtype
            assert worst(decoded, array) <= bound


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda name: npst.arrays(
            name, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
            elements=npst.from_dtype(np.dtype(name), allow_nan=False, allow_infinity=False),
        )
    ),
    st.sampled_from([0, 0.3, 1, 7, 1e4, 1e-30]),
    st.booleans(),
)  # fmt: skip
def test_any_values(array, error, network):
    options = {"quality": 4} if network else {}
    payload = caecodec.encode(array, max_error=error, weights=TINY, **options)
    decoded = caecodec.decode(payload, weights=TINY)
    assert decoded.shape == array.shape
    assert worst(decoded, array) <= error


def test_lossless_means_every_bit():
    array = np.array([[0.0, -0.0, 1e-310], [5e-324, -1e308, 1e308]])
    decoded = caecodec.decode(caecodec.encode(array, channel_axis=None, max_error=0))
    assert decoded.tobytes() == array.tobytes()


def test_other_threads_precision_batches_and_layouts(photograph, tmp_path):
    """A payload decodes to the same bytes whatever the run-time settings are."""
    chunk = photograph[100:228, 200:360]
    names = {}
    for error in (8, 16):
        payload = caecodec.encode(chunk, quality=4, max_error=error)
        assert autoencoder.parse(payload).bound_kind.entropy is not None
        path = tmp_path / f"{error}.cae"
        path.write_bytes(payload)
        decoded = caecodec.decode(payload)
        assert worst(decoded, chunk) <= error
        names[str(path)] = [error, decoded.tobytes().hex()]
    (tmp_path / "expected.json").write_text(json.dumps(names))
    script = (
        "import json, sys, caecodec, numpy as np\n"
        "for path, (error, expected) in json.load(open(sys.argv[1])).items():\n"
        "    payload = open(path, 'rb').read()\n"
        "    for options in ({'threads': 1}, {'threads': 3}, {'precision': 'bf16'}, {'memory': '16M'}, {'max_batch': 1}):\n"
        "        with caecodec.settings.using(**options):\n"
        "            assert caecodec.decode(payload).tobytes().hex() == expected, options\n"
        "print('same')\n"
    )
    assert processes.run("-c", script, tmp_path / "expected.json").stdout == "same\n"


def test_a_batch_is_its_images(photograph):
    array = np.stack([photograph[i : i + 40, :56] for i in range(4)])
    batch = caecodec.decode(caecodec.encode(array, quality=3, max_error=2))
    assert worst(batch, array) <= 2


def test_bounds_do_not_need_a_network_where_it_does_not_help():
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64), np.uint16)
    payload = caecodec.encode(noise, channel_axis=None, max_error=0, quality=4)
    assert len(payload) < 1.02 * noise.nbytes + 100
    np.testing.assert_array_equal(caecodec.decode(payload), noise)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays(tmp_path, zarr_format):
    data = counts(1)
    options = {"channel_axis": None, "max_error": 5}
    if zarr_format == 2:
        codec = {"compressors": caecodec.ConvolutionalAutoencoder(**options), "zarr_format": 2}
    else:
        codec = {"serializer": caecodec.zarr.ConvolutionalAutoencoder(**options), "compressors": None}
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(64, 64), **codec)
    assert worst(zarr.open_array(tmp_path / "a.zarr")[...], data) <= 5


def test_a_bound_needs_no_weights_at_all(photograph, monkeypatch, tmp_path):
    """What was coded without a network is read without its weights."""
    payload = caecodec.encode(photograph[:64, :64], max_error=1, weights=TINY)
    assert worst(caecodec.decode(payload), photograph[:64, :64]) <= 1


@pytest.mark.parametrize("weights", [TINY, TINY_CONTEXT])
def test_damage(weights):
    """Forged payloads raise CaeCodecError or give an array of the right shape."""
    rng = np.random.default_rng(0)
    chunk = random_image(20, 24, 3)
    for options in ({"quality": 4}, {}):
        body = bytearray(caecodec.encode(chunk, max_error=1, weights=weights, **options)[:-4])
        for _ in range(60):
            forged = bytearray(body)
            forged[rng.integers(11, len(forged))] ^= 1 << rng.integers(8)
            data = framing.seal(bytes(forged))
            try:
                decoded = caecodec.decode(data, weights=weights, expected_shape=chunk.shape)
            except CaeCodecError:
                continue
            assert decoded.shape == chunk.shape
        for size in range(11, len(body), 7):
            with pytest.raises(CaeCodecError):
                caecodec.decode(framing.seal(bytes(body[:size])), weights=weights)


def test_what_no_bound_can_be():
    with pytest.raises(ParameterError, match="max_error"):
        caecodec.encode(random_image(16, 16, 3), max_error=-1)
    with pytest.raises(CorruptionError):
        caecodec.decode(b"\xca\xec\x02")
