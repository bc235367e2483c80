"""Entropy model 1: round trips, exactness, damage, tables that no encoder can use, fitting, and the option everywhere."""

import dataclasses
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from helpers.images import random_image
from helpers.networks import seeded_context
from helpers.paths import TINY, TINY_CONTEXT
from hypothesis import given
from hypothesis import strategies as st

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder, varint
from caecodec.entropy import context, context_compiled, context_numpy, static, streams
from caecodec.entropy.context_tables import LEFT, MAGNITUDES, NONE, UP
from caecodec.errors import CorruptionError, WeightsError

TABLES = seeded_context(0)
CHANNELS = len(TABLES.order)


@pytest.fixture(autouse=True, scope="module", params=[True, False], ids=["compiled", "numpy"])
def compiled(request):
    """Every test runs with the compiled coder, and again without it."""
    with mock.patch.object(context_compiled, "available", return_value=request.param):
        yield


def random_symbols(seed, shape, spread):
    """Mostly small symbols, some up to the spread, and now and then channels of zeros."""
    rng = np.random.default_rng(seed)
    symbols = np.round(rng.laplace(size=shape) * rng.choice([0.1, 1, spread / 4], shape)).astype(np.int64)
    symbols *= rng.random(shape[1])[:, None, None] < 0.8
    return np.clip(symbols, -spread, spread).astype(np.int32)


@given(
    st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32),
    st.sampled_from([0, 1, 5, 40, 3000, 2**23]),
)  # fmt: skip
def test_round_trip(n, rows, columns, seed, spread):
    tables = seeded_context(seed % 1000)
    symbols = random_symbols(seed, (n, CHANNELS, rows, columns), spread)
    np.testing.assert_array_equal(context.MODEL.decode(context.MODEL.encode(symbols, tables), tables, symbols.shape), symbols)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("shape", [(1, CHANNELS, 1, 1), (2, CHANNELS, 3, 5), (1, CHANNELS, 66, 130)])
def test_extreme_symbols(shape, sign):
    checkered = np.indices(shape).sum(axis=0) % 2 * 2 - 1
    for symbols in (np.full(shape, sign * 2**24), sign * 2**24 * checkered):
        coded = context.MODEL.encode(symbols.astype(np.int32), TABLES)
        np.testing.assert_array_equal(context.MODEL.decode(coded, TABLES, shape), symbols)


@pytest.mark.parametrize(("channels", "classes", "count"), [(1, 1, 1), (1, 3, 2), (17, 256, 256), (320, 32, 128)])
def test_any_size_of_tables(channels, classes, count):
    tables = seeded_context(3, channels, classes, count, reach=9)
    symbols = random_symbols(1, (2, channels, 5, 6), 12)
    np.testing.assert_array_equal(context.MODEL.decode(context.MODEL.encode(symbols, tables), tables, symbols.shape), symbols)


def test_all_zero_is_one_byte():
    symbols = np.zeros((1, CHANNELS, 16, 16), np.int32)
    assert context.MODEL.encode(symbols, TABLES) == (((b""),), b"\0")


@pytest.mark.parametrize("kind", [NONE, LEFT, UP])
def test_differences(kind):
    """By the formulas of FORMAT.md, 7, one position after the other."""
    y = np.random.default_rng(0).integers(-9, 9, (2, 4, 5)).astype(np.int32)
    s = context_numpy.difference(y, kind)
    for image, i, k in np.ndindex(y.shape):
        if kind == NONE or (i == 0 and k == 0):
            before = 0
        elif (kind == LEFT and k) or (kind == UP and not i):
            before = y[image, i, k - 1]
        else:
            before = y[image, i - 1, k]
        assert s[image, i, k] == y[image, i, k] - before
    np.testing.assert_array_equal(context_numpy.integrate(s, kind), y)


