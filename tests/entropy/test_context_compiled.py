"""The compiled coder against the one in numpy: the same bytes, symbols and errors, whatever the payload says."""

import importlib
import sys
import threading
import time
from unittest import mock

import numpy as np
import pytest
from helpers.networks import seeded_context
from hypothesis import given
from hypothesis import strategies as st

from caecodec.bitstream import varint
from caecodec.entropy import _coder, context, context_compiled, context_numpy, streams
from caecodec.errors import CorruptionError

SHAPES = st.tuples(st.integers(1, 3), st.just(12), st.integers(1, 70), st.integers(1, 70))


def random_symbols(seed, shape, spread):
    rng = np.random.default_rng(seed)
    symbols = np.round(rng.laplace(size=shape) * rng.choice([0.1, 1, spread / 4], shape))
    symbols *= rng.random(shape[1])[:, None, None] < 0.8
    return np.clip(symbols, -spread, spread).astype(np.int32)


def outcome(coder, coded, tables, shape):
    """What decoding comes to: the symbols, or what the error says."""
    try:
        return coder.decode(coded, tables, shape).tolist()
    except CorruptionError as error:
        return str(error)


def same(coded, tables, shape):
    """Both coders come to the same symbols or the same error; returns whether it is an error."""
    found = outcome(context.MODEL, coded, tables, shape)
    assert found == outcome(context_numpy, coded, tables, shape)
    return isinstance(found, str)


@given(SHAPES, st.integers(0, 2**32), st.sampled_from([0, 1, 5, 40, 3000, 2**24]))
def test_same_bytes_and_symbols(shape, seed, spread):
    tables = seeded_context(seed % 1000, classes=1 + seed % 7, reach=seed % 20)
    symbols = random_symbols(seed, shape, spread)
    coded = context_compiled.encode(symbols, tables)
    assert coded == context_numpy.encode(symbols, tables)
    np.testing.assert_array_equal(context_compiled.decode(coded, tables, shape), symbols)


@pytest.mark.parametrize(("channels", "classes", "count", "reach"), [
    (1, 1, 1, 0), (1, 3, 2, 1), (17, 256, 256, 126), (15, 2, 3, 2), (16, 5, 3, 3), (33, 32, 9, 100), (320, 32, 128, 30),
])  # fmt: skip
def test_any_size_of_tables(channels, classes, count, reach):
    tables = seeded_context(3, channels, classes, count, reach)
    for spread in (1, 12, 500):
        symbols = random_symbols(spread, (2, channels, 5, 6), spread)
        coded = context_compiled.encode(symbols, tables)
        assert coded == context_numpy.encode(symbols, tables)
        np.testing.assert_array_equal(context_compiled.decode(coded, tables, symbols.shape), symbols)


def test_symbols_in_any_layout():
    tables = seeded_context(0)
    symbols = random_symbols(0, (2, 12, 9, 7), 20)
    coded = context_compiled.encode(symbols, tables)
    assert context_compiled.encode(np.asfortranarray(symbols), tables) == coded
    assert context_compiled.encode(np.repeat(symbols, 2, axis=3)[..., ::2], tables) == coded


def test_truncated_and_flipped_streams():
    tables, shape = seeded_context(0), (1, 12, 8, 8)
    coded = context.MODEL.encode(random_symbols(8, shape, 30), tables)
    (stream,) = coded.streams
    assert not same(coded, tables, shape)
    for stop in range(0, len(stream), 4):
        assert same(coded._replace(streams=(stream[:stop],)), tables, shape)
        assert same(coded._replace(streams=(stream[stop + 4 :],)), tables, shape)
    for bit in range(0, 8 * len(stream), 5):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        same(coded._replace(streams=(bytes(flipped),)), tables, shape)


def test_damaged_escapes():
    tables, shape = seeded_context(0), (1, 12, 8, 8)
    coded = context.MODEL.encode(random_symbols(8, shape, 30), tables)
    escapes = coded.escapes
    listed = sum(byte < 0x80 for byte in escapes) - 1
    assert listed > 9
    huge = varint.pack(4 * streams.MAX_SYMBOL)
    for wrong in (
        *(escapes[:stop] for stop in range(len(escapes))), escapes + b"\1", escapes + b"\x80", b"\x0d" + escapes[1:],
        b"\0" + escapes[1:], b"\5" + escapes[1:], escapes[:1] + huge * listed,
        escapes[:1] + varint.pack(2**32 - 1) * listed, escapes[:1] + varint.pack(4 * streams.MAX_SYMBOL + 1) * listed,
    ):  # fmt: skip
        assert same(coded._replace(escapes=wrong), tables, shape)


