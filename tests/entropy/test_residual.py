import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import residual as reference_residual

from caecodec.entropy.residual import interlaced, lattice, scales
from caecodec.entropy.residual import planes as residual
from caecodec.entropy.tables import TOTAL
from caecodec.errors import CorruptionError, ParameterError

RANGES = [(0, 255), (-128, 127), (0, 65535), (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1), (0, 2**33), (7, 7), (0, 1)]


def noisy(low, high, shape, smooth, seed=0):
    """Planes of smooth or rough values all over a range, its ends included, and a prediction that is about right."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(shape[2]) / 9)[:, None] * np.cos(np.arange(shape[3]) / 7)
    spread = (high - low) / 2
    values = low + spread * (1 + wave + rng.normal(size=shape) * (0.01 if smooth else 1))
    planes = np.clip(np.rint(values), low, high).astype(np.int64)
    near = np.rint(values + rng.normal(size=shape) * spread * 0.005).astype(np.int64)
    return planes, near


def checked(planes, kind, within, prediction=None):
    data = residual.encode(planes, kind, within, prediction)
    decoded = residual.decode(data, kind, planes.shape, within, prediction)
    assert decoded.dtype == np.int64
    assert decoded.shape == planes.shape
    assert abs(decoded - planes).max() <= within.bound
    assert within.low <= decoded.min() <= decoded.max() <= within.high
    return data, decoded


@given(
    st.sampled_from(residual.KINDS), st.sampled_from(RANGES), st.sampled_from([0, 1, 2, 3, 8, 100, 2**20, 2**40]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_bound_holds(kind, span, bound, shape, smooth, seed):
    planes, near = noisy(*span, shape, smooth, seed)
    checked(planes, kind, residual.limits(*span, bound), near if kind == "predicted" else None)


@pytest.mark.parametrize("kind", residual.KINDS)
@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 600), (2, 1, 600, 1), (1, 2, 41, 39)])
def test_extreme_values(kind, span, shape):
    """Constant planes at both ends, and both ends in turn, with predictions that are as wrong as can be."""
    for planes in (np.full(shape, span[0]), np.full(shape, span[1]), np.random.default_rng(0).choice(span, shape)):
        for bound in (0, 1, span[1] - span[0]):
            checked(planes, kind, residual.limits(*span, bound), span[0] + span[1] - planes)
            checked(planes, kind, residual.limits(*span, bound), np.full(shape, -(2**40)))


def test_constant_planes_are_short():
    planes = np.full((1, 3, 256, 256), 17)
    assert all(len(checked(planes, kind, residual.limits(0, 255, 0), planes)[0]) < 200 for kind in residual.KINDS)


@pytest.mark.parametrize(("span", "bound"), [((0, 255), 0), ((0, 255), 3), ((-(2**15), 2**15 - 1), 0), ((0, 2**33), 5)])
@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (2, 3, 37, 18), (1, 2, 1, 300), (1, 3, 61, 57)])
@pytest.mark.parametrize("predicted", [False, True])
def test_equals_the_reference_decoder(span, bound, shape, predicted):
    planes, near = noisy(*span, shape, smooth=True)
    planes[..., ::7, 3:] = span[1]
    near = near if predicted else None
    data, decoded = checked(planes, "predicted" if predicted else "plain", residual.limits(*span, bound), near)
    found = reference_residual.decode(data, shape, *span, bound, near.tolist() if predicted else None)
    assert found == decoded.tolist()


def test_blocks_change_nothing(monkeypatch):
    planes, near = noisy(0, 255, (3, 3, 70, 90), smooth=True)
    within = residual.limits(0, 255, 1)
    data, decoded = checked(planes, "predicted", within, near)
    blocks = lattice.Pass.blocks
    for most in (1, 100, 10**9):
        monkeypatch.setattr(lattice.Pass, "blocks", lambda job, _=None, most=most: blocks(job, most))
        np.testing.assert_array_equal(residual.decode(data, "predicted", planes.shape, within, near), decoded)


def test_precision():
    """Coding in float64 what fits float32 gives the same bytes."""
    assert lattice.precision(255) is np.float32
    assert lattice.precision(65535) is np.float64


def test_float32_and_float64_decode_alike(monkeypatch):
    planes, near = noisy(0, 255, (1, 3, 64, 90), smooth=False)
    within = residual.limits(0, 255, 0)
    data, decoded = checked(planes, "predicted", within, near)
    monkeypatch.setattr(lattice, "precision", lambda _: np.float64)
    np.testing.assert_array_equal(residual.decode(data, "predicted", planes.shape, within, near), decoded)


def test_a_photograph_takes_fewer_bytes_than_zstd(photograph):
    planes = photograph[:256, :256].transpose(2, 0, 1)[None].astype(np.int64)
    for bound in (0, 3):
        within = residual.limits(0, 255, bound)
        sizes = {kind: len(checked(planes, kind, within, planes // 8 * 8)[0]) for kind in residual.KINDS}
        assert sizes["plain"] < 0.8 * sizes["zstd"]
        assert sizes["predicted"] < sizes["plain"]


def test_tables_sum_to_one():
    for basic in range(96):
        mass = scales.masses(basic)
        assert mass.min() >= 1
        assert mass.sum() == TOTAL
        np.testing.assert_array_equal(mass[:127], mass[254:127:-1])
        assert (np.diff(mass[127:255]) <= 0).all()


@pytest.mark.parametrize("kind", residual.KINDS)
@pytest.mark.parametrize("span", [(0, 255), (0, 65535)])
def test_truncation_at_every_byte(kind, span):
    planes, near = noisy(*span, (1, 2, 20, 18), smooth=True)
    within = residual.limits(*span, 1)
    data, decoded = checked(planes, kind, within, near)
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            residual.decode(data[:length], kind, planes.shape, within, near)
    with pytest.raises(CorruptionError):
        residual.decode(data + b"\0", kind, planes.shape, within, near)
    np.testing.assert_array_equal(residual.decode(memoryview(data), kind, planes.shape, within, near), decoded)


@pytest.mark.parametrize("kind", residual.KINDS)
@pytest.mark.parametrize("span", [(0, 255), (-(2**31), 2**31 - 1)])
def test_flipped_bits(kind, span):
    """Another array of the right shape and range, or a CorruptionError; nothing else."""
    planes, near = noisy(*span, (1, 2, 20, 18), smooth=False)
    within = residual.limits(*span, 0)
    data = residual.encode(planes, kind, within, near)
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            decoded = residual.decode(bytes(damaged), kind, planes.shape, within, near)
        except CorruptionError:
            continue
        assert decoded.shape == planes.shape
        assert span[0] <= decoded.min() <= decoded.max() <= span[1]


@given(st.sampled_from(residual.KINDS), st.binary(max_size=300), st.sampled_from(RANGES))
def test_any_bytes(kind, data, span):
    shape, within = (1, 2, 20, 18), residual.limits(*span, 0)
    try:
        decoded = residual.decode(data, kind, shape, within, np.zeros(shape, np.int64))
    except CorruptionError:
        return
    assert decoded.shape == shape


def test_a_frame_that_holds_more_is_refused_before_it_is_unpacked():
    planes, _ = noisy(0, 255, (1, 1, 64, 64), smooth=False)
    data = residual.encode(planes, "zstd", residual.limits(0, 255, 0))
    with pytest.raises(CorruptionError, match="holds 4096 bytes"):
        residual.decode(data, "zstd", (1, 1, 8, 8), residual.limits(0, 255, 0))


GOLDEN = {
    "predicted": (
        "11030303037c0c03030abe0cd77eaeffbf30223a5421baffbf3c55d46a970b4215b2d3ffff4ed0ffffa3508826d72ae20000",
        1864261532,
    ),
    "plain": (
        "100d11222f33474747473f536f777b47703c3840bd57e0861f879961da74b33d31aa3c4a183e78a645b679581f55400d56332ad9cedddf"
        "bd2200ab16c7861039ec902fb4b269a88a30619a457bad1a97e869c35fd3ef3f9ae10b712cbc8c9062828c0e34c066cd94cc66691f8765"
        "dadca6acf755ddbe0959e35fefb8efeaa01d7e50233607c5ecafb6fd8fd7899f45271577bb2086b307bb7d9e66bd0e14125b58f4725c91"
        "11e91d5fac2fce86c520c8dc7316dffc19a9c89a6733049008d7b0826e252f54abf6d30f1ad4a3f64748b496e9fc1cd9cde61cc2238904"
        "62d0b258ed42b7d7b8ad3a12e57ee6d8ce3a7e1e338095460992bd1e4cabe99f5cd941bc241ba088c41f771290a680bcade6ff6ac28c25"
        "00",
        1850516402,
    ),
    "zstd": (
        "28b52ffd60c002550e0056193e0c1050840f805b9e4e7488ae04390036003900263d1717f9f0f2ccced08a9405d6a82b2ea6555d55098e"
        "96ec5c4cdcd343bb32528490635d3b3715f3f0eeccca48911254a002007290831c01675d3d1bf3ee2ecd3a71da5fa3cd98c689cd9e2dda"
        "8d8a5884139f7d75e5f4645cbd443b63b3857351500236fbfa5a72f5f4ccaeaa369cf6eceba76767239781139df815d3073e688289d764"
        "6c4542234efc6b36391b9dd0a9894f3e2734c1c868514f4ec5be467d9473111111a30de6f087378a61f82cdadfa2a6cde10b85f8e30da5"
        "f0b3665f0b4f8dde2886175e346a84b66ce97ca3141023b3afad5e0a85e045137dca9682173ee8c4276ba841256354cd044d522dac0130"
        "0264480ad6031060ca3863c70112f5414ec0c9b62565ed83ec6641b4df899a44b22991123f5ec851a50886c860becac289e2bd04fd47ed"
        "1fb2345fdba3501924325f5785f2df8f20346c0962f7631cff447fc8fa91008ff94476a574697bcb56585ea5cd862fcdde4fe2a25a29c2"
        "82931c9f6d758496201cd6fb3aca8b9008685f579323d582065397c5a20340f027003f6691945041f28b94e8dbf60b3da615558707b1f5"
        "fb4c8a26909982d592a9712e0bb02497c8ea5aff69e17c515c5bee0c",
        28544648,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", residual.KINDS)
def test_golden_bytes(kind):
    """What was once written still decodes to the same values."""
    image = golden_image()
    within = residual.limits(0, 255, 4)
    data, checksum = GOLDEN[kind]
    decoded = residual.decode(bytes.fromhex(data), kind, image.shape, within, image + 3)
    assert abs(decoded - image).max() <= 4
    assert zlib.crc32(decoded.astype("<i8").tobytes()) == checksum


def golden_image():
    """One image of two channels, alike, with a spot."""
    y, x = np.mgrid[:24, :20]
    image = np.stack([(x * x // 3 + 5 * y + 7 * (x * y % 5)) % 256, (x * x // 3 + 5 * y) % 256 // 2 + 30])[None]
    image[0, 0, :3, :3] = 255
    return image


@pytest.mark.parametrize(("low", "high", "bound"), [(0, -1, 0), (0, 2**36, 0), (0, 255, -1)])
def test_impossible_limits(low, high, bound):
    with pytest.raises(ParameterError):
        residual.limits(low, high, bound)


def test_escapes_are_counted():
    planes, _ = noisy(0, 65535, (1, 1, 20, 20), smooth=True)
    planes[0, 0, 5, 5:] = 65535
    within = residual.limits(0, 65535, 0)
    data = interlaced.encode(planes, None, within)
    with pytest.raises(CorruptionError, match="more escapes"):
        interlaced.decode(data + bytes(within.escape_bytes), planes.shape, None, within)
