"""Entropy model binary-context: round trips of any symbols, damage, hostile tables, and what a fit to images gains."""

import dataclasses
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
from helpers.networks import save_binary, seeded_binary_context
from helpers.paths import GOLDEN, TINY_BINARY, TINY_BINARY_CONTEXT
from helpers.training import photographs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder
from caecodec.cli.main import main
from caecodec.entropy import _coder, binary_context_compiled, binary_context_numpy, context_compiled, registry
from caecodec.entropy.binary_context import MODEL
from caecodec.entropy.binary_context_tables import BinaryContextTables, pack_pairs, unpack_pairs
from caecodec.entropy.streams import MAX_SYMBOL, CodedSymbols
from caecodec.errors import CorruptionError, WeightsError


@pytest.fixture(params=["compiled", "numpy"], autouse=True, scope="module")
def coder(request):
    """Both implementations do what these tests say."""
    with mock.patch.object(context_compiled, "available", return_value=request.param == "compiled"):
        yield request.param


CODED = (1, 0, 1, 1, 0)
TABLES = seeded_binary_context(1, CODED)


def pairs(rng, shape, coded=CODED):
    """Random symbols as a network with bits makes them."""
    return rng.choice([-2, -1, 1, 2], shape).astype(np.int32) * np.array(coded, np.int32)[:, None, None]


def test_two_bits_are_a_symbol():
    symbols = np.array([-2, -1, 1, 2], np.int8).reshape(1, 4, 1, 1)
    assert unpack_pairs(symbols).ravel().tolist() == [-1, -1, -1, 1, 1, -1, 1, 1]
    assert pack_pairs(unpack_pairs(symbols)).tolist() == symbols.tolist()


