"""Payloads of every released format version decode to the same symbols, and to the same pixels but for rounding."""

import struct

import numcodecs
import numpy as np
import pytest
from helpers.paths import GOLDEN, TINY, TINY_BINARY, TINY_BINARY_CONTEXT, TINY_CONTEXT, TINY_DEPTHWISE, TINY_RESIDUAL_ATTENTION
from reference import binary, depthwise, exact, residual_attention
from reference import decoder as reference_decoder
from reference import residual as reference_residual

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder
from caecodec.bitstream.codings import Body
from caecodec.chunks.axes import Axes
from caecodec.entropy import registry
from caecodec.entropy.streams import CodedSymbols

FILES = sorted(GOLDEN.glob("v[12]-*.cae"))  # test_overfitted_golden.py has the others
BODIES = {path: autoencoder.parse(path.read_bytes()).header.body for path in FILES}


def each(*bodies):
    """A test of the payloads with these bodies."""
    paths = [path for path, body in BODIES.items() if body in bodies]
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def weights_file(path):
    if "depthwise" in path.stem:
        return TINY_DEPTHWISE
    if "binary" in path.stem:
        return TINY_BINARY_CONTEXT if "binary-context" in path.stem else TINY_BINARY
    if "residual-attention" in path.stem:
        return TINY_RESIDUAL_ATTENTION
    return TINY_CONTEXT if "context" in path.stem or path.stem == "v2-bounded-planes" else TINY


def tables(payload, path):
    source = weights.resolve(weights.Spec.parse(weights_file(path)), payload.header.metric, payload.header.quality)
    assert source.digest == payload.header.digest
    return weights.load(source, payload.header.quality).tables[payload.header.entropy]


@each(Body.SYMBOLS, Body.CONSTANT)
def test_pixels(path, tiny, fp32):
    stored = np.load(path.with_suffix(".npz"))["pixels"]
    pixels = caecodec.decode(path.read_bytes())
    assert (pixels.shape, pixels.dtype) == (stored.shape, stored.dtype)
    step = 1 if stored.dtype.kind != "f" else 1e-4 * np.ptp(stored)
    assert np.abs(pixels.astype(float) - stored).max() <= step
    assert np.mean(np.abs(pixels.astype(float) - stored) > step / 100) < 1e-3
    assert pixels.flags.f_contiguous == ("fortran" in path.stem or pixels.size == 3)


@each(Body.BOUNDED)
def test_bounded_pixels(path, tiny):
    """They are the same everywhere, to the last bit."""
    stored = np.load(path.with_suffix(".npz"))["pixels"]
    pixels = caecodec.decode(path.read_bytes())
    assert (pixels.shape, pixels.dtype, pixels.tobytes()) == (stored.shape, stored.dtype, stored.tobytes())


@each(Body.SYMBOLS)
def test_symbols(path):
    payload = autoencoder.parse(path.read_bytes())
    symbols = np.load(path.with_suffix(".npz"))["symbols"]
    expected = {TINY: "static", TINY_BINARY_CONTEXT: "binary-context"}.get(weights_file(path), "context")
    assert payload.header.entropy == expected
    if not symbols.size:
        assert (payload.streams, payload.escapes) == ((), b"")
        return
    coder, coded = registry.by_name(payload.header.entropy), CodedSymbols(payload.streams, payload.escapes)
    np.testing.assert_array_equal(coder.decode(coded, tables(payload, path), symbols.shape), symbols)
    assert coder.encode(symbols, tables(payload, path)) == coded


@each(Body.SYMBOLS, Body.CONSTANT)
def test_reference_decoder(path):
    """FORMAT.md alone is enough: the decoder written from it agrees."""
    payload, reference = parsed(path)
    if payload.header.constant:
        assert np.array(reference.colour, payload.header.dtype).tobytes() == payload.colour
    else:
        np.testing.assert_array_equal(np.array(reference.symbols).ravel(), np.load(path.with_suffix(".npz"))["symbols"].ravel())
        layout = payload.planes[:1]
        assert not layout or reference.separate == bool(layout[0] & 1)


@pytest.mark.parametrize(
    ("path", "family", "synthesis"),
    [
        pytest.param(path, family, synthesis, id=path.stem)
        for name, family, synthesis in (
            ("depthwise", "depthwise-residual", depthwise.synthesis),
            ("binary", "binary", binary.synthesis),
            ("residual-attention", "residual-attention", residual_attention.synthesis),
        )
        for path in sorted(GOLDEN.glob(f"v1-{name}-*.cae"))
    ],
)
def test_reference_synthesis(path, family, synthesis, tiny, fp32):
    """FORMAT.md, 20, 22 and 23, in float64 gives the pixels, but for rounding."""
    payload, reference = parsed(path)
    assert payload.header.family == family
    images = [synthesis(weights_file(path).read_bytes(), reference.quality, image) for image in reference.symbols]
    pixels = caecodec.decode(path.read_bytes())
    found = Axes.of(pixels.ndim, payload.header.channel_axis).images(pixels).transpose(0, 3, 1, 2)
    cropped = 255 * np.array(images)[:, :, : found.shape[2], : found.shape[3]]
    assert np.ptp(cropped) > 50
    assert np.abs(found - cropped.clip(0, 255)).max() <= 0.501


