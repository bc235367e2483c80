"""Small random networks, their probability tables and weights files: seeded, so nothing depends on the shipped weights."""

import re
from itertools import pairwise

import numpy as np

from caecodec import weights
from caecodec.entropy.binary_context import MODEL as BINARY_CONTEXT
from caecodec.entropy.binary_context_tables import CHANNEL_STEP, SIDE, BinaryContextTables, tap_steps
from caecodec.entropy.context import MODEL as CONTEXT
from caecodec.entropy.context_tables import ContextTables
from caecodec.entropy.layered import MODEL as LAYERED
from caecodec.entropy.layered_tables import STEADY, LayeredTables, RefinementTables
from caecodec.entropy.tables import TOTAL, Tables
from caecodec.models.depthwise.architecture import Architecture, Transform
from caecodec.models.residual_attention import file as residual_attention


def seeded_tensors(seed, hidden=8, latent=12, qualities=(1, 4)):
    """The tensors of a weights file of a small random network whose symbols are of every size, escapes among them."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, first, last in (("g_a", 3, latent), ("g_s", latent, 3)):
        widths = [first, hidden, hidden, hidden, last]
        for i in range(4):
            shape = (widths[i + 1], widths[i]) if name == "g_a" else (widths[i], widths[i + 1])
            weight = rng.normal(size=(*shape, 5, 5)) * 0.6 / np.sqrt(widths[i] * (25 if name == "g_a" else 6))
            tensors[f"{name}.{2 * i}.weight"] = weight.astype(np.float16)
            tensors[f"{name}.{2 * i}.bias"] = (0.1 * rng.normal(size=widths[i + 1])).astype(np.float16)
        for i in range(3):
            tensors[f"{name}.{2 * i + 1}.beta"] = (0.5 + rng.random(hidden)).astype(np.float16)
            tensors[f"{name}.{2 * i + 1}.gamma"] = (0.1 * rng.random((hidden, hidden))).astype(np.float16)
    for q in qualities:
        for name, channels in (("g_a", latent), ("g_s", 3)):
            for i in range(4):
                width = hidden if i < 3 else channels
                scale = np.full(width, 1.0 if i < 3 or name == "g_s" else 30.0 * q)
                tensors[f"q{q}.{name}.{2 * i}.scale"] = (scale * (1 + 0.1 * rng.normal(size=width))).astype(np.float32)
                tensors[f"q{q}.{name}.{2 * i}.shift"] = (0.05 * rng.normal(size=width)).astype(np.float32)
        tensors[f"q{q}.latent_scale"] = (1 / (10.0 * q) * (1 + 0.1 * rng.normal(size=latent))).astype(np.float32)
        tensors.update(seeded_static(rng, latent, q))
    return tensors


def seeded_static(rng, latent, q):
    """Random static tables of one quality."""
    mass, length, offset = [], [], []
    for channel in range(latent):
        entries = int(rng.integers(3, 40)) if channel else 2
        share = rng.dirichlet(np.ones(entries))
        table = np.maximum(1, (share * (2**24 - entries)).astype(np.int64))
        table[table.argmax()] += 2**24 - table.sum()
        mass.append(table)
        length.append(entries)
        offset.append(-(entries // 2))
    return {
        f"q{q}.static.mass": np.concatenate(mass).astype(np.int32),
        f"q{q}.static.length": np.array(length, np.int32),
        f"q{q}.static.offset": np.array(offset, np.int32),
    }


def seeded_depthwise(seed, latent=12, qualities=(1, 4)):
    """The tensors of a small random network of the family depthwise-residual, with an analysis unlike its synthesis.

    Its pixels are unlike the image, but seldom outside 0 to 1.
    """
    rng = np.random.default_rng(seed)
    sizes = Architecture(Transform(12, 2, 14, 1), Transform(10, 1, 13, 2), latent)
    tensors, modulated = {}, []

    def linear(name, outputs, inputs, gain=1.0):
        tensors[f"{name}.weight"] = (gain * rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float16)
        modulated.append((name, outputs))

    for side, transform in (("g_a", sizes.analysis), ("g_s", sizes.synthesis)):
        for name, channels in transform.blocks():
            block = f"{side}.{name}"
            linear(f"{block}.spatial_in", channels, channels)
            tensors[f"{block}.depthwise.weight"] = (rng.normal(size=(channels, 3, 3)) / 3).astype(np.float16)
            linear(f"{block}.channel_in", 2 * channels, channels)
            for part, inputs in (("spatial_out", channels), ("channel_out", 2 * channels)):
                weight = 0.2 * rng.normal(size=(channels, inputs)) / np.sqrt(inputs)
                tensors[f"{block}.{part}.weight"] = weight.astype(np.float16)
    linear("g_a.patch", 12, 192, 2.0)
    linear("g_a.merge", 14, 48)
    linear("g_a.latent", latent, 14)
    linear("g_s.latent", 13, latent)
    linear("g_s.split", 40, 13)
    linear("g_s.patch", 192, 10, 0.05)
    for q in qualities:
        for name, outputs in modulated:
            gain = 3.0 * q if name == "g_a.latent" else 1.0
            tensors[f"q{q}.{name}.scale"] = (gain * (1 + 0.1 * rng.normal(size=outputs))).astype(np.float32)
            middle = 0.5 if name == "g_s.patch" else 0.0
            tensors[f"q{q}.{name}.shift"] = (middle + 0.05 * rng.normal(size=outputs)).astype(np.float32)
        tensors[f"q{q}.latent_scale"] = (1 / (3.0 * q) * (1 + 0.1 * rng.normal(size=latent))).astype(np.float32)
        tensors.update(seeded_static(rng, latent, q))
        tensors.update(CONTEXT.store(seeded_context(seed + q, latent), q))
    return tensors


def seeded_binary(seed, latent=12, qualities=(1, 4)):
    """The tensors of a small random network of the family binary; quality 4 uses all latent channels, others the first half."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for side, widths in (("g_a", (3, 6, 8, 2 * latent)), ("g_s", (2 * latent, 9, 7, 3))):
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            name = f"{side}.{i}"
            shape = (outputs, inputs) if side == "g_a" else (inputs, outputs)
            weight = rng.normal(size=(*shape, 5, 5)) / np.sqrt(inputs * (25 if side == "g_a" else 6))
            tensors[f"{name}.weight"] = weight.astype(np.float16)
            if name != "g_s.2":
                tensors[f"{name}.mean"] = (0.1 * rng.normal(size=outputs)).astype(np.float32)
                tensors[f"{name}.variance"] = (0.5 + rng.random(outputs)).astype(np.float32)
            for q in qualities:
                gain, middle = (0.15, 0.5) if name == "g_s.2" else (1.0, 0.0)
                tensors[f"q{q}.{name}.scale"] = (gain * (1 + 0.1 * rng.normal(size=outputs))).astype(np.float32)
                tensors[f"q{q}.{name}.shift"] = (middle + 0.1 * rng.normal(size=outputs)).astype(np.float32)
    for q in qualities:
        tensors[f"q{q}.latent_scale"] = (1 + 0.1 * rng.normal(size=2 * latent)).astype(np.float32)
        tensors[f"q{q}.active"] = (np.arange(latent) < (latent if q == 4 else latent // 2)).astype(np.uint8)
        tensors.update(seeded_static(rng, latent, q))
        tensors.update(CONTEXT.store(seeded_context(seed + q, latent), q))
    return tensors


def seeded_residual_attention(seed, hidden=6, latent=12, qualities=(1, 4)):
    """The tensors of a small random network of the family residual-attention.

    Its pixels are unlike the image, but seldom outside 0 to 1.
    """
    rng = np.random.default_rng(seed)
    plain, modulated = residual_attention.shapes(hidden, latent)
    tensors = {}
    for name, shape in plain.items():
        if name.endswith(".beta"):
            value = 0.5 + rng.random(shape)
        elif name.endswith(".gamma"):
            value = 0.1 * rng.random(shape)
        elif name.endswith(".bias"):
            value = 0.1 * rng.normal(size=shape)
        else:
            value = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        tensors[name] = value.astype(np.float16)
    last = "g_s.7.shortcut"
    tensors[f"{last}.weight"] = (0.15 * tensors[f"{last}.weight"]).astype(np.float16)
    tensors[f"{last}.bias"] = (0.5 + 0.05 * rng.normal(size=12)).astype(np.float16)
    for q in qualities:
        for name, (outputs, *_) in modulated.items():
            gain = 10.0 * q if name == "g_a.latent" else 0.7 if name.startswith("g_a") else 0.1 if ".7." in name else 0.4
            tensors[f"q{q}.{name}.scale"] = (gain * (1 + 0.1 * rng.normal(size=outputs))).astype(np.float32)
            tensors[f"q{q}.{name}.shift"] = (0.05 * rng.normal(size=outputs)).astype(np.float32)
        tensors[f"q{q}.latent_scale"] = (1 / (10.0 * q) * (1 + 0.1 * rng.normal(size=latent))).astype(np.float32)
        tensors.update(seeded_static(rng, latent, q))
        tensors.update(CONTEXT.store(seeded_context(seed + q, latent), q))
    return tensors


def seeded_context(seed, latent=12, classes=4, tables=6, reach=7):
    """Random context tables with differences of both kinds, and radii from 0 to `reach`."""
    rng = np.random.default_rng(seed)
    mass = 1 + rng.integers(0, 2**18, (tables, reach + 2)) // 4 ** np.minimum(np.arange(reach + 2), 9)
    mass[:, 0] = TOTAL - 2 * mass[:, 1:-1].sum(axis=1) - mass[:, -1]
    magnitude = np.arange(latent)[:, None]  # predictions grow with the number of channels before
    return ContextTables(
        order=rng.permutation(latent),
        difference=rng.permutation(np.arange(latent) % 4 % 3),
        radius=rng.permutation(np.arange(latent) % (reach + 1)),
        weight=rng.integers(-128, 128, latent * (latent - 1)),
        threshold=np.sort(rng.integers(-2000, 2000, (latent, classes - 1)) * magnitude, axis=1),
        table=rng.integers(0, tables, (latent, classes)),
        mass=mass,
    )


def seeded_layers(seed, latent=12, layers=4, classes=5, masses=9):
    """Random tables of layers, with groups of several sizes, and the smallest and the largest mass among those of each."""
    refinements = []
    for layer in range(2, layers + 1):
        rng = np.random.default_rng((seed, layer))
        group = np.unique(np.append(0, rng.integers(0, latent, 3)))
        starts = np.repeat(group, np.diff(np.append(group, latent)))
        mass = 2 * rng.integers(1, TOTAL // 2, masses)
        mass[:2] = 2, TOTAL - 2
        refinements.append(
            RefinementTables(
                order=rng.permutation(latent),
                group=group,
                below=rng.integers(-200, 201, (latent, 2 * latent)),
                before=rng.integers(-200, 201, 2 * starts.sum()),
                threshold=np.sort(rng.integers(-60000, 60000, (latent, classes - 1)), axis=1),
                zero=rng.integers(0, masses, (latent, classes)),
                steady=rng.integers(0, masses, (latent, STEADY)),
                mass=mass,
            )
        )
    return LayeredTables(seeded_context(seed, latent), tuple(refinements), 0)


def lower(tables, layers):
    """The tables of the first layers."""
    return LayeredTables(tables.base, tables.refinements[: layers - 1], tables.layers - layers)


def seeded_binary_context(seed, coded, taps=5, classes=6):
    """Random binary-context tables of channels that are coded, or not (M,); taps are of all places that the format allows."""
    rng = np.random.default_rng(seed)
    channels = 2 * int(np.sum(coded))
    channel = rng.integers(0, np.arange(channels)[:, None] + 1, (channels, taps))
    place = rng.integers(0, SIDE**2, (channels, taps))
    late = tap_steps(place) >= CHANNEL_STEP * (np.arange(channels)[:, None] - channel)
    place[late] = rng.integers(0, SIDE + 4, np.count_nonzero(late))  # above, and not of the same step
    return BinaryContextTables(
        coded=np.asarray(coded, np.int64),
        channel=channel,
        place=place,
        weight=rng.integers(-200, 200, (channels, taps)),
        bias=rng.integers(-200, 200, channels),
        mass=np.sort(rng.integers(1, TOTAL, (channels, classes)), axis=1),
    )


def save_seeded(path, seed=0, context=False, **about):
    """A weights file of such a network; one with context tables has two channels that are always zero, coded last."""
    qualities = about.pop("qualities", (1, 4))
    about = {"name": path.stem, "family": "cae", "metric": "mse", **about}
    tensors = seeded_tensors(seed, qualities=qualities)
    for quality in qualities if context else ():
        tables = seeded_context(seed + quality)
        tensors.update(CONTEXT.store(tables, quality))
        for part in ("scale", "shift"):
            tensors[f"q{quality}.g_a.6.{part}"][tables.order[-2:]] = 0
    return weights.save(path, tensors, qualities=qualities, **about)


def save_depthwise(path, seed=5, qualities=(1, 4)):
    """A weights file of such a network."""
    tensors = seeded_depthwise(seed, qualities=qualities)
    return weights.save(path, tensors, name=path.stem, family="depthwise-residual", metric="mse", qualities=qualities)


def save_layers(path, seed=9, layers=4):
    """A weights file of layers of a small network; two channels are always zero, and more are in lower layers."""
    qualities = tuple(range(1, layers + 1))
    network = seeded_depthwise(seed, qualities=qualities)
    tensors = {name: value for name, value in network.items() if not re.search(r"\.(static|context)\.", name)}
    rng, tables = np.random.default_rng(seed), seeded_layers(seed, layers=layers)
    order = tables.refinements[-1].order
    gain = np.geomspace(6, 0.02, len(order), dtype=np.float32)
    gain[-2:] = 0
    tensors[f"q{layers}.g_a.latent.scale"][order] *= gain
    tensors[f"q{layers}.g_a.latent.shift"][order] *= gain
    scale = tensors[f"q{layers}.latent_scale"] / 2
    for q in qualities:
        tensors[f"q{q}.latent_scale"] = (scale * (1 + 0.05 * rng.normal(size=len(order)))).astype(np.float32)
        tensors.update(LAYERED.store(tables, q))
    return weights.save(path, tensors, name=path.stem, family="depthwise-residual", metric="mse", qualities=qualities)


def save_binary(path, seed=7, qualities=(1, 4), bits=False):
    """A weights file of such a network; one with binary-context tables for bits, which at quality 1 miss a channel's bits."""
    tensors = seeded_binary(seed, qualities=qualities)
    for quality in qualities if bits else ():
        coded = tensors[f"q{quality}.active"].copy()
        if quality == 1:
            coded[[3, 9]] = 0, 1
        tensors.update(BINARY_CONTEXT.store(seeded_binary_context(seed + quality, coded), quality))
    return weights.save(path, tensors, name=path.stem, family="binary", metric="mse", qualities=qualities)


def save_residual_attention(path, seed=7, qualities=(1, 4)):
    """A weights file of such a network."""
    tensors = seeded_residual_attention(seed, qualities=qualities)
    return weights.save(path, tensors, name=path.stem, family="residual-attention", metric="mse", qualities=qualities)


def static_tables(seed=0):
    tensors = seeded_tensors(seed)
    return Tables(*(tensors[f"q1.static.{part}"].astype(np.int64) for part in ("mass", "length", "offset")))


TABLES = static_tables()
