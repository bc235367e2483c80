import numpy as np
import pytest
from helpers.networks import TABLES
from helpers.paths import TINY
from hypothesis import given
from hypothesis import strategies as st

from caecodec import weights
from caecodec.entropy import static, streams
from caecodec.entropy.tables import TOTAL, Tables
from caecodec.errors import CorruptionError, WeightsError

CHANNELS = len(TABLES.length)


@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32),
    st.sampled_from([0, 1, 5, 40, 3000, 2**23]),
)  # fmt: skip
def test_round_trip(n, rows, columns, seed, spread):
    rng = np.random.default_rng(seed)
    symbols = rng.integers(-spread, spread, (n, CHANNELS, rows, columns), np.int32, endpoint=True)
    coded = static.MODEL.encode(symbols, TABLES)
    np.testing.assert_array_equal(static.MODEL.decode(coded, TABLES, symbols.shape), symbols)


def test_exact_words():
    """The coder is that of FORMAT.md: its words by hand, for two channels of one symbol each."""
    two = Tables(np.array([2**23, 2**23, 2**22, 3 * 2**22]), np.array([2, 2]), np.array([0, 0]))
    symbols = np.array([0, 7], np.int32).reshape(1, 2, 1, 1)  # entry 0 of the first; the second escapes, 7 - (0 + 1) = 6
    coded = static.MODEL.encode(symbols, two)
    state = 2**22  # second channel, entry 1: c = 2^22 from X = 0
    state = (state // 2**23 << 24) + state % 2**23  # first channel, entry 0
    assert coded.streams == (state.to_bytes(4, "little"),)
    assert coded.escapes == bytes([12])


@pytest.mark.parametrize(("rows", "columns", "channels", "expected"), [
    (16, 16, 192, [(0, 16)]),
    (1, 1, 192, [(0, 1)]),
    (32, 32, 192, [(0, 5), (5, 10), (10, 16), (16, 21), (21, 26), (26, 32)]),
    (2, 4096, 320, [(0, 1), (1, 2)]),
])  # fmt: skip
def test_bands(rows, columns, channels, expected):
    assert streams.bands(rows, columns, channels) == expected


def test_length_is_near_the_ideal():
    """Within 1 % of the sum of -log2 p for symbols that follow their tables."""
    rng = np.random.default_rng(0)
    columns = []
    for i, table in enumerate(np.split(TABLES.mass, np.cumsum(TABLES.length)[:-1])):
        inside = table[:-1] / table[:-1].sum()
        columns.append(TABLES.offset[i] + rng.choice(len(inside), 4096, p=inside))
    symbols = np.array(columns, np.int32).reshape(1, CHANNELS, 64, 64)
    coded = static.MODEL.encode(symbols, TABLES)
    assert 8 * sum(map(len, coded.streams)) <= 1.01 * static.MODEL.code_length(symbols, TABLES)
    assert coded.escapes == b""


def test_streams_that_disagree_with_the_geometry():
    symbols = np.zeros((1, CHANNELS, 4, 4), np.int32)
    coded = static.MODEL.encode(symbols, TABLES)
    with pytest.raises(CorruptionError, match="streams"):
        static.MODEL.decode(streams.CodedSymbols(coded.streams * 2, b""), TABLES, symbols.shape)
    with pytest.raises(CorruptionError, match="more than its symbols"):
        static.MODEL.decode(streams.CodedSymbols((bytes(range(1, 101)),), b""), TABLES, (1, CHANNELS, 1, 1))
    with pytest.raises(CorruptionError, match="zero word"):
        static.MODEL.decode(streams.CodedSymbols((bytes(8),), b""), TABLES, symbols.shape)


def test_escape_beyond_any_symbol():
    symbols = np.full((1, CHANNELS, 1, 1), 2**20, np.int32)
    coded = static.MODEL.encode(symbols, TABLES)
    huge = b"\xff\xff\xff\xff\x0f" * CHANNELS
    with pytest.raises(CorruptionError, match="beyond"):
        static.MODEL.decode(coded._replace(escapes=huge), TABLES, symbols.shape)


@pytest.mark.parametrize(("mass", "length", "offset"), [
    ([TOTAL], [1], [0]),
    ([TOTAL // 2, TOTAL // 2 - 1], [2], [0]),
    ([TOTAL, 0], [2], [0]),
    ([TOTAL // 2, TOTAL // 2], [2, 2], [0, 0]),
    ([TOTAL // 2, TOTAL // 2], [2], [2**30]),
    ([], [], []),
])  # fmt: skip
def test_impossible_tables(mass, length, offset):
    with pytest.raises(WeightsError, match="probability tables"):
        Tables(*(np.array(part, np.int64) for part in (mass, length, offset)))


def test_tables_of_the_shipped_weights_are_proven_when_loaded():
    for quality in (1, 4):
        source = weights.resolve(weights.Spec.parse(TINY), "mse", quality)
        assert len(weights.load(source, quality).tables["static"].length) == CHANNELS
