"""Entropy model 1: round trips, exactness, damage, tables that no encoder can use, fitting, and the option everywhere."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from conftest import TINY, TINY_CONTEXT, random_image, save_seeded, seeded_context
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import caecodec
from caecodec import weights, weights_file
from caecodec.bitstream import container, varint
from caecodec.bitstream.header import CODING_CONTEXT, CODING_STATIC
from caecodec.cli.main import main
from caecodec.entropy import context, static, streams
from caecodec.entropy.context_tables import LEFT, MAGNITUDES, NONE, UP, ContextTables
from caecodec.entropy.tables import TOTAL
from caecodec.errors import CorruptionError, WeightsError
from caecodec.training import context as fitting

TABLES = seeded_context(0)
CHANNELS = len(TABLES.order)


def random_symbols(seed, shape, spread):
    """Mostly small symbols, some up to the spread, and now and then channels of zeros."""
    rng = np.random.default_rng(seed)
    symbols = np.round(rng.laplace(size=shape) * rng.choice([0.1, 1, spread / 4], shape)).astype(np.int64)
    symbols *= rng.random(shape[1])[:, None, None] < 0.8
    return np.clip(symbols, -spread, spread).astype(np.int32)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32),
    st.sampled_from([0, 1, 5, 40, 3000, 2**23]),
)  # fmt: skip
def test_round_trip(n, rows, columns, seed, spread):
    tables = seeded_context(seed % 1000)
    symbols = random_symbols(seed, (n, CHANNELS, rows, columns), spread)
    np.testing.assert_array_equal(context.decode(context.encode(symbols, tables), tables, symbols.shape), symbols)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("shape", [(1, CHANNELS, 1, 1), (2, CHANNELS, 3, 5), (1, CHANNELS, 66, 130)])
def test_extreme_symbols(shape, sign):
    checkered = np.indices(shape).sum(axis=0) % 2 * 2 - 1
    for symbols in (np.full(shape, sign * 2**24), sign * 2**24 * checkered):
        coded = context.encode(symbols.astype(np.int32), TABLES)
        np.testing.assert_array_equal(context.decode(coded, TABLES, shape), symbols)


@pytest.mark.parametrize(("channels", "classes", "count"), [(1, 1, 1), (1, 3, 2), (17, 256, 256), (320, 32, 128)])
def test_any_size_of_tables(channels, classes, count):
    tables = seeded_context(3, channels, classes, count, reach=9)
    symbols = random_symbols(1, (2, channels, 5, 6), 12)
    np.testing.assert_array_equal(context.decode(context.encode(symbols, tables), tables, symbols.shape), symbols)


def test_all_zero_is_one_byte():
    symbols = np.zeros((1, CHANNELS, 16, 16), np.int32)
    assert context.encode(symbols, TABLES) == (((b""),), b"\0")


@pytest.mark.parametrize("kind", [NONE, LEFT, UP])
def test_differences(kind):
    """By the formulas of FORMAT.md, 7, one position after the other."""
    y = np.random.default_rng(0).integers(-9, 9, (2, 4, 5)).astype(np.int32)
    s = context.difference(y, kind)
    for image, i, k in np.ndindex(y.shape):
        if kind == NONE or (i == 0 and k == 0):
            before = 0
        elif (kind == LEFT and k) or (kind == UP and not i):
            before = y[image, i, k - 1]
        else:
            before = y[image, i - 1, k]
        assert s[image, i, k] == y[image, i, k] - before
    np.testing.assert_array_equal(context.integrate(s, kind), y)


@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 4, 7), (2, 1, 9), (1, 64, 64), (1, 65, 3), (2, 70, 80)])
def test_3x3_sums(shape):
    a = np.random.default_rng(0).integers(0, 9, shape)
    padded = np.pad(a, ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = sum(padded[:, i : i + shape[1], k : k + shape[2]] for i in range(3) for k in range(3))
    np.testing.assert_array_equal(context.box(a.astype(np.float32)), expected)


@pytest.mark.parametrize("positions", [1, 100, 3000])
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
        np.testing.assert_array_equal(context.predict(some.predictor, known), exact)


def test_shipped_weights_are_exact_on_their_largest_features():
    for source in weights.installed():
        for quality in source.qualities:
            tables = weights.load(source, quality).context
            assert tables is not None
            known = np.tile(np.array([[8], [72]], np.uint8), (len(tables.order), 5))
            exact = tables.predictor.astype(np.int64) @ known.astype(np.int64)
            np.testing.assert_array_equal(context.predict(tables.predictor, known), exact)


def test_context_tables_are_a_tenth_of_their_file_at_most():
    for source in weights.installed():
        stored = weights.read_tensors(source)
        context_bytes = sum(tensor.nbytes for name, tensor in stored.items() if ".context." in name)
        assert context_bytes <= 0.1 * source.location.stat().st_size


def test_magnitudes_of_indices():
    assert MAGNITUDES[:8].tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert MAGNITUDES.max() == 8


def test_images_of_a_batch_are_independent():
    """What comes before or after an image changes no class of it, so its ideal length is its own."""
    symbols = random_symbols(5, (4, CHANNELS, 6, 7), 9)
    alone = sum(context.code_length(image[None], TABLES) for image in symbols)
    assert context.code_length(symbols, TABLES) == pytest.approx(alone)


def test_several_bands():
    symbols = random_symbols(6, (3, CHANNELS, 40, 70), 5)
    coded = context.encode(symbols, TABLES)
    assert len(coded.streams) == 3
    np.testing.assert_array_equal(context.decode(coded, TABLES, symbols.shape), symbols)


def test_length_is_near_the_ideal():
    tables = dataclasses.replace(TABLES, radius=np.full_like(TABLES.radius, TABLES.mass.shape[1] - 2))
    symbols = np.clip(random_symbols(7, (1, CHANNELS, 64, 64), 3), -3, 3)
    coded = context.encode(symbols, tables)
    assert 8 * sum(map(len, coded.streams)) <= 1.01 * context.code_length(symbols, tables)
    assert len(coded.escapes) == 1


def coded_symbols(shape=(1, CHANNELS, 8, 8)):
    return context.encode(random_symbols(8, shape, 30), TABLES), shape


def test_streams_that_disagree_with_the_geometry():
    coded, shape = coded_symbols()
    with pytest.raises(CorruptionError, match="streams"):
        context.decode(coded._replace(streams=coded.streams * 2), TABLES, shape)
    with pytest.raises(CorruptionError, match="more than its symbols"):
        context.decode(streams.Coded((bytes(range(1, 101)),), coded.escapes), TABLES, shape)
    with pytest.raises(CorruptionError, match="zero word"):
        context.decode(streams.Coded((bytes(8),), coded.escapes), TABLES, shape)
    for stream in (coded.streams[0][:-4], coded.streams[0][4:], b"", coded.streams[0] * 2):
        with pytest.raises(CorruptionError):
            context.decode(coded._replace(streams=(stream,)), TABLES, shape)


@pytest.mark.parametrize(("escapes", "match"), [
    (b"", "no valid integer"), (b"\x80", "no valid integer"), (varint.pack(CHANNELS + 1), "13 channels of 12"),
    (varint.pack(2**32 - 1), "channels of 12"), (varint.pack(CHANNELS), "escape list holds 0 values"),
])  # fmt: skip
def test_wrong_counts(escapes, match):
    coded, shape = coded_symbols()
    with pytest.raises(CorruptionError, match=match):
        context.decode(coded._replace(escapes=escapes), TABLES, shape)


def test_fewer_or_more_channels_than_coded():
    coded, shape = coded_symbols()
    count, position = varint.unpack(coded.escapes, 0)
    for wrong in range(count):
        with pytest.raises(CorruptionError):
            context.decode(coded._replace(escapes=varint.pack(wrong) + coded.escapes[position:]), TABLES, shape)


def test_sums_beyond_any_symbol():
    """Differences that are each within reach but add up to more than a symbol can be."""
    tables = dataclasses.replace(TABLES, difference=np.full(CHANNELS, LEFT))
    symbols = np.cumsum(np.full((1, CHANNELS, 4, 4), 2**23), axis=3).astype(np.int32)
    coded = context.encode(symbols, tables)
    with pytest.raises(CorruptionError, match="beyond"):
        context.decode(coded, tables, symbols.shape)
    count, position = varint.unpack(coded.escapes, 0)
    listed = sum(byte < 0x80 for byte in coded.escapes[position:])
    huge = varint.pack(count) + b"\xff\xff\xff\xff\x0f" * listed
    with pytest.raises(CorruptionError, match="beyond"):
        context.decode(coded._replace(escapes=huge), tables, symbols.shape)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_random_streams(stream, escapes, n, rows, columns):
    """Symbols of the shape that was asked for, or CorruptionError."""
    shape = (n, CHANNELS, rows, columns)
    whole = stream[: len(stream) // 4 * 4]
    try:
        symbols = context.decode(streams.Coded((whole,), escapes), TABLES, shape)
    except CorruptionError:
        return
    assert symbols.shape == shape
    assert context.encode(symbols, TABLES).streams == (whole,)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_bytes(data):
    coded, shape = coded_symbols()
    parts = [bytearray(coded.streams[0]), bytearray(coded.escapes)]
    for _ in range(data.draw(st.integers(1, 3))):
        part = parts[data.draw(st.integers(0, 1))]
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    try:
        symbols = context.decode(streams.Coded((bytes(parts[0]),), bytes(parts[1])), TABLES, shape)
    except CorruptionError:
        return
    assert np.abs(symbols.astype(np.int64)).max() <= streams.MAX_SYMBOL


def test_huge_geometry_is_refused_before_it_is_allocated():
    tracemalloc.start()
    with pytest.raises(CorruptionError, match="streams"):
        context.decode(streams.Coded((b"\1\2\3\4",), b"\1"), TABLES, (1, CHANNELS, 20000, 20000))
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
        tables = weights.load(weights.open_file(TINY_CONTEXT, "mse", quality), quality).context
        assert {LEFT, UP, NONE} <= set(tables.difference[:-2].tolist())
    for name, bands in (("yxc", 1), ("batch", 1), ("several-streams", 2)):
        payload = container.parse(TINY_CONTEXT.with_name(f"v1-context-{name}.cae").read_bytes())
        assert payload.escapes[0] == 10
        assert len(payload.escapes) > 1
        assert len(payload.streams) == bands


def test_static_and_context_are_the_same_pixels():
    array = random_image(3, 60, 90, 3)
    payloads = [caecodec.encode(array, 4, weights=TINY_CONTEXT, entropy=entropy) for entropy in (None, "context", "static")]
    assert payloads[0] == payloads[1] != payloads[2]
    assert [container.parse(payload).header.coding for payload in payloads] == [CODING_CONTEXT, CODING_CONTEXT, CODING_STATIC]
    decoded = [caecodec.decode(payload, weights=TINY_CONTEXT) for payload in payloads]
    np.testing.assert_array_equal(decoded[0], decoded[2])


def test_weights_without_context():
    array = random_image(20, 30, 3)
    payload = caecodec.encode(array, 4, weights=TINY)
    assert container.parse(payload).header.coding == CODING_STATIC
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
    payload = container.parse(caecodec.encode(random_image(20, 30, 3), 4, weights=TINY))
    forged = dataclasses.replace(payload, header=dataclasses.replace(payload.header, coding=CODING_CONTEXT))
    with pytest.raises(CorruptionError, match="no context tables"):
        caecodec.decode(container.pack(forged))


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
    with pytest.raises(caecodec.ParameterError, match=r"entropy is .* must be 'context', 'static'"):
        caecodec.ConvolutionalAutoencoder(4, weights=TINY, entropy=entropy)


def test_shipped_weights_save_bytes(photograph):
    for quality in (1, 2, 3, 4, 5):
        payloads = [caecodec.encode(photograph, quality, entropy=entropy) for entropy in (None, "static")]
        assert len(payloads[0]) < 0.85 * len(payloads[1])


def test_tables_of_other_channels(tmp_path):
    tensors = weights.read_tensors(weights.open_file(TINY_CONTEXT, "mse", 4))
    tensors.update(weights_file.context_tensors(seeded_context(0, 13), 4))
    path = tmp_path / "wrong.safetensors"
    source = weights.save(path, tensors, name="wrong", family="cae", metric="mse", qualities=(1, 4))
    with pytest.raises(WeightsError, match="13 channels"):
        weights.load(source, 4)


def related_symbols(seed, n=60, channels=12, side=16):
    """Channels whose scale follows a field that they share, and one that is smooth in space."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(n, 1, side // 4, side // 4))).repeat(4, axis=2).repeat(4, axis=3)
    symbols = np.round(rng.laplace(size=(n, channels, side, side)) * scale)
    symbols[:, 3] = np.round(np.cumsum(rng.normal(size=(n, side, side)), axis=1) * 3)
    return symbols.astype(np.int16)


