"""Tables of the overfitted codec, values coded with them, and networks as bytes."""

import decimal

import numpy as np
import pytest
from helpers.overfitted import random_network
from hypothesis import given
from hypothesis import strategies as st

from caecodec import CorruptionError, ParameterError
from caecodec.bitstream.overfitted import DECODERS as WIRE_IDS
from caecodec.bitstream.overfitted import pack_coded
from caecodec.codecs.overfitted import laplace
from caecodec.codecs.overfitted.architecture import DECODERS, HOP, LOP, MOP, OFFSETS, choose, level_sizes
from caecodec.codecs.overfitted.laplace import Coded, Reader
from caecodec.codecs.overfitted.network import GROUPS, Network, digest, identify

# Tables


def test_decays_are_what_they_are_said_to_be():
    with decimal.localcontext(prec=50):
        for j, decay in enumerate(laplace.DECAYS):
            scale = decimal.Decimal(2) ** (decimal.Decimal(j) / 4 - 5)
            assert decay == int(2**32 * (-1 / (16 * scale)).exp())


def test_tables_by_integers():
    """Some of the tables, one mass at a time."""
    mass = laplace.masses().reshape(laplace.TABLES, 16, 50)
    assert (mass.min(), mass.sum(axis=2).min(), mass.sum(axis=2).max()) == (1, 2**24, 2**24)
    for j, f in ((0, 0), (0, 15), (9, 8), (9, 9), (28, 3)):
        tail = [2**32]
        for _ in range(500):
            tail.append(tail[-1] * laplace.DECAYS[j] >> 32)

        def below(x, tail=tail):
            return 2**33 - tail[x] if x >= 0 else tail[-x]

        weight = [below(16 * t + 8 - f) - below(16 * t - 8 - f) for t in range(-24, 25)]
        expected = [1 + w * (2**24 - 50) // 2**33 for w in [*weight, 2**33 - sum(weight)]]
        expected[24 if f <= 8 else 25] += 2**24 - sum(expected)
        assert mass[j, f].tolist() == expected


def test_tables_are_laplace_distributions():
    """Each is within a few units of 2^-24 of the exact probabilities."""
    j, f, t = np.ogrid[:29, :16, -24:25]
    scale = 2.0 ** (j / 4 - 5)

    def below(x):
        return np.where(x < 0, np.exp(-abs(x) / scale) / 2, 1 - np.exp(-abs(x) / scale) / 2)

    exact = below(t + (8 - f) / 16) - below(t - (8 + f) / 16)
    found = laplace.masses().reshape(29, 16, 50)[:, :, :49] / 2**24
    assert abs(found - exact).max() < 60 / 2**24


def test_coder_has_just_these_masses():
    """The words are those of the coder of FORMAT.md, 5, in Python integers."""
    rng = np.random.default_rng(1)
    mu, scale = rng.integers(-50, 50, 300), rng.integers(0, 29, 300)
    values = np.rint(mu / 16 + rng.laplace(size=300) * 2 ** (scale / 4 - 5)).astype(int)
    coded = laplace.encode(values, mu, scale)
    state, words = 0, []
    for value, m, s in reversed(list(zip(values.tolist(), mu.tolist(), scale.tolist(), strict=True))):
        mass = laplace.masses()[16 * s + m % 16].tolist()
        t = value - m // 16
        entry = t + 24 if -24 <= t <= 24 else 49
        p, c = mass[entry], sum(mass[:entry])
        if state >= p << 40:
            words.append(state % 2**32)
            state >>= 32
        state = (state // p << 24) + state % p + c
    while state:
        words.append(state % 2**32)
        state >>= 32
    assert coded.stream == b"".join(word.to_bytes(4, "little") for word in words)


# Values


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 300))
def test_round_trip(seed, payloads, count):
    """Values of all sizes, as many at once as the reader likes; what is said of their length is what they take."""
    rng = np.random.default_rng(seed)
    shape = (payloads, count)
    mu, scale = rng.integers(-(2**19), 2**19, shape) >> rng.integers(0, 19, shape), rng.integers(0, 61, shape)
    values = np.rint(mu / 16 + rng.laplace(size=shape) * 2 ** (scale / 4 - 5)).astype(np.int64)
    values[:, ::7] += rng.integers(-(2**15), 2**15, values[:, ::7].shape)
    coded = [laplace.encode(*of_one) for of_one in zip(values, mu, scale, strict=True)]
    for one, *of_one in zip(coded, values, mu, scale, strict=True):
        bits = laplace.lengths(*of_one).sum()
        assert bits - 1 <= 8 * sum(map(len, one)) <= bits + 64 + 8
    reader, step = Reader(coded), int(rng.integers(1, count + 1))
    parts = [np.s_[:, i : i + step] for i in range(0, count, step)]
    found = np.concatenate([reader.read(mu[part], scale[part]) for part in parts], axis=1)
    reader.finish()
    np.testing.assert_array_equal(found, values)


def read_wide(coded):
    reader = Reader([coded])
    reader.read(0 * WIDE, WIDE)
    reader.finish()


