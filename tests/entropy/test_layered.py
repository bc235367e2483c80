"""Layered coding: round trips at every layer, both coders, damage, tables that no encoder can use, fitting, and limits."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
from helpers.networks import lower, seeded_layers
from hypothesis import given
from hypothesis import strategies as st

from caecodec.bitstream import varint
from caecodec.entropy import _coder, context_compiled, layered_compiled, layered_numpy
from caecodec.entropy.layered import MODEL, middles, quantised
from caecodec.entropy.layered_tables import STEADY_FLAG, layers_of
from caecodec.entropy.streams import MAX_SYMBOL, CodedSymbols
from caecodec.entropy.tables import TOTAL
from caecodec.errors import CorruptionError, WeightsError

CHANNELS, LAYERS = 12, 4
TABLES = seeded_layers(0)


@pytest.fixture(scope="module", params=[True, False], ids=["compiled", "numpy"])
def compiled(request):
    """A test runs with the compiled coder, and again without it."""
    with mock.patch.object(context_compiled, "available", return_value=request.param):
        yield


def random_symbols(seed, shape, spread=60):
    """Mostly small symbols, some up to the spread, and now and then channels of zeros."""
    rng = np.random.default_rng(seed)
    symbols = np.round(rng.laplace(size=shape) * rng.choice([0.5, 3, spread / 4], shape))
    symbols *= rng.random(shape[1])[:, None, None] < 0.8
    return np.clip(symbols, -spread, spread).astype(np.int32)


def first(coded, layers, of=LAYERS):
    """What codes the first layers."""
    return coded._replace(streams=coded.streams[: len(coded.streams) - of + layers])


def fallback():
    return mock.patch.object(context_compiled, "available", return_value=False)


def outcome(coded, tables, shape):
    """What decoding comes to: the middles, or what the error says."""
    try:
        return MODEL.decode(coded, tables, shape).tolist()
    except CorruptionError as error:
        return str(error)


def compiled_decodes(coded, symbols, tables):
    """Each refinement is decoded by the extension itself, without help from numpy."""
    for shift, part in enumerate(reversed(tables.refinements)):
        found = layered_compiled.decode(coded.streams[-1 - shift], quantised(symbols, shift + 1), part)
        np.testing.assert_array_equal(found, quantised(symbols, shift))


def same(coded, tables, shape):
    """Both coders come to the same middles or the same error; returns whether it is an error."""
    found = outcome(coded, tables, shape)
    with fallback():
        assert found == outcome(coded, tables, shape)
    return isinstance(found, str)


@given(
    st.tuples(st.integers(1, 3), st.just(CHANNELS), st.integers(1, 30), st.integers(1, 30)), st.integers(0, 2**32),
    st.sampled_from([0, 1, 3, 40, 3000, MAX_SYMBOL]), st.integers(1, 8),
)  # fmt: skip
def test_round_trip(shape, seed, spread, layers):
    """Of all layers, to the same bytes with and without the extension."""
    tables = seeded_layers(seed % 1000, layers=layers, classes=1 + seed % 6, masses=2 + seed % 9)
    symbols = random_symbols(seed, shape, spread)
    coded = MODEL.encode(symbols, tables)
    compiled_decodes(coded, symbols, tables)
    with fallback():
        assert MODEL.encode(symbols, tables) == coded
        np.testing.assert_array_equal(MODEL.decode(coded, tables, shape), 2 * symbols)
    for count in range(1, layers + 1):
        found = MODEL.decode(first(coded, count, layers), lower(tables, count), shape)
        np.testing.assert_array_equal(found, middles(quantised(symbols, layers - count), layers - count))


@pytest.mark.parametrize(("channels", "classes", "masses"), [(1, 1, 2), (2, 256, 256), (40, 24, 256), (100, 33, 9)])
def test_any_size_of_tables(channels, classes, masses):
    tables = seeded_layers(3, channels, 3, classes, masses)
    symbols = random_symbols(1, (2, channels, 5, 6))
    coded = MODEL.encode(symbols, tables)
    np.testing.assert_array_equal(MODEL.decode(coded, tables, symbols.shape), 2 * symbols)
    compiled_decodes(coded, symbols, tables)
    with fallback():
        assert MODEL.encode(symbols, tables) == coded
    assert not same(coded, tables, symbols.shape)


def test_several_streams_of_the_base():
    symbols = random_symbols(4, (1, CHANNELS, 90, 70))
    coded = MODEL.encode(symbols, TABLES)
    assert len(coded.streams) == 2 + LAYERS - 1
    np.testing.assert_array_equal(MODEL.decode(coded, TABLES, symbols.shape), 2 * symbols)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("layers", [1, 4, 8])
def test_extreme_symbols(layers):
    tables, shape = seeded_layers(1, layers=layers), (2, CHANNELS, 3, 5)
    checkered = np.indices(shape).sum(axis=0) % 2 * 2 - 1
    for symbols in (np.full(shape, MAX_SYMBOL), np.full(shape, -MAX_SYMBOL), MAX_SYMBOL * checkered):
        coded = MODEL.encode(symbols.astype(np.int32), tables)
        np.testing.assert_array_equal(MODEL.decode(coded, tables, shape), 2 * symbols)
        low = MODEL.decode(first(coded, 1, layers), lower(tables, 1), shape)
        assert (np.sign(low) == np.sign(symbols)).all()


def test_quantisation():
    """Magnitudes are halved and rounded down; a middle is that of all symbols that become the same."""
    s = np.arange(-40, 41)
    np.testing.assert_array_equal(quantised(s, 2), np.sign(s) * (abs(s) // 4))
    for shift in range(4):
        low = quantised(s, shift)
        np.testing.assert_array_equal(quantised(quantised(s, 1), shift), quantised(s, shift + 1))
        for value in (-2, 0, 1):
            assert set(middles(low, shift)[low == value]) == {round(2 * s[low == value].mean())}


def test_all_zero_is_one_byte_a_layer():
    coded = MODEL.encode(np.zeros((1, CHANNELS, 16, 16), np.int32), TABLES)
    assert coded == ((b"", b"\0", b"\0", b"\0"), b"\0")


def test_symbols_in_any_layout():
    symbols = random_symbols(0, (2, CHANNELS, 9, 7))
    coded = MODEL.encode(symbols, TABLES)
    assert MODEL.encode(np.asfortranarray(symbols), TABLES) == coded
    assert MODEL.encode(np.repeat(symbols, 2, axis=3)[..., ::2], TABLES) == coded


SHAPE = (1, CHANNELS, 3, 4)
SYMBOLS = random_symbols(8, SHAPE)
CODED = MODEL.encode(SYMBOLS, TABLES)


@pytest.mark.parametrize("layer", range(2, LAYERS + 1))
def test_truncated_and_flipped_streams(layer):
    """Both coders say the same of each. A stream without any words is right where all entries are 0."""
    number = layer - 2 - (LAYERS - 1)
    data = CODED.streams[number]

    def changed(stream):
        streams = list(CODED.streams)
        streams[number] = bytes(stream)
        return CODED._replace(streams=tuple(streams))

    assert not same(CODED, TABLES, SHAPE)
    for stop in range(len(data)):
        damaged = same(changed(data[:stop]), TABLES, SHAPE)
        assert damaged or stop == 1
    for extra in (b"\0", b"\0\0\0\0", b"\1\0\0\0", data[1:]):
        assert same(changed(data + extra), TABLES, SHAPE)
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        same(changed(flipped), TABLES, SHAPE)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("change", "match"), [
    (lambda d: varint.pack(13) + d[1:], "refines 13 channels of 12"),
    (lambda d: b"\0", "refines 0 channels of 12"),
    (lambda d: b"", "cut short"),
    (lambda d: d[:-1], "whole words of 4"),
    (lambda d: d + bytes(4), "zero word"),
    (lambda d: d[:1] + b"\1\0\0\0" + d[1:], "more than its symbols"),
])  # fmt: skip
def test_what_is_said_of_damage(change, match):
    damaged = CODED._replace(streams=(*CODED.streams[:-1], change(CODED.streams[-1])))
    with pytest.raises(CorruptionError, match=match):
        MODEL.decode(damaged, TABLES, SHAPE)


@pytest.mark.usefixtures("compiled")
def test_a_choice_that_no_encoder_makes():
    """Entry 2, of mass 1, of a symbol that is not 0."""
    tables, shape = seeded_layers(0, layers=2), (1, CHANNELS, 1, 1)
    coded = MODEL.encode(np.full(shape, 2, np.int32), tables)
    mass = layered_numpy._masses(
        tables.refinements[0], 0, np.ones((CHANNELS, 1), np.int32), np.zeros((CHANNELS, 1), np.float32)
    )
    words = varint.pack(CHANNELS) + layered_numpy._pack(np.full(CHANNELS, 2, np.uint8), mass)
    with pytest.raises(CorruptionError, match="choice that no encoder makes"):
        MODEL.decode(CodedSymbols((*coded.streams[:-1], words), coded.escapes), tables, shape)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("layers", [2, 8])
def test_symbols_beyond_the_range(layers):
    """Layers that are right by themselves, but whose magnitudes no symbol of the last layer has."""
    tables = seeded_layers(0, layers=layers)
    shape = (1, CHANNELS, 1, 1)
    base = MODEL.encode(np.full(shape, MAX_SYMBOL, np.int32), seeded_layers(0, layers=1))
    with pytest.raises(CorruptionError, match=rf"symbol of layer 1 beyond \+-{MAX_SYMBOL >> layers - 1}:"):
        MODEL.decode(base, lower(tables, 1), shape)
    mass = np.full(CHANNELS, 2, np.uint32) | STEADY_FLAG
    steady = dataclasses.replace(
        tables.refinements[0], mass=np.array([2]), zero=np.zeros((CHANNELS, 5), int), steady=np.zeros((CHANNELS, 3), int)
    )
    words = varint.pack(CHANNELS) + layered_numpy._pack(np.ones(CHANNELS, np.uint8), mass)
    two = dataclasses.replace(tables, refinements=(steady,), above=0)
    with pytest.raises(CorruptionError, match=rf"symbol beyond \+-{MAX_SYMBOL}:"):
        MODEL.decode(CodedSymbols((*base.streams, words), base.escapes), two, shape)


def test_a_stream_of_another_number_of_layers():
    with pytest.raises(CorruptionError, match="streams but latents"):
        MODEL.decode(first(CODED, 1), TABLES, SHAPE)
    with pytest.raises(CorruptionError, match="streams but latents"):
        MODEL.decode(CODED, lower(TABLES, 1), SHAPE)
    with pytest.raises(WeightsError, match="tables of 4 layers but 3 qualities"):
        MODEL.encode(SYMBOLS, lower(TABLES, 3))


REFINEMENT = TABLES.refinements[0]


@pytest.mark.parametrize(("part", "change"), [
    ("order", lambda t: t[:-1]), ("order", lambda t: t[None]), ("order", lambda t: t[:0]),
    ("group", lambda t: t[:0]), ("group", lambda t: t[1:]), ("group", lambda t: t[None]), ("group", lambda t: t[::-1]),
    ("group", lambda t: np.append(t, CHANNELS)), ("group", lambda t: np.append(t, t[-1])),
    ("group", lambda t: np.append(-1, t)), ("group", lambda t: np.append(t, 30000)),
    ("below", lambda t: t[:, :-1]), ("below", lambda t: t[:-1]), ("below", lambda t: t.reshape(-1)),
    ("before", lambda t: t[:-2]), ("before", lambda t: t[:, None]), ("before", lambda t: np.append(t, [1, 1])),
    ("threshold", lambda t: t[:-1]), ("threshold", lambda t: t[:, :-1]), ("threshold", lambda t: t[0]),
    ("threshold", lambda t: np.zeros((CHANNELS, 256), int)),
    ("zero", lambda t: t[:-1]), ("zero", lambda t: t[:, :0]), ("zero", lambda t: t[0]),
    ("steady", lambda t: t[:, :-1]), ("steady", lambda t: t[:-1]), ("steady", lambda t: t[0]),
    ("mass", lambda t: t[:0]), ("mass", lambda t: t[None]),
])  # fmt: skip
def test_tables_of_other_shapes(part, change):
    with pytest.raises(WeightsError, match="inconsistent shapes"):
        dataclasses.replace(REFINEMENT, **{part: change(getattr(REFINEMENT, part))})


@pytest.mark.parametrize(("part", "value"), [
    ("order", 3), ("order", -1), ("order", CHANNELS), ("below", 2**15 - 1), ("before", -(2**15)), ("threshold", TOTAL),
    ("threshold", -TOTAL), ("zero", 9), ("zero", -1), ("steady", 9), ("steady", -1), ("mass", 0), ("mass", -2), ("mass", 1),
    ("mass", 3), ("mass", TOTAL), ("mass", TOTAL - 1), ("mass", 2**31 - 2),
])  # fmt: skip
def test_tables_of_values_that_no_encoder_has(part, value):
    tensor = getattr(REFINEMENT, part).copy()
    if part in ("below", "before"):
        tensor[...] = value
    else:
        tensor.reshape(-1)[0] = value
    with pytest.raises(WeightsError, match=f"values of .*{part}"):
        dataclasses.replace(REFINEMENT, **{part: tensor})


@pytest.mark.parametrize(("part", "value"), [("below", 2**15), ("below", -(2**15) - 1), ("before", 2**15)])
def test_weights_of_more_than_16_bits(part, value):
    tensor = np.zeros_like(getattr(REFINEMENT, part))
    tensor.reshape(-1)[0] = np.sign(value) * (abs(value) - 1)
    fine = dataclasses.replace(REFINEMENT, **{part: tensor})
    tensor.reshape(-1)[0] = value
    with pytest.raises(WeightsError, match=f"values of .*{part}"):
        dataclasses.replace(fine, **{part: tensor})


def test_thresholds_that_descend():
    with pytest.raises(WeightsError, match="values of threshold"):
        dataclasses.replace(REFINEMENT, threshold=REFINEMENT.threshold[:, ::-1])


def tensors(tables=TABLES):
    stored = {}
    for layer in range(1, tables.layers + 1):
        stored.update(MODEL.store(tables, layer))
    return stored


def test_store_and_parse():
    stored = tensors()
    for layer in range(1, LAYERS + 1):
        parsed = MODEL.parse(stored, layer, CHANNELS)
        assert (parsed.layers, parsed.above) == (layer, LAYERS - layer)
    again = tensors(parsed)
    assert again.keys() == stored.keys()
    assert all((again[name] == tensor).all() and again[name].dtype == tensor.dtype for name, tensor in stored.items())
    assert MODEL.encode(SYMBOLS, parsed) == CODED


def test_tensors_of_no_layers():
    stored = tensors()
    assert MODEL.parse({}, 1, CHANNELS) is None
    with pytest.raises(WeightsError, match="12 channels but the latents have 11"):
        MODEL.parse(stored, 2, CHANNELS - 1)
    other = {**stored, **MODEL.store(seeded_layers(0, 10), 2)}
    with pytest.raises(WeightsError, match="tables of layer 2 have 10 channels but the latents have 12"):
        MODEL.parse(other, 2, CHANNELS)
    for name in stored:
        layer = int(name[1])
        with pytest.raises(ValueError, match=f"q{layer}.* is float32 but must be"):
            MODEL.parse({**stored, name: stored[name].astype(np.float32)}, layer, CHANNELS)
        if name == "q1.layers.order":
            continue
        without = {one: tensor for one, tensor in stored.items() if one != name}
        with pytest.raises(KeyError):
            MODEL.parse(without, layer, CHANNELS)


def test_the_number_of_layers():
    names = [f"q{layer}.layers.order" for layer in range(1, 12)]
    assert [layers_of(names[:count]) for count in (0, 1, 4, 8, 9, 11)] == [0, 1, 4, 8, 8, 8]
    assert layers_of(names[1:]) == 0


@given(st.binary(max_size=400), st.integers(0, CHANNELS), st.integers(0, 2**32))
def test_random_bytes(words, count, seed):
    tables = seeded_layers(seed % 1000, layers=2)
    coded = MODEL.encode(random_symbols(seed, SHAPE), tables)
    streams = (*coded.streams[:-1], varint.pack(count) + words[: len(words) // 4 * 4])
    same(coded._replace(streams=streams), tables, SHAPE)


def arguments(shape=SHAPE):
    n, _, rows, columns = shape
    return [np.zeros(shape, np.int32), np.ones(shape, np.int32), n, rows, columns, *REFINEMENT.for_compiled_coder]


def test_wrong_sizes_are_refused():
    """No array that is passed to the extension makes it read or write beyond one."""
    good = arguments()
    _coder.encode_layer(*good)
    order, group, factor, level, mass = good[5:]
    for place, changed in [
        (0, good[0][:, 1:]), (1, good[1][:, 1:]), (2, 0), (2, 2), (2, 2**62), (3, -3), (3, 2**62), (4, 5), (4, 0),
        (5, order[1:]), (5, order[:0]), (5, np.full_like(order, CHANNELS)), (5, np.full_like(order, -1)),
        (6, group[:1]), (6, group[:0]), (6, group[1:]), (6, group[:-1]), (6, group[::-1]), (6, np.append(group, group[-1])),
        (7, factor[1:]), (7, factor[:, 1:]), (7, factor.reshape(-1)[1:]), (8, level[:, 1:]), (8, level[1:]), (9, mass[:, 1:]),
        (9, mass[1:]), (9, mass & STEADY_FLAG), (9, mass | np.uint32(2**30)), (9, np.full_like(mass, TOTAL - 1)),
    ]:  # fmt: skip
        wrong = [*good]
        wrong[place] = np.ascontiguousarray(changed) if isinstance(changed, np.ndarray) else changed
        with pytest.raises(ValueError, match="other sizes"):
            _coder.encode_layer(*wrong)
    for words, count in ((b"", -1), (b"", CHANNELS + 1), (b"abc", CHANNELS)):
        with pytest.raises(ValueError, match="other sizes"):
            _coder.decode_layer(words, count, *good)
    with pytest.raises((TypeError, BufferError)):
        _coder.decode_layer(b"", 0, good[0], bytes(good[1].nbytes), *good[2:])


def test_fit():
    """Fitted tables code what they were fitted to in fewer bytes than others do, and each layer needs those below it."""
    rng = np.random.default_rng(0)
    size = np.geomspace(20, 0.3, CHANNELS)[:, None, None] * np.exp(rng.normal(size=(24, 1, 8, 8)))
    symbols = np.round(rng.laplace(size=(24, CHANNELS, 8, 8)) * size).astype(np.int16)
    tables = MODEL.fit([symbols[:10], symbols[10:]], 3)
    assert (tables.layers, tables.above) == (3, 0)
    one = symbols[:1].astype(np.int32)
    fitted, others = MODEL.encode(one, tables), MODEL.encode(one, seeded_layers(0, layers=3))
    np.testing.assert_array_equal(MODEL.decode(fitted, tables, one.shape), 2 * one)
    for ours, theirs in zip(fitted.streams, others.streams, strict=True):
        assert len(ours) < 0.8 * len(theirs)
    bits = MODEL.code_length(one, tables)
    assert bits == 8 * (sum(map(len, fitted.streams)) + len(fitted.escapes))
    assert MODEL.fit([np.zeros((2, CHANNELS, 4, 4), np.int16)], 2).layers == 2