def test_sums_beyond_any_symbol():
    """Every difference is in range, but not what they add up to."""
    tables, shape = seeded_context(0), (1, 12, 40, 40)
    symbols = random_symbols(8, shape, 30)
    coded = context.MODEL.encode(symbols, tables)
    listed = sum(byte < 0x80 for byte in coded.escapes) - 1
    assert same(coded._replace(escapes=coded.escapes[:1] + varint.pack(2 * (2**24 - 200)) * listed), tables, shape)


@given(st.binary(max_size=400), st.binary(max_size=40), st.integers(0, 2**32))
def test_random_bytes(words, escapes, seed):
    tables, shape = seeded_context(seed % 1000), (1, 12, 4, 4)
    words = words[: len(words) // 4 * 4]
    same(streams.CodedSymbols((words,), escapes), tables, shape)
    same(streams.CodedSymbols((words,), b"\x0c" + escapes), tables, shape)


def arguments(tables, shape=(1, 12, 4, 4)):
    n, _, rows, columns = shape
    return [np.zeros(shape, np.int32), np.array([0, n * rows * columns]), n, rows, columns, *tables.for_compiled_coder]


def test_wrong_sizes_are_refused():
    """No array that is passed to the extension makes it read or write beyond one."""
    tables = seeded_context(0)
    good = arguments(tables)
    _coder.encode(*good)
    for place, changed in [
        (0, np.zeros((1, 11, 4, 4), np.int32)), (1, np.array([0, 15])), (1, np.array([0, 17, 16])), 
        (1, np.array([], np.int64)),
        (1, np.array([16])), (1, np.array([-1, 16])), (2, 0), (2, 2), (2, 2**62), (3, -4), (3, 2**62), (4, 5), (5, 7),
        (5, 2**62), (6, np.full(12, 12, np.int32)), (6, np.full(12, -1, np.int32)), (6, np.zeros(11, np.int32)),
        (7, np.zeros(11, np.uint8)),
        (8, np.full(12, 255, np.uint8)), (8, np.zeros(0, np.uint8)), (9, good[9][:-1]), (10, good[10][:, 1:]),
        (11, good[11] + np.uint8(6)), (11, good[11][:, :3]), (12, good[12][:1]), (13, good[13][:-1]),
    ]:  # fmt: skip
        wrong = [*good]
        wrong[place] = np.ascontiguousarray(changed) if isinstance(changed, np.ndarray) else changed
        with pytest.raises(ValueError, match="other sizes"):
            _coder.encode(*wrong)
    for before in (
        (b"", np.array([0]), b"", 13), (b"", np.array([0]), b"", -1), (b"", np.array([4]), b"", 12),
        (b"abc", np.array([3]), b"", 12),
        (b"abcd", np.array([-4]), b"", 12), (b"", np.array([0, 0]), b"", 12), (b"", np.array([], np.int64), b"", 12),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="other sizes"):
            _coder.decode(*before, *good)
    with pytest.raises((TypeError, BufferError)):
        _coder.decode(b"", np.array([0]), b"", 0, bytes(12 * 16 * 4), *good[1:])


def test_other_threads_run_meanwhile():
    tables, shape = seeded_context(0, 64), (1, 64, 300, 300)
    symbols = random_symbols(0, shape, 5)
    coded = context_compiled.encode(symbols, tables)

    def ticks():
        """How often another thread runs while this one decodes."""
        times, done = [], threading.Event()

        def tick():
            while not done.is_set():
                times.append(time.perf_counter())
                time.sleep(0.001)

        thread = threading.Thread(target=tick)
        thread.start()
        start = time.perf_counter()
        context_compiled.decode(coded, tables, shape)
        stop = time.perf_counter()
        done.set()
        thread.join()
        return sum(start < at < stop for at in times)

    assert any(ticks() > 3 for _ in range(20))  # on a busy machine, the other may have no turn once


def test_without_the_extension():
    """numpy codes the same bytes, and a warning says why that is slow."""
    tables, shape = seeded_context(0), (1, 12, 8, 8)
    symbols = random_symbols(8, shape, 30)
    coded = context.MODEL.encode(symbols, tables)
    with (
        mock.patch.dict(sys.modules, {"caecodec.entropy._coder": None}),
        mock.patch.object(sys.modules["caecodec.entropy"], "_coder", None),
    ):
        missing = importlib.util.module_from_spec(context_compiled.__spec__)
        context_compiled.__spec__.loader.exec_module(missing)
    with mock.patch.object(context, "context_compiled", missing):
        with pytest.warns(UserWarning, match="no C compiler"):
            assert context.MODEL.encode(symbols, tables) == coded
        np.testing.assert_array_equal(context.MODEL.decode(coded, tables, shape), symbols)