WIDE = np.full((1, 9), 40)  # three low bits each, 27 in all


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c._replace(raw=c.raw[:-1]), "fewer low bits"),
    (lambda c: c._replace(raw=c.raw + b"\0"), "more low bits"),
    (lambda c: c._replace(raw=c.raw[:-1] + bytes([c.raw[-1] | 1])), "more low bits"),
    (lambda c: c._replace(escapes=b""), "fewer escapes"),
    (lambda c: c._replace(escapes=c.escapes + b"\1"), "more escapes"),
    (lambda c: c._replace(escapes=c.escapes + b"\x80"), "escape list holds"),
    (lambda c: c._replace(stream=c.stream + b"\1\0\0\0"), "more than its symbols"),
    (lambda c: c._replace(stream=c.stream + bytes(4)), "zero word"),
])  # fmt: skip
def test_damaged_values(change, message):
    values = np.array([0, 5, -7, 3000, 2, 1, -9, 4, 4])
    coded = laplace.encode(values, 0 * values, WIDE[0])
    assert len(coded.escapes) == 2
    assert len(coded.raw) == 4
    with pytest.raises(CorruptionError, match=message):
        read_wide(change(coded))


# Networks


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_network_as_bytes(decoder, channels):
    network = random_network(decoder, channels, seed=channels)
    section = network.section()
    found = Network.parse(section, decoder, channels)
    assert found.steps == network.steps
    assert {name: array.shape for name, array in found.integers.items()} == decoder.shapes(channels)
    for name, array in network.integers.items():
        np.testing.assert_array_equal(found.integers[name], array)
    assert found.section() == section
    assert digest(section) != digest(section[:-1])
    again = Network.quantise(decoder, channels, network.floats(), network.steps)
    assert all((again.integers[name] == array).all() for name, array in network.integers.items())
    if channels == 3:
        with pytest.raises(CorruptionError):
            Network.parse(section, decoder, 1)
    assert (identify(section).decoder, identify(section).channels) == (decoder, channels)


def test_parameters_of_all_sizes():
    """Each group at its own step, up to the limit; differences are from what FORMAT.md says."""
    steps = (0, 12, 3, 12, 5, 0)
    integers = {name: np.zeros(shape, np.int32) for name, shape in LOP.shapes(3).items()}
    for names, step in zip(GROUPS, steps, strict=True):
        for sign, name in enumerate(names):
            integers[name].flat[-1] = (16 << step) * (-1) ** sign
    network = Network(LOP, 3, steps, integers)
    found = Network.parse(network.section(), LOP, 3)
    floats = found.floats()
    assert all((found.integers[name] == array).all() for name, array in integers.items())
    assert floats["arm_w1"][-1, -1] == 16
    assert floats["arm_w2"][-1, -1] == -16
    assert floats["up"][0].tolist() == [-36 / 1024, -108 / 1024, 268 / 1024, 900 / 1024]
    assert floats["up"][5, 3] == 16 + 900 / 1024
    assert floats["syn_b2"].tolist() == [0.5, 0.5, 0.5 - 16]


def forged(change):
    """A section of a network, changed before it is coded."""
    network = random_network(LOP, 1)
    change(network.integers)
    return network.section()


def test_damaged_networks():
    section = random_network(LOP, 1).section()
    for size in range(len(section)):
        with pytest.raises(CorruptionError):
            Network.parse(section[:size], LOP, 1)
    for position, value, message in ((0, 13, "steps"), (0, 0x18, "steps"), (1, 61, "scales"), (11, 255, "scales")):
        damaged = bytearray(section)
        damaged[position] = value
        with pytest.raises(CorruptionError, match=message):
            Network.parse(bytes(damaged), LOP, 1)
    with pytest.raises(CorruptionError, match="beyond"):
        Network.parse(forged(lambda integers: integers["arm_b3"].fill((16 << 8) + 1)), LOP, 1)
    with pytest.raises(CorruptionError, match="cut short"):
        Network.parse(section[:12] + pack_coded(*Coded(b"", b"", b"")).replace(b"\0\0", b"\7\0"), LOP, 1)


# Architecture


def test_sizes():
    assert (LOP.inputs, MOP.inputs, HOP.inputs) == (7, 11, 15)
    assert [sum(int(np.prod(shape)) for shape in d.shapes(3).values()) for d in (LOP, MOP, HOP)] == [362, 702, 1286]
    assert list(WIRE_IDS.values()) == list(DECODERS)
    assert level_sizes(100, 1) == ((100, 1), (50, 1), (25, 1), (13, 1), (7, 1), (4, 1), (2, 1))
    for decoder in DECODERS.values():
        for row, column in OFFSETS[: decoder.contexts]:
            assert column + decoder.slope * row < 0  # known by the time
            assert -3 <= row <= 0
            assert -3 <= column <= 2


def test_choice_of_decoder():
    assert [choose(None, n).name for n in (0, 2**16 - 1, 2**16, 2**19 - 1, 2**19, 2**31)] == [
        "lop",
        "lop",
        "mop",
        "mop",
        "hop",
        "hop",
    ]
    assert choose("hop", 1) is HOP
    with pytest.raises(ParameterError, match="decoder is 'top' but must be"):
        choose("top", 1)
    with pytest.raises(ParameterError, match="decoder is \\['lop'\\] but must be"):
        choose(["lop"], 1)  # in damaged metadata
