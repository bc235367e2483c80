"""Write the golden files of this format version where there are none yet; a released one is never rewritten.

Run as `PYTHONPATH=.:tests python tests/golden/make.py`.

Each NAME.cae is a payload; NAME.npz holds its symbols (n, M, rows, columns) and the pixels that it decodes to; of version 3 the
pixels, and the network where that is shared; of version 4 the prefix, and the ids and bytes of its sections or, where it has
layers, the symbols of the last one and the pixels of each; of version 5 the pixels. big-endian-NAME.cae is the payload of
the same chunk in a big-endian array.
"""

import importlib.util
from unittest import mock

import numpy as np
from helpers import overfitted as overfitted_samples
from helpers import padding, prototype, sections
from helpers.networks import save_binary, save_depthwise, save_layers, save_residual_attention, save_seeded
from helpers.paths import (
    GOLDEN,
    TINY,
    TINY_BINARY,
    TINY_BINARY_CONTEXT,
    TINY_CONTEXT,
    TINY_DEPTHWISE,
    TINY_LAYERS,
    TINY_RESIDUAL_ATTENTION,
)
from helpers.symbols import analyse

import caecodec
from caecodec import settings, weights
from caecodec.bitstream import autoencoder, directory, scalable
from caecodec.bitstream.byte_order import as_big_endian
from caecodec.bitstream.codings import BYTES, PLAIN, PREDICTED, ZSTD, BoundKind
from caecodec.chunks.axes import check_chunk
from caecodec.chunks.padding import trim
from caecodec.chunks.planes import Layout, constant
from caecodec.chunks.spec import ChunkSpec
from caecodec.codecs.autoencoder import bounded, codec
from caecodec.codecs.autoencoder.parameters import AutoencoderParameters
from caecodec.codecs.overfitted import codec as overfitted_codec
from caecodec.codecs.overfitted.architecture import DECODERS
from caecodec.codecs.overfitted.fit import Fitted
from caecodec.codecs.overfitted.parameters import OverfittedParameters
from caecodec.entropy import layered

BIG_ENDIAN = (
    "v2-uint16-plane", "v2-context-int16-channels", "v2-bytes", "v2-lossless-int16", "v2-float64-constant-planes",
    "v3-uint16-plane", "v4-layered-float32-series", "v4-layered-padded-uint16", "v5-uint16-plane", "v5-float64-plane",
)  # fmt: skip