@given(st.data())
def test_any_symbols_come_back(data):
    """Pairs of bits take no escapes, and all else takes them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    coded = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=6).filter(any))
    taps, classes = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 7))
    tables = seeded_binary_context(int(rng.integers(1000)), coded, taps, classes)
    shape = (data.draw(st.integers(1, 3)), len(coded), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    symbols = pairs(rng, shape, coded)
    assert MODEL.encode(symbols, tables).escapes == b""
    for value in data.draw(st.lists(st.sampled_from([0, 1, -2, 3, -3, 127, MAX_SYMBOL, -MAX_SYMBOL]), max_size=9)):
        symbols[tuple(rng.integers(shape))] = value
    found = MODEL.decode(MODEL.encode(symbols, tables), tables, shape)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, symbols)


def test_symbols_of_another_network():
    symbols = np.random.default_rng(0).integers(-300, 300, (2, 5, 3, 4)).astype(np.int32)
    np.testing.assert_array_equal(MODEL.decode(MODEL.encode(symbols, TABLES), TABLES, symbols.shape), symbols)


def test_the_length_is_that_of_the_probabilities():
    """Without taps, each bit has the mass of one class."""
    empty = np.zeros((6, 0), np.int64)
    mass = np.full((6, 1), 2**24 // 8)
    tables = BinaryContextTables(np.array(CODED), empty, empty, empty, np.zeros(6, np.int64), mass)
    symbols = pairs(np.random.default_rng(2), (1, 5, 40, 40))
    ones = np.count_nonzero(unpack_pairs(symbols[:, np.array(CODED) > 0].astype(np.int8)) > 0)
    expected = 3 * ones + np.log2(8 / 7) * (6 * 1600 - ones)
    assert expected <= MODEL.code_length(symbols, tables) <= expected + 64


def test_a_tap_tells_a_bit():
    """A bit that equals the one to its left costs next to nothing."""
    one = np.array([[0], [1]])
    mass = np.array([[2**10, 2**23, 2**24 - 2**10]] * 2)
    tables = BinaryContextTables(np.array([1]), one, 0 * one + 11, 0 * one + 128, np.zeros(2, np.int64), mass)
    symbols = np.repeat(pairs(np.random.default_rng(3), (1, 1, 20, 1), [1]), 500, axis=3)
    assert 40 <= MODEL.code_length(symbols, tables) < 150


@given(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)), st.integers(0, 2**32))
def test_both_coders_make_the_same_bytes(shape, seed):
    rng = np.random.default_rng(seed)
    tables = seeded_binary_context(seed % 1000, [1] * shape[1], taps=seed % 9, classes=1 + seed % 5)
    bits = unpack_pairs(pairs(rng, shape, [1] * shape[1]).astype(np.int8))
    stream = binary_context_compiled.encode(bits, tables)
    assert stream == binary_context_numpy.encode(bits, tables)
    np.testing.assert_array_equal(binary_context_compiled.decode(stream, tables, bits.shape), bits)
    damaged = (stream[0][:-4] + rng.bytes(3) + b"\1",)
    found = binary_context_compiled.decode(damaged, tables, bits.shape)
    if found is None:
        with pytest.raises(CorruptionError, match="more than its symbols"):
            binary_context_numpy.decode(damaged, tables, bits.shape)
    else:
        np.testing.assert_array_equal(binary_context_numpy.decode(damaged, tables, bits.shape), found)


@pytest.mark.parametrize("shape", [(1, 4, 300, 310), (2, 3, 310, 301), (1400, 3, 11, 13), (600000, 1, 1, 1)])
def test_many_bits_have_several_streams(shape, coder):
    """Some of which are empty where a step has many bits; a payload that claims as many in fewer streams is refused."""
    tables = seeded_binary_context(7, [1] * shape[1])
    symbols = pairs(np.random.default_rng(8), shape, [1] * shape[1])
    coded = MODEL.encode(symbols, tables)
    assert len(coded.streams) == 2 * symbols.size // 2**18 > 1
    bits = unpack_pairs(symbols.astype(np.int8))
    assert coded.streams == binary_context_numpy.encode(bits, tables)
    np.testing.assert_array_equal(MODEL.decode(coded, tables, shape), symbols)
    for wrong in (coded.streams[1:], (coded.streams[0] + b"\1\2\3\4", *coded.streams[1:])):
        with pytest.raises(CorruptionError, match="stream"):
            MODEL.decode(CodedSymbols(wrong, b""), tables, shape)


def test_wrong_sizes_are_refused():
    """No array that is passed to the extension makes it read or write beyond one."""
    planes = np.zeros((2, 6, 4 + 3, 4 + 5), np.int8)
    good = [planes, 2, 3, 5, *binary_context_compiled.arrays(TABLES, 3, 5)]
    assert _coder.decode_bits(b"", np.array([0]), *good)
    for place, changed in [
        (0, planes[:1]), (1, 1), (1, 0), (1, 2**62), (2, 0), (2, -3), (2, 2**62), (3, 6), (3, 2**62), (4, good[4][:, 1:]),
        (5, good[5][:-1]), (6, good[6][:-1]), (6, good[6][:0]), (7, good[7].ravel()[:-1]), (7, good[7][:, :0]),
        (0, planes[:, :5]),
    ]:  # fmt: skip
        wrong = [*good]
        wrong[place] = np.ascontiguousarray(changed) if isinstance(changed, np.ndarray) else changed
        for refused_call in (
            lambda wrong=wrong: _coder.encode_bits(1, *wrong),
            lambda wrong=wrong: _coder.decode_bits(b"", np.array([0]), *wrong),
        ):
            with pytest.raises(ValueError, match="other sizes"):
                refused_call()
    with pytest.raises(ValueError, match="other sizes"):
        _coder.decode_bits(b"abc", np.array([3]), *good)
    with pytest.raises(ValueError, match="other sizes"):
        _coder.decode_bits(b"", np.array([], np.int64), *good)
    with pytest.raises(ValueError, match="other sizes"):
        _coder.encode_bits(0, *good)
    with pytest.raises((TypeError, BufferError)):
        _coder.decode_bits(b"", np.array([0]), bytes(planes.size), *good[1:])


def coded_with_escapes():
    symbols = pairs(np.random.default_rng(4), (2, 5, 6, 7))
    symbols[0, 0, 0, 0], symbols[0, 1, 5, 6], symbols[1, 4, 5, 6] = 1000, -1, 9
    return symbols, MODEL.encode(symbols, TABLES)


def test_payloads_are_damaged_when_they_are_cut():
    payload = (GOLDEN / "v2-binary-context-cyx-odd-size.cae").read_bytes()
    for length in range(len(payload)):
        with pytest.raises(CorruptionError):
            caecodec.decode(payload[:length], weights=TINY_BINARY_CONTEXT)


@pytest.mark.parametrize("escapes", [
    b"\x05", b"\x80", b"\xff\xff\xff\xff\x0f\x00", b"\x00\xff\xff\xff\xff\x0f", b"\xa4\x03\x00", b"\x01\x00\xa3\x03\x00",
])  # fmt: skip
def test_damaged_escapes(escapes):
    symbols = pairs(np.random.default_rng(4), (2, 5, 6, 7))
    coded = CodedSymbols(MODEL.encode(symbols, TABLES).streams, escapes)
    with pytest.raises(CorruptionError):
        MODEL.decode(coded, TABLES, symbols.shape)


@pytest.mark.parametrize("streams", [(), (b"", b""), (b"\0\0\0\0",)])
def test_damaged_streams(streams):
    with pytest.raises(CorruptionError, match="stream"):
        MODEL.decode(CodedSymbols(streams, b""), TABLES, (1, 5, 2, 2))


@given(st.data())
def test_damage_gives_symbols_or_an_error(data):
    symbols, coded = coded_with_escapes()
    both = bytearray(coded.streams[0] + coded.escapes)
    for _ in range(data.draw(st.integers(1, 3))):
        both[data.draw(st.integers(0, len(both) - 1))] = data.draw(st.integers(0, 255))
    size = len(coded.streams[0])
    try:
        found = MODEL.decode(CodedSymbols((bytes(both[:size]),), bytes(both[size:])), TABLES, symbols.shape)
    except CorruptionError:
        return
    assert np.abs(found).max() <= MAX_SYMBOL


@pytest.mark.parametrize(("part", "value"), [
    ("coded", 2), ("coded", 0), ("channel", -1), ("channel", 99), ("place", 25), ("place", 24), ("bias", 2**24), ("mass", 0),
    ("mass", 2**24),
])  # fmt: skip
def test_tables_of_values_that_no_encoder_has(tmp_path, part, value):
    tensors = {name: np.array(tensor) for name, tensor in safetensors.numpy.load(TINY_BINARY_CONTEXT.read_bytes()).items()}
    tensors[f"q4.binary-context.{part}"][...] = value
    refused(tmp_path, tensors, f"values of .*{part}")


@pytest.mark.parametrize("part", ["coded", "channel", "place", "weight", "bias", "mass"])
@pytest.mark.parametrize("change", [lambda t: t[:-2], lambda t: t[..., None], lambda t: t.astype(np.int64), lambda t: t[:0]])
def test_tables_of_no_network(tmp_path, part, change):
    tensors = {name: np.array(tensor) for name, tensor in safetensors.numpy.load(TINY_BINARY_CONTEXT.read_bytes()).items()}
    tensors[f"q4.binary-context.{part}"] = np.ascontiguousarray(change(tensors[f"q4.binary-context.{part}"]))
    refused(tmp_path, tensors, "binary-context tables|lacks or garbles")


def test_taps_have_room_in_32_bits():
    wide = np.zeros((6, 65), np.int64)
    with pytest.raises(WeightsError, match="inconsistent shapes"):
        dataclasses.replace(TABLES, channel=wide, place=wide, weight=wide)


def refused(folder, tensors, match):
    path = folder / "x.safetensors"
    weights.save(path, tensors, name="x", family="binary", metric="mse", qualities=(4,))
    with pytest.raises(WeightsError, match=match):
        weights.load(weights.open_file(path, "mse", 4), 4)


def test_huge_geometry_is_refused_before_it_is_allocated():
    tracemalloc.start()
    with pytest.raises(CorruptionError, match="need 1144"):
        MODEL.decode(CodedSymbols((b"\1\2\3\4",), b""), seeded_binary_context(0, [1] * 24), (1, 24, 2500, 2500))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_golden_weights_exercise_every_part():
    """Of quality 1 the tables lack a channel that has bits, and code one that has none."""
    for name, escapes in (("cyx-odd-size", True), ("float32-series", True), ("yxc", False), ("batch", False)):
        payload = autoencoder.parse((GOLDEN / f"v2-binary-context-{name}.cae").read_bytes())
        assert payload.header.entropy == "binary-context"
        assert len(payload.streams) == 1
        assert (payload.escapes != b"") == escapes


def test_writers_prefer_it_and_the_pixels_are_the_same():
    array = photographs()[0][:72, :56]
    models = [None, "binary-context", "context", "static"]
    payloads = [caecodec.encode(array, 4, weights=TINY_BINARY_CONTEXT, entropy=entropy) for entropy in models]
    assert payloads[0] == payloads[1]
    assert [autoencoder.parse(payload).header.entropy for payload in payloads[1:]] == models[1:]
    decoded = [caecodec.decode(payload, weights=TINY_BINARY_CONTEXT) for payload in payloads]
    assert all(np.array_equal(one, decoded[0]) for one in decoded)


def test_weights_without_its_tables():
    with pytest.raises(
        WeightsError, match="no binary-context tables; if they are of the family binary, run caecodec fit-entropy"
    ):
        caecodec.encode(photographs()[0], 4, weights=TINY_BINARY, entropy="binary-context")


def correlated(rng, images, noise):
    """Symbols (images, 3, 12, 12) int16 whose bits are thresholds of smooth noise; the second channel has none."""
    smooth = rng.normal(size=(images, 1, 12, 12)).cumsum(2).cumsum(3) / 12
    values = np.sign(smooth + np.array([-0.4, -0.1, 0.2, 0.5])[:, None, None] + noise * rng.normal(size=(images, 4, 12, 12)))
    symbols = pack_pairs(np.where(values < 0, -1, 1).astype(np.int8)).astype(np.int16)
    return np.stack([symbols[:, 0], 0 * symbols[:, 0], symbols[:, 1]], 1)


def test_a_fit_learns_neighbours_and_other_channels():
    rng = np.random.default_rng(5)
    batches = [correlated(rng, 8, 0.1) for _ in range(5)]
    tables = MODEL.fit(batches)
    assert tables.coded.tolist() == [1, 0, 1]
    again = MODEL.fit(batches)
    assert all(np.array_equal(getattr(tables, field.name), getattr(again, field.name)) for field in dataclasses.fields(tables))
    stored = MODEL.parse(MODEL.store(tables, 3), 3, 3)
    held = correlated(rng, 8, 0.1).astype(np.int32)
    coded = MODEL.encode(held, stored)
    np.testing.assert_array_equal(MODEL.decode(coded, stored, held.shape), held)
    length = {
        name: registry.by_name(name).code_length(held, registry.by_name(name).fit(batches)) for name in ("static", "context")
    }
    assert MODEL.code_length(held, stored) < 0.6 * min(length.values())
    noise = MODEL.fit([pairs(rng, (40, 3, 12, 12), (1, 0, 1)).astype(np.int16)])
    assert MODEL.code_length(pairs(rng, (8, 3, 12, 12), (1, 0, 1)), noise) < 1.05 * 4 * 8 * 144  # nothing to learn: a bit a bit


def test_a_fit_to_bits_that_never_change():
    tables = MODEL.fit([np.ones((2, 2, 3, 1), np.int16)])
    symbols = np.ones((1, 2, 3, 1), np.int32)
    coded = MODEL.encode(symbols, tables)
    np.testing.assert_array_equal(MODEL.decode(coded, tables, symbols.shape), symbols)


@pytest.mark.parametrize("value", [0, 3, -3, 700])
def test_no_tables_are_fitted_to_other_symbols(value):
    symbols = pairs(np.random.default_rng(6), (4, 5, 6, 7)).astype(np.int16)
    assert MODEL.fit([symbols]) is not None
    symbols[3, 2, 5, 6] = value
    assert MODEL.fit([symbols]) is None
    assert MODEL.fit([0 * symbols]) is None


def test_commands_fit_it_for_networks_with_bits_alone(tmp_path, capsys):
    """Training and its export fit it, and so does fit-entropy, which says how much it saves; inspect names it."""
    for number, photograph in enumerate(photographs() * 6):
        Image.fromarray(np.roll(photograph, 9 * number, 0)[:256, :256]).save(tmp_path / f"{number}.png")
    source = save_binary(tmp_path / "plain.safetensors")
    output = tmp_path / "fitted.safetensors"
    assert main(["fit-entropy", str(source.location), str(tmp_path), "-o", str(output), "--crops", "20"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["quality", "held-out", "crops", "static", "bytes", "binary-context", "bytes", "saved"]
    for line in printed[1:3]:
        _, _, static_bytes, fitted_bytes, *_ = line.split()
        assert int(fitted_bytes) < int(static_bytes)
        assert f"| {static_bytes} | {fitted_bytes} |" in output.with_suffix(".md").read_text()
    payload = tmp_path / "a.cae"
    command = ["encode", str(tmp_path / "0.png"), "-o", str(payload), "-q", "4", "--weights", str(output)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["inspect", str(payload)]) == 0
    assert "binary-context" in capsys.readouterr().out