@each(Body.BOUNDED)
def test_reference_decoder_of_bounds(path):
    """So it is for bounded chunks, their predictions in Python integers and IEEE floats alone."""
    payload, reference = parsed(path)
    header, kind = payload.header, reference.bound[0]
    stored = np.load(path.with_suffix(".npz"))["pixels"]
    axes = Axes.of(stored.ndim, header.channel_axis)
    expected = axes.images(stored).transpose(0, 3, 1, 2)
    if kind == 4:
        data = numcodecs.Zstd().decode(reference.bound[1:])
        raw = b"".join(bytes(column) for column in zip(*np.split(np.frombuffer(data, "u1"), stored.itemsize), strict=True))
        assert raw == np.ascontiguousarray(stored).tobytes()
        return
    low, second, number, data = grid_of(reference)
    most, bound, step = (number, 0, second) if stored.dtype.kind == "f" else (second - low, number, 1)
    if kind == 3:
        width = next(size for size in (1, 2, 4, 8) if most // (2 * bound + 1) < 256**size)
        raw = np.frombuffer(numcodecs.Zstd().decode(data), "u1").reshape(width, -1)
        whole = sum(row.astype(int) << 8 * i for i, row in enumerate(raw)) * (2 * bound + 1) + bound
        n, c, h, w = expected.shape
        k = np.minimum(whole, most).reshape(n, h, w, c).transpose(0, 3, 1, 2)
    else:
        guide = None if kind == 2 else guide_of(reference, path, expected.shape, low, step, most)
        k = np.array(reference_residual.decode(data, expected.shape, 0, most, bound, guide))
    np.testing.assert_array_equal((k * step + low).astype(stored.dtype), expected)


def parsed(path):
    """A payload as the package and as the reference decoder have it."""
    payload = autoencoder.parse(path.read_bytes())
    reference = reference_decoder.decode(path.read_bytes(), weights_file(path).read_bytes())
    header = payload.header
    assert reference.shape == header.shape
    assert reference.channel_axis == header.channel_axis
    assert (reference.quality, reference.digest, reference.fortran) == (header.quality, header.digest, header.fortran)
    assert np.dtype(reference.dtype) == header.dtype
    return payload, reference


def grid_of(reference):
    """low, high or step, e or K, and the residual (FORMAT.md, 12)."""
    layout = "<dd" if reference.dtype in "fd" else "<ii"
    first, second = struct.unpack_from(layout, reference.bound, 1)
    number, position = reference_decoder.varint(reference.bound, 1 + struct.calcsize(layout))
    return first, second, number, reference.bound[position:]


def guide_of(reference, path, shape, low, step, most):
    """The predicted k [image][channel][row][column] (FORMAT.md, 10 and 12), one value at a time."""
    n, channels, height, width = shape
    source = weights.resolve(weights.Spec.parse(weights_file(path)), "mse", reference.quality)
    folded = weights.load(source, reference.quality).network.tensors
    levels = [exact.reference(folded, np.array(image), 65535) for image in reference.symbols]
    guide, image = [], iter(levels)
    for i in range(n):
        planes = []
        three = None if reference.separate else next(image)
        for c in range(channels):
            power, first, last = reference.ranges[i * channels + c] if reference.ranges else (None, 0, 255)
            if not reference.separate:
                t = [[float(three[c][y][x]) for x in range(width)] for y in range(height)]
            elif power == 0:
                t = [[0.0] * width for _ in range(height)]
            else:
                r, g, b = next(image)
                t = [[((float(r[y][x]) + float(g[y][x])) + float(b[y][x])) / 3 for x in range(width)] for y in range(height)]
            planes.append([[point(v, power, float(first), float(last), low, step, most) for v in row] for row in t])
        guide.append(planes)
    return guide


def point(t, power, first, last, low, step, most):
    if power is None:
        value = t * (255 / 65535)
    else:
        u = t / 65535
        for _ in range({0: 0, 1: 0, 2: 1, 4: 2}[power]):
            u = u * u
        value = first * (1 - u) + last * u
    return min(max(round((value - low) / step), 0), most)