def cases():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:80, :96]
    wave = 128 + 100 * np.sin(y / 9) * np.cos(x / 13)
    picture = np.clip(wave[..., None] + rng.normal(size=(80, 96, 3)) * [4, 12, 30], 0, 255).astype(np.uint8)
    yield "yxc", picture, 4, -1
    yield "cyx-odd-size", np.ascontiguousarray(np.moveaxis(picture[:37, :51], -1, 0)), 1, -3
    yield "leading-axes", np.stack([picture[:16, :16], picture[20:36, 20:36]] * 3).reshape(3, 2, 16, 16, 3), 4, -1
    yield "fortran", np.asfortranarray(picture[:20, :20]), 1, -1
    yield "one-pixel", picture[:1, :1], 4, -1
    yield "several-streams", np.tile(picture[:, :, ::-1] // 8 * 8, (12, 16, 1)), 1, -1
    yield "batch", np.stack([picture[:40, :56], picture[40:, 40:], picture[20:60, 10:66]]), 4, -1
    yield "constant", np.full((48, 32, 3), (255, 128, 0), np.uint8), 4, -1


def plane_cases():
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:40, :56]
    signal = 3000 * np.exp(-((y - 15) ** 2 + (x - 30) ** 2) / 60) + 400 * np.exp(-((y - 30) ** 2 + (x - 9) ** 2) / 9)
    counts = (100 + rng.poisson(signal + 20)).astype(np.uint16)
    rgb = np.stack([counts, counts * 2 + 9, counts // 2], axis=-1)
    yield "uint16-plane", counts, 4, None
    yield "uint16-colour", rgb, 1, -1
    yield "uint8-two-channels", np.stack([counts // 20, np.full_like(counts, 7)]).astype(np.uint8), 4, 0
    yield (
        "int16-channels",
        np.stack([counts, counts[::-1], counts * 0 - 5, counts.T.repeat(2, 1)[:40, :56]]).astype(np.int16),
        4,
        0,
    )
    yield "float32-series", np.stack([[counts / 7, -counts / 3]] * 2).astype(np.float32), 1, 1
    yield "float64-constant-planes", np.stack([np.zeros((16, 20)), np.full((16, 20), np.pi)]), 4, None


def bounded_cases():
    rgb = next(array for name, array, *_ in cases() if name == "yxc")[:33, :47]
    planes = {name: array for name, array, *_ in plane_cases()}
    yield "bounded-static", rgb, -1, 9, BoundKind(PREDICTED, "static")
    yield "bounded-context", rgb, -1, 9, BoundKind(PREDICTED, "context")
    yield "bounded-planes", planes["uint16-plane"], None, 4, BoundKind(PREDICTED, "context")
    yield "bounded-floats", planes["float32-series"][0], 0, 0.5, BoundKind(PREDICTED, "static")
    yield "lossless", rgb, -1, 0, PLAIN
    yield "lossless-int16", planes["int16-channels"], 0, 0, PLAIN
    yield "zstd", rgb, -1, 2, ZSTD
    yield "bytes", planes["float32-series"], 1, 0, BYTES


def overfitted_cases():
    """Name, array, channel axis, decoder, and which networks: random ones for latents of all kinds, or one that is shared."""
    rgb = next(array for name, array, *_ in cases() if name == "yxc")
    planes = {name: array for name, array, *_ in plane_cases()}
    yield "lop", rgb[:33, :47], -1, "lop", "random"
    yield "mop", rgb[:20, :30], -1, "mop", "random"
    yield "hop", rgb[:9, :70], -1, "hop", "random"
    yield "wide", rgb[:30, :40], -1, "mop", "wide"
    yield "picture", rgb[:40, :56], -1, "lop", "picture"
    yield "shared", np.stack([rgb[:16, :24], rgb[20:36, 20:44]]), -1, "lop", "shared"
    yield "cyx-fortran", np.asfortranarray(np.moveaxis(rgb[:19, :21], -1, 0)), -3, "mop", "random"
    yield "row", rgb[:1, :9], -1, "lop", "random"
    yield "constant", np.full((48, 32, 3), (255, 128, 0), np.uint8), -1, "lop", "random"
    yield "uint16-plane", planes["uint16-plane"], None, "mop", "picture"
    yield "uint16-colour", planes["uint16-colour"], -1, "lop", "picture"
    yield "int16-channels", planes["int16-channels"][:, :20, :24], 0, "lop", "picture"
    yield "uint8-plane", rgb[:26, :34, 1], None, "lop", "picture"
    yield "float32-series", planes["float32-series"][..., :20, :24], 1, "lop", "wide"
    yield "float64-constant-planes", planes["float64-constant-planes"], None, "lop", "random"


def overfitted_payload(array, channel_axis, decoder, kind):
    """A payload with a network and latents that are not fitted but made, and the network section if it is shared."""
    decoder = DECODERS[decoder]
    section = overfitted_samples.picture_network(decoder, 3).section() if kind == "shared" else None

    def make_up(pictures, raw_bits, decoder, parameters, shared, gpu):
        if kind in ("picture", "shared"):
            return overfitted_samples.fit_by_hand(pictures, raw_bits, decoder, parameters, shared, gpu)
        count, channels, height, width = pictures.shape
        network = overfitted_samples.random_network(decoder, channels, seed=height, scale=2.5 if kind == "wide" else 0.5)
        latents = overfitted_samples.random_latents([network], count, height, width, seed=width)
        return Fitted(network, [level[0] for level in latents])

    parameters = OverfittedParameters.parse(channel_axis=channel_axis, decoder=decoder.name, network=section)
    with mock.patch.object(overfitted_codec, "_fit", make_up):
        return overfitted_codec.encode_with(parameters, array), section


def layered_cases():
    """Name, array, channel axis, and how many of the four layers are written."""
    pictures = {name: array for name, array, *_ in cases()}
    planes = {name: array for name, array, *_ in plane_cases()}
    around = {name: padding.padded(content, shape, fill) for name, content, shape, fill, _ in padding.cases()}
    yield "yxc", pictures["yxc"], -1, 4
    yield "cyx-odd-size", pictures["cyx-odd-size"], -3, 4
    yield "fortran", pictures["fortran"], -1, 4
    yield "uint16-plane", planes["uint16-plane"], None, 4
    yield "float32-series", planes["float32-series"], 1, 4
    yield "two-layers", pictures["batch"], -1, 2
    yield "one-layer", planes["int16-channels"], 0, 1
    yield "padded", around["rgb-series"], -1, 4
    yield "padded-uint16", around["uint16-plane"], None, 3
    yield "padded-constant", padding.padded(pictures["constant"][:20], (48, 32, 3), 7), -1, 4
    yield "constant", pictures["constant"], -1, 4
    yield "constant-planes", planes["float64-constant-planes"], None, 4


def main():
    if not TINY.exists():
        save_seeded(TINY)
    if not TINY_CONTEXT.exists():
        save_seeded(TINY_CONTEXT, seed=2, context=True)
    if not TINY_DEPTHWISE.exists():
        save_depthwise(TINY_DEPTHWISE)
    if not TINY_BINARY.exists():
        save_binary(TINY_BINARY)
    if not TINY_BINARY_CONTEXT.exists():
        save_binary(TINY_BINARY_CONTEXT, seed=8, bits=True)
    if not TINY_RESIDUAL_ATTENTION.exists():
        save_residual_attention(TINY_RESIDUAL_ATTENTION)
    if not TINY_LAYERS.exists():
        save_layers(TINY_LAYERS)
    for name, array, quality, channel_axis in cases():
        write(f"v1-{name}", array, quality, channel_axis, TINY)
        if name != "constant":
            write(f"v1-context-{name}", array, quality, channel_axis, TINY_CONTEXT)
        if name in ("yxc", "cyx-odd-size", "batch"):
            write(f"v1-depthwise-{name}", array, quality, channel_axis, TINY_DEPTHWISE)
            write(f"v1-binary-{name}", array, quality, channel_axis, TINY_BINARY)
            write(f"v2-binary-context-{name}", array, quality, channel_axis, TINY_BINARY_CONTEXT)
            write(f"v1-residual-attention-{name}", array, quality, channel_axis, TINY_RESIDUAL_ATTENTION)
    for name, array, quality, channel_axis in plane_cases():
        if name in ("uint16-plane", "float32-series"):
            write(f"v2-depthwise-{name}", array, quality, channel_axis, TINY_DEPTHWISE)
            write(f"v2-residual-attention-{name}", array, quality, channel_axis, TINY_RESIDUAL_ATTENTION)
            write(f"v2-binary-{name}", array, quality, channel_axis, TINY_BINARY)
            write(f"v2-binary-context-{name}", array, quality, channel_axis, TINY_BINARY_CONTEXT)
        write(f"v2-{name}", array, quality, channel_axis, TINY)
        write(f"v2-context-{name}", array, quality, channel_axis, TINY_CONTEXT)
    for name, array, channel_axis, error, kind in bounded_cases():
        write_bounded(f"v2-{name}", array, channel_axis, error, kind)
    for name, *case in overfitted_cases():
        write_overfitted(f"v3-{name}", *case)
    for name, *case in sections.cases():
        write_sections(f"v4-{name}", *case)
    for name, *case in layered_cases():
        write_layered(f"v4-layered-{name}", *case)
    for case in padding.cases():
        write_padded(f"v5-{case[0]}", case)
    for name in BIG_ENDIAN:
        write_big_endian(name)
    if importlib.util.find_spec("compressai"):
        write_prototype()


def kept(path):
    """Whether a golden file is there already."""
    if path.exists():
        print(f"{path.name} is there: kept")
    return path.exists()


def write_prototype():
    """A chunk of the archived prototype, where CompressAI is installed: its payload and the pixels that it read back."""
    path = GOLDEN / "prototype.npz"
    if kept(path):
        return
    network = prototype.compressai_network(prototype.tiny_weights(GOLDEN / "prototype.safetensors"))
    picture = next(array for name, array, *_ in cases() if name == "yxc")[:75, :90]
    payload = prototype.encode(network, picture, 48)
    string = np.frombuffer(payload, np.uint8)
    np.savez_compressed(path, payload=string, patch_size=48, pixels=prototype.decode(network, payload, 48))
    print(f"{path.name}: {len(payload)} bytes")


def write(name, array, quality, channel_axis, tiny):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    payload = caecodec.encode(array, quality=quality, channel_axis=channel_axis, weights=tiny)
    source = weights.resolve(weights.Spec.parse(tiny), "mse", quality)
    axes = check_chunk(array.shape, array.dtype, channel_axis)
    layout = Layout.of(array, axes)
    symbols = np.zeros((0, 12, 1, 1), np.int32)
    if layout.ranges is None or not layout.ranges.constant.all():
        symbols = analyse(array, axes, layout, source, quality, None)
    path.write_bytes(payload)
    np.savez_compressed(path.with_suffix(".npz"), symbols=symbols, pixels=caecodec.decode(payload, weights=tiny))
    print(f"{path.name}: {len(payload)} bytes, symbols {symbols.shape}")


def write_bounded(name, array, channel_axis, error, kind):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    tiny = TINY_CONTEXT if "context" in name or "planes" in name else TINY
    parameters = AutoencoderParameters.parse(quality=4, channel_axis=channel_axis, weights=tiny, max_error=error)
    axes = check_chunk(array.shape, array.dtype, channel_axis)
    chunk = codec.Chunk(array, axes, Layout.of(array, axes), parameters, None)
    grid = None if kind == BYTES else bounded.Grid.of(array, error)
    payload = autoencoder.pack(chunk.on_grid(parameters.sources()[4], 4, grid, kind))
    path.write_bytes(payload)
    decoded = caecodec.decode(payload, weights=tiny)
    assert np.abs(decoded.astype(float) - array).max() <= error
    np.savez_compressed(path.with_suffix(".npz"), pixels=decoded)
    print(f"{path.name}: {len(payload)} bytes")


def write_overfitted(name, array, channel_axis, decoder, kind):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    payload, section = overfitted_payload(array, channel_axis, decoder, kind)
    path.write_bytes(payload)
    shared = {} if section is None else {"network": np.frombuffer(section, np.uint8)}
    np.savez_compressed(path.with_suffix(".npz"), pixels=caecodec.decode(payload, network=section), **shared)
    print(f"{path.name}: {len(payload)} bytes")


def padded_payload(case):
    """The payload of a chunk with padding: of both codecs by turns, and without loss where the name says so."""
    name, *_, channel_axis = case
    chunk = padding.chunk_of(case)
    if name == "uint16-plane":
        return overfitted_payload(chunk, channel_axis, "lop", "picture")[0]
    options = {"max_error": 0} if name in ("rgb-series", "float32-not-a-number") else {"quality": 4}
    return caecodec.encode(chunk, channel_axis=channel_axis, weights=TINY, **options)


def write_padded(name, case):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    payload = padded_payload(case)
    path.write_bytes(payload)
    np.savez_compressed(path.with_suffix(".npz"), pixels=caecodec.decode(payload, weights=TINY))
    print(f"{path.name}: {len(payload)} bytes")


def write_big_endian(name):
    path = GOLDEN / f"big-endian-{name}.cae"
    if kept(path):
        return
    payload = as_big_endian((GOLDEN / f"{name}.cae").read_bytes())
    path.write_bytes(payload)
    print(f"{path.name}: {len(payload)} bytes")


def write_layered(name, array, channel_axis, layers):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    codec = caecodec.ScalableAutoencoder(layers=layers, channel_axis=channel_axis, weights=TINY_LAYERS)
    with settings.using(precision="fp32"):
        payload = codec.encode(array)
        ends = scalable.layer_ends(directory.parse_directory(payload)) or [len(payload)]
        pixels = [codec.decode(payload[:end]) for end in ends]
        symbols = symbols_of_layers(array, channel_axis, codec.parameters.source(), len(ends))
    path.write_bytes(payload)
    np.savez_compressed(path.with_suffix(".npz"), symbols=symbols, pixels=np.stack(pixels))
    print(f"{path.name}: {len(payload)} bytes, {len(ends)} layers, symbols {symbols.shape}")


def symbols_of_layers(array, channel_axis, source, layers):
    """The symbols of this layer that the network makes of the content of a chunk; none if its planes have one value each."""
    content, _ = trim(array, check_chunk(array.shape, array.dtype, channel_axis))
    axes, most = check_chunk(content.shape, content.dtype, channel_axis), max(source.qualities)
    layout = Layout.of(content, axes)
    if constant(content, axes) is not None or not ChunkSpec(content.shape, content.dtype.name, axes, layout).images:
        return np.zeros((0, 12, 1, 1), np.int32)
    return layered.quantised(analyse(content, axes, layout, source, most), most - layers)


def write_sections(name, header, listed):
    path = GOLDEN / f"{name}.cae"
    if kept(path):
        return
    payload = directory.pack(header, listed)
    path.write_bytes(payload)
    np.savez_compressed(
        path.with_suffix(".npz"),
        family=header.family,
        shape=header.shape,
        channel_axis=-1 if header.channel_axis is None else header.channel_axis,
        fortran=header.fortran,
        dtype=header.dtype,
        ids=[section.id for section in listed],
        lengths=[len(section.data) for section in listed],
        data=np.frombuffer(b"".join(section.data for section in listed), np.uint8),
    )
    print(f"{path.name}: {len(payload)} bytes, {len(listed)} sections")


if __name__ == "__main__":
    main()