@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 4, 7), (2, 1, 9), (1, 64, 64), (1, 65, 3), (2, 70, 80)])
def test_3x3_sums(shape):
    a = np.random.default_rng(0).integers(0, 9, shape)
    padded = np.pad(a, ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = sum(padded[:, i : i + shape[1], k : k + shape[2]] for i in range(3) for k in range(3))
    np.testing.assert_array_equal(context_numpy.box(a.astype(np.float32)), expected)


@pytest.mark.parametrize("positions", [1, 100, 1000])
def test_predictions_are_exact(positions):
    """float32 and int64 agree for 320 channels of the largest features and weights."""
    channels = 320
    rng = np.random.default_rng(positions)
    tables = seeded_context(0, channels)
    known = np.empty((2 * channels, positions), np.uint8)
    known[0::2], known[1::2] = rng.integers(6, 9, (channels, positions)), rng.integers(60, 73, (channels, positions))
    for weight in (tables.weight, np.full_like(tables.weight, 127), np.full_like(tables.weight, -128)):
        some = dataclasses.replace(tables, weight=weight)
        exact = some.predictor.astype(np.int64) @ known.astype(np.int64)
        np.testing.assert_array_equal(context_numpy.predict(some.predictor, known), exact)


def test_shipped_weights_are_exact_on_their_largest_features():
    for source in weights.installed():
        for quality in source.qualities:
            found = weights.load(source, quality).tables
            of_layers = found.get("layers")
            for tables in [of_layers.base, *of_layers.refinements] if of_layers else [found["context"]]:
                known = np.tile(np.array([[8], [72]], np.uint8), (tables.predictor.shape[1] // 2, 5))
                exact = tables.predictor.astype(np.int64) @ known.astype(np.int64)
                np.testing.assert_array_equal(context_numpy.predict(tables.predictor, known), exact)


def test_context_tables_are_a_small_part_of_their_file():
    for source in weights.installed():
        stored = weights.read_tensors(source)
        context_bytes = sum(tensor.nbytes for name, tensor in stored.items() if ".context." in name)
        assert context_bytes <= 0.15 * source.location.stat().st_size


def test_magnitudes_of_indices():
    assert MAGNITUDES[:8].tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert MAGNITUDES.max() == 8


def test_images_of_a_batch_are_independent():
    """What comes before or after an image changes no class of it, so its ideal length is its own."""
    symbols = random_symbols(5, (4, CHANNELS, 6, 7), 9)
    alone = sum(context.MODEL.code_length(image[None], TABLES) for image in symbols)
    assert context.MODEL.code_length(symbols, TABLES) == pytest.approx(alone)


def test_several_bands():
    symbols = random_symbols(6, (3, CHANNELS, 40, 70), 5)
    coded = context.MODEL.encode(symbols, TABLES)
    assert len(coded.streams) == 3
    np.testing.assert_array_equal(context.MODEL.decode(coded, TABLES, symbols.shape), symbols)


def test_length_is_near_the_ideal():
    tables = dataclasses.replace(TABLES, radius=np.full_like(TABLES.radius, TABLES.mass.shape[1] - 2))
    symbols = np.clip(random_symbols(7, (1, CHANNELS, 64, 64), 3), -3, 3)
    coded = context.MODEL.encode(symbols, tables)
    assert 8 * sum(map(len, coded.streams)) <= 1.01 * context.MODEL.code_length(symbols, tables)
    assert len(coded.escapes) == 1


def coded_symbols(shape=(1, CHANNELS, 8, 8)):
    return context.MODEL.encode(random_symbols(8, shape, 30), TABLES), shape


def test_streams_that_disagree_with_the_geometry():
    coded, shape = coded_symbols()
    with pytest.raises(CorruptionError, match="streams"):
        context.MODEL.decode(coded._replace(streams=coded.streams * 2), TABLES, shape)
    with pytest.raises(CorruptionError, match="more than its symbols"):
        context.MODEL.decode(streams.CodedSymbols((bytes(range(1, 101)),), coded.escapes), TABLES, shape)
    with pytest.raises(CorruptionError, match="zero word"):
        context.MODEL.decode(streams.CodedSymbols((bytes(8),), coded.escapes), TABLES, shape)
    for stream in (coded.streams[0][:-4], coded.streams[0][4:], b"", coded.streams[0] * 2):
        with pytest.raises(CorruptionError):
            context.MODEL.decode(coded._replace(streams=(stream,)), TABLES, shape)


@pytest.mark.parametrize(("escapes", "match"), [
    (b"", "no valid integer"), (b"\x80", "no valid integer"),
    (varint.pack(CHANNELS + 1), "13 channels but the weights have 12"),
    (varint.pack(2**32 - 1), "channels but the weights have 12"), (varint.pack(CHANNELS), "escape list holds 0 values"),
])  # fmt: skip
def test_wrong_counts(escapes, match):
    coded, shape = coded_symbols()
    with pytest.raises(CorruptionError, match=match):
        context.MODEL.decode(coded._replace(escapes=escapes), TABLES, shape)


def test_fewer_or_more_channels_than_coded():
    coded, shape = coded_symbols()
    count, position = varint.unpack(coded.escapes, 0)
    for wrong in range(count):
        with pytest.raises(CorruptionError):
            context.MODEL.decode(coded._replace(escapes=varint.pack(wrong) + coded.escapes[position:]), TABLES, shape)


def test_sums_beyond_any_symbol():
    """Differences that are each within reach but add up to more than a symbol can be."""
    tables = dataclasses.replace(TABLES, difference=np.full(CHANNELS, LEFT))
    symbols = np.cumsum(np.full((1, CHANNELS, 4, 4), 2**23), axis=3).astype(np.int32)
    coded = context.MODEL.encode(symbols, tables)
    with pytest.raises(CorruptionError, match="beyond"):
        context.MODEL.decode(coded, tables, symbols.shape)
    count, position = varint.unpack(coded.escapes, 0)
    listed = sum(byte < 0x80 for byte in coded.escapes[position:])
    huge = varint.pack(count) + b"\xff\xff\xff\xff\x0f" * listed
    with pytest.raises(CorruptionError, match="beyond"):
        context.MODEL.decode(coded._replace(escapes=huge), tables, symbols.shape)


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_random_streams(stream, escapes, n, rows, columns):
    """Symbols of the shape that was asked for, or CorruptionError."""
    shape = (n, CHANNELS, rows, columns)
    whole = stream[: len(stream) // 4 * 4]
    try:
        symbols = context.MODEL.decode(streams.CodedSymbols((whole,), escapes), TABLES, shape)
    except CorruptionError:
        return
    assert symbols.shape == shape
    assert context.MODEL.encode(symbols, TABLES).streams == (whole,)


@given(st.data())
def test_changed_bytes(data):
    coded, shape = coded_symbols()
    parts = [bytearray(coded.streams[0]), bytearray(coded.escapes)]
    for _ in range(data.draw(st.integers(1, 3))):
        part = parts[data.draw(st.integers(0, 1))]
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    try:
        symbols = context.MODEL.decode(streams.CodedSymbols((bytes(parts[0]),), bytes(parts[1])), TABLES, shape)
    except CorruptionError:
        return
    assert np.abs(symbols.astype(np.int64)).max() <= streams.MAX_SYMBOL


def test_huge_geometry_is_refused_before_it_is_allocated():
    tracemalloc.start()
    with pytest.raises(CorruptionError, match="streams"):
        context.MODEL.decode(streams.CodedSymbols((b"\1\2\3\4",), b"\1"), TABLES, (1, CHANNELS, 20000, 20000))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(("changes", "match"), [
    ({"order": np.arange(CHANNELS) // 2}, "order"),
    ({"difference": np.full(CHANNELS, 3)}, "difference"),
    ({"radius": np.full(CHANNELS, 8)}, "radius"),
    ({"radius": np.full(CHANNELS, -1)}, "radius"),
    ({"weight": np.full_like(TABLES.weight, 2**20)}, "weight"),
    ({"threshold": TABLES.threshold[:, ::-1]}, "threshold"),
    ({"threshold": np.full_like(TABLES.threshold, 2**24)}, "threshold"),
    ({"table": np.full_like(TABLES.table, 6)}, "table"),
    ({"mass": TABLES.mass + 1}, "mass"),
    ({"mass": np.where(np.arange(9) == 8, 0, TABLES.mass)}, "mass"),
    ({"weight": TABLES.weight[1:]}, "shapes"),
    ({"table": TABLES.table[:, 1:]}, "shapes"),
    ({"threshold": TABLES.threshold[1:]}, "shapes"),
    ({"mass": TABLES.mass[0]}, "shapes"),
    ({"radius": TABLES.radius[1:]}, "shapes"),
    ({"order": np.zeros(0, np.int64)}, "shapes"),
])  # fmt: skip
def test_impossible_tables(changes, match):
    with pytest.raises(WeightsError, match=match):
        dataclasses.replace(TABLES, **changes)


def test_weights_too_large_for_float32():
    channels = 1000
    with pytest.raises(WeightsError, match="values of weight that"):
        dataclasses.replace(seeded_context(0, channels), weight=np.full(channels * (channels - 1), 127))


def test_golden_weights_exercise_every_part():
    """The golden payloads are of weights with both differences, escapes, and channels that are not coded."""
    for quality in (1, 4):
        tables = weights.load(weights.open_file(TINY_CONTEXT, "mse", quality), quality).tables["context"]
        assert {LEFT, UP, NONE} <= set(tables.difference[:-2].tolist())
    for name, bands in (("yxc", 1), ("batch", 1), ("several-streams", 2)):
        payload = autoencoder.parse(TINY_CONTEXT.with_name(f"v1-context-{name}.cae").read_bytes())
        assert payload.escapes[0] == 10
        assert len(payload.escapes) > 1
        assert len(payload.streams) == bands


def test_static_and_context_are_the_same_pixels():
    array = random_image(3, 60, 90, 3)
    payloads = [caecodec.encode(array, 4, weights=TINY_CONTEXT, entropy=entropy) for entropy in (None, "context", "static")]
    assert payloads[0] == payloads[1] != payloads[2]
    assert [autoencoder.parse(payload).header.entropy for payload in payloads] == ["context", "context", "static"]
    decoded = [caecodec.decode(payload, weights=TINY_CONTEXT) for payload in payloads]
    np.testing.assert_array_equal(decoded[0], decoded[2])


def test_weights_without_context():
    array = random_image(20, 30, 3)
    payload = caecodec.encode(array, 4, weights=TINY)
    assert autoencoder.parse(payload).header.entropy == "static"
    assert caecodec.encode(array, 4, weights=TINY, entropy="static") == payload
    for make in (
        lambda: caecodec.encode(array, 4, weights=TINY, entropy="context"),
        lambda: caecodec.ConvolutionalAutoencoder(4, weights=TINY, entropy="context"),
        lambda: caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY, entropy="context"),
        lambda: caecodec.ngff.Options(4, weights=TINY, entropy="context"),
    ):
        with pytest.raises(caecodec.WeightsError, match="no context tables; run caecodec fit-entropy"):
            make()


def test_a_payload_that_claims_context_tables(tiny):
    payload = autoencoder.parse(caecodec.encode(random_image(20, 30, 3), 4, weights=TINY))
    forged = dataclasses.replace(payload, header=dataclasses.replace(payload.header, entropy="context"))
    with pytest.raises(CorruptionError, match="no context tables"):
        caecodec.decode(autoencoder.pack(forged))


def test_entropy_is_stored_where_it_is_given():
    for surface in (caecodec.ConvolutionalAutoencoder, caecodec.zarr.ConvolutionalAutoencoder):
        for entropy in ("static", "context"):
            codec = surface(4, weights=TINY_CONTEXT, entropy=entropy)
            assert codec.parameters.config()["entropy"] == entropy
            assert f"entropy={entropy!r}" in repr(codec)
        assert "entropy" not in surface(4, weights=TINY_CONTEXT).parameters.config()
    codec = caecodec.ConvolutionalAutoencoder(4, entropy="static")
    config = codec.get_config()
    config.pop("id")
    again = caecodec.ConvolutionalAutoencoder(**config)
    array = random_image(20, 30, 3)
    assert again.encode(array) == codec.encode(array) == caecodec.encode(array, 4, entropy="static")


@pytest.mark.parametrize("entropy", ["ans", "", 1, True])
def test_unknown_entropy_model(entropy):
    with pytest.raises(caecodec.ParameterError, match=r"entropy is .* must be 'binary-context', 'context', 'static'"):
        caecodec.ConvolutionalAutoencoder(4, weights=TINY, entropy=entropy)


def test_shipped_weights_save_bytes(photograph):
    for quality in (1, 2, 3, 4, 5):
        payloads = [caecodec.encode(photograph, quality, entropy=entropy) for entropy in (None, "static")]
        assert len(payloads[0]) < 0.85 * len(payloads[1])


def test_tables_of_other_channels(tmp_path):
    tensors = weights.read_tensors(weights.open_file(TINY_CONTEXT, "mse", 4))
    tensors.update(context.MODEL.store(seeded_context(0, 13), 4))
    path = tmp_path / "wrong.safetensors"
    source = weights.save(path, tensors, name="wrong", family="cae", metric="mse", qualities=(1, 4))
    with pytest.raises(WeightsError, match="13 channels"):
        weights.load(source, 4)


def test_static_model_gives_the_same_symbols():
    network = weights.load(weights.open_file(TINY_CONTEXT, "mse", 4), 4)
    symbols = random_symbols(9, (2, CHANNELS, 20, 30), 50)
    for coder, tables in ((static.MODEL, network.tables["static"]), (context.MODEL, network.tables["context"])):
        np.testing.assert_array_equal(coder.decode(coder.encode(symbols, tables), tables, symbols.shape), symbols)