def test_fitting_gains():
    tables = fitting.fit(related_symbols(0), classes=8, tables=16, reach=20)
    assert tables.mass.shape[0] == 16
    assert tables.threshold.shape == (12, 7)
    assert tables.difference[tables.order == 3] == UP
    flat = fitting.fit(related_symbols(0), classes=1, tables=12, reach=20)
    fresh = related_symbols(1).astype(np.int32)
    assert context.code_length(fresh, tables) < 0.95 * context.code_length(fresh, flat)
    np.testing.assert_array_equal(context.decode(context.encode(fresh, tables), tables, fresh.shape), fresh)


def test_fitting_to_next_to_nothing():
    for symbols in (np.zeros((1, 12, 1, 1), np.int16), np.full((2, 3, 4, 4), -700, np.int16)):
        tables = fitting.fit(symbols.copy())
        assert isinstance(tables, ContextTables)
        wide = symbols.astype(np.int32)
        np.testing.assert_array_equal(context.decode(context.encode(wide, tables), tables, wide.shape), wide)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(20):
        Image.fromarray(random_image(260, 300, 3, seed=number)).save(folder / f"{number:02}.png")
    return folder


def test_fit_entropy_command(folder, tmp_path, capsys):
    output = tmp_path / "fitted.safetensors"
    before = save_seeded(tmp_path / "plain.safetensors", seed=4)
    command = ["fit-entropy", str(before.location), str(folder), "-o", str(output), "--crops", "40"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split() == ["quality", "held-out", "crops", "static", "bytes", "context", "bytes", "saved"]
    for line, quality in zip(lines[1:3], (1, 4), strict=True):
        number, crops, static_bytes, context_bytes, saved, _ = line.split()
        assert (int(number), int(crops)) == (quality, 4)
        assert float(saved) == pytest.approx(100 * (1 - int(context_bytes) / int(static_bytes)), abs=0.06)
        assert int(context_bytes) < int(static_bytes)
        card = output.with_suffix(".md").read_text()
        assert f"| {quality} | {crops} | {static_bytes} | {context_bytes} | {saved} % |" in card
    assert before.name in card
    source = weights.open_file(output, "mse", 4)
    assert source.name == before.name
    assert source.sha256 in card
    assert weights.load(source, 1).context is not None
    array = random_image(64, 64, 3)
    fitted, plain = (caecodec.encode(array, 4, weights=path) for path in (output, before.location))
    np.testing.assert_array_equal(caecodec.decode(fitted, weights=output), caecodec.decode(plain, weights=before.location))
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert weights.open_file(output, "mse", 4).sha256 == source.sha256


def test_fit_entropy_for_a_compressai_checkpoint(folder, tmp_path, capsys):
    import torch

    from caecodec.models import compressai

    network = weights.load(weights.open_file(TINY, "mse", 4), 4)
    tables = static_tables_of_16_bits(network.latent)
    state = compressai.to_state_dict(network.tensors, *tables)
    torch.save({"state_dict": state}, tmp_path / "mine.pth.tar")
    command = ["fit-entropy", str(tmp_path / "mine.pth.tar"), str(folder), "-o", str(tmp_path / "mine.safetensors")]
    assert main(command) == 1
    assert "-q 1 to 8" in capsys.readouterr().err
    assert main([*command, "-q", "4", "--crops", "20"]) == 0
    source = weights.open_file(tmp_path / "mine.safetensors", "mse", 4)
    assert (source.name, source.qualities) == ("mine", (4,))
    assert weights.load(source, 4).context is not None


def test_export_fits_context_tables_too(folder, tmp_path):
    import torch

    widths, state = {"ga": (3, 8, 8, 8, 12), "gs": (12, 8, 8, 8, 3)}, {"fi.s": torch.zeros(1, 12)}
    torch.manual_seed(0)
    for name, channels in widths.items():
        for i in range(4):
            first, last = channels[i : i + 2]
            weight = 0.2 * torch.randn(last, first, 1, 1).repeat(1, 1, 5, 5)
            state[f"{name}.{i}.weight"] = weight if name == "ga" else weight.transpose(0, 1)
            state[f"{name}.{i}.bias"] = torch.zeros(last)
            state[f"f{name[1]}.{i}.s"] = state[f"f{name[1]}.{i}.b"] = torch.zeros(1, last)
            if i < 3:
                state[f"{name}n.{i}.beta"], state[f"{name}n.{i}.gamma"] = torch.ones(8), 0.1 * torch.eye(8)
    torch.save(state, tmp_path / "trained.pt")
    output = tmp_path / "trained.safetensors"
    assert main(["export", str(tmp_path / "trained.pt"), str(folder), "-o", str(output)]) == 0
    source = weights.open_file(output, "mse", 0)
    assert weights.load(source, source.qualities[0]).context is not None


def test_encode_command_takes_the_entropy_model(folder, tmp_path):
    image, payload = str(folder / "00.png"), tmp_path / "a.cae"
    command = ["encode", image, "-o", str(payload), "-q", "4", "--weights", str(TINY_CONTEXT), "--overwrite", "--quiet"]
    for options, coding in (([], CODING_CONTEXT), (["--entropy", "static"], CODING_STATIC)):
        assert main([*command, *options]) == 0
        assert container.parse(payload.read_bytes()).header.coding == coding


def static_tables_of_16_bits(channels):
    mass = np.tile([TOTAL // 4, TOTAL // 2, TOTAL // 8, TOTAL // 8], channels)
    return mass, np.full(channels, 4), np.full(channels, -1)


@pytest.mark.parametrize(("arguments", "match"), [
    (["none.safetensors", "."], "does not exist"), (["none.pth", ".", "-q", "4"], "does not exist"),
    ([str(TINY), "."], "fewer than 10 images"), ([str(TINY), ".", "-o", "x.bin"], "NAME.safetensors"),
])  # fmt: skip
def test_fit_entropy_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(tmp_path)
    assert main(["fit-entropy", "-o", "out.safetensors", *arguments]) == 1
    assert match in capsys.readouterr().err


def test_static_model_gives_the_same_symbols():
    network = weights.load(weights.open_file(TINY_CONTEXT, "mse", 4), 4)
    symbols = random_symbols(9, (2, CHANNELS, 20, 30), 50)
    for coder, tables in ((static, network.tables), (context, network.context)):
        np.testing.assert_array_equal(coder.decode(coder.encode(symbols, tables), tables, symbols.shape), symbols)
