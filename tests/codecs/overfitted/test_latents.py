"""Probabilities, order and contexts of latents, and the pictures made of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.overfitted import Sampler, picture_latents, picture_network, random_latents, random_network

from caecodec import CorruptionError
from caecodec.codecs.overfitted import laplace, wavefront
from caecodec.codecs.overfitted.architecture import DECODERS, LOP, MOP, OFFSETS
from caecodec.codecs.overfitted.arm import Arm
from caecodec.codecs.overfitted.network import Network
from caecodec.codecs.overfitted.synthesis import synthesise

SIZES = [(1, 1, 1), (2, 1, 5), (1, 7, 1), (3, 13, 22), (1, 65, 100), (2, 2, 3)]
each_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)


def by_integers(network, inputs):
    """The mu and scale of one context, in Python integers alone."""
    n = network.decoder.inputs
    p = {name: (array.astype(int) * 2 ** (12 - network.steps[name[4] == "b"])).tolist() for name, array in
         network.integers.items() if name.startswith("arm")}  # fmt: skip
    x = [256 * int(value) for value in inputs]

    def layer(w, b, x):
        sums = [sum((w[i][j] + (i == j) * 4096) * x[j] for j in range(n)) + b[i] * 256 + 2048 for i in range(n)]
        return [min(max(s // 4096, 0), 2**24) for s in sums]

    h = layer(p["arm_w2"], p["arm_b2"], layer(p["arm_w1"], p["arm_b1"], x))
    o = [sum(p["arm_w3"][i][j] * h[j] + p["arm_ws"][i][j] * x[j] for j in range(n)) + p["arm_b3"][i] * 256 for i in (0, 1)]
    return min(max((o[0] + 2**15) // 2**16, -(2**19)), 2**19), min(max((o[1] + 2**17) // 2**18 + 20, 0), 60)


@each_decoder
def test_arm_is_exact(decoder):
    """For usual parameters, and the largest there are with the largest inputs."""
    rng = np.random.default_rng(3)
    usual = random_network(decoder, scale=1)
    shapes = decoder.shapes(3)
    largest = Network(decoder, 3, (12, 12, 0, 0, 0, 0), {name: rng.choice([-(2**16), 2**16 - 1, 2**16], shape).astype(np.int32)
                                                         for name, shape in shapes.items()})  # fmt: skip
    positive = Network(decoder, 3, (0, 0, 0, 0, 0, 0), {name: np.full(shape, 16, np.int32) for name, shape in shapes.items()})
    inputs = rng.integers(-(2**15) + 1, 2**15, (3, decoder.inputs, 60)) >> rng.integers(0, 16, (3, 1, 60))
    arm = Arm([usual, largest, positive], 3, 100)
    arm.inputs[:, :, :60] = inputs
    mu, scale = arm.run(60)
    for i, network in enumerate((usual, largest, positive)):
        assert list(zip(mu[i].tolist(), scale[i].tolist(), strict=True)) == [
            by_integers(network, column) for column in inputs[i].T
        ]
    assert len(np.unique(mu[0])) > 20
    assert len(np.unique(scale[0])) > 5


class Recorder(Sampler):
    """A sampler that keeps what it is asked for, and what it gives."""

    def __init__(self, seed):
        super().__init__(seed)
        self.asked = []

    def read(self, mu, scale):
        values = super().read(mu, scale)
        self.asked.append((mu.copy(), scale.copy(), values))
        return values


@each_decoder
def test_order_and_contexts(decoder):
    """One value at a time, in the order and with the contexts of FORMAT.md."""
    pictures, height, width = 2, 5, 7
    network = random_network(decoder, seed=4, scale=0.5)
    recorder = Recorder(1)
    latents = [level[0] for level in wavefront.walk(recorder, [network], 1, pictures, height, width)]
    asked = [np.concatenate([step[part][0] for step in recorder.asked]).tolist() for part in range(3)]
    expected = []
    for k in reversed(range(7)):
        _, rows, columns = latents[k].shape

        def value(p, r, c, y=latents[k]):
            inside = 0 <= r < y.shape[1] and 0 <= c < y.shape[2]
            return int(y[p, r, c]) if inside else 0

        places = [(c + decoder.slope * r, p, r, c) for p in range(pictures) for r in range(rows) for c in range(columns)]
        for _, p, r, c in sorted(places):
            inputs = [value(p, r + dr, c + dc) for dr, dc in OFFSETS[: decoder.contexts]]
            inputs.append(abs(int(latents[k + 1][p, r >> 1, c >> 1])) if k < 6 else 0)
            expected.append((*by_integers(network, inputs), value(p, r, c)))
    assert list(zip(*asked, strict=True)) == expected


@each_decoder
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [0, 2.5])
def test_round_trip(decoder, size, scale):
    """Of one payload, and of several at once, each with its network or one for all."""
    networks = [random_network(decoder, seed=i, scale=scale) for i in range(3)]
    for used in (networks, networks[:1] * 3):
        latents = random_latents(used, *size, seed=5)
        coded = [wavefront.encode(network, [level[i] for level in latents]) for i, network in enumerate(used)]
        for part, network, i in zip(coded, used, range(3), strict=True):
            bits = wavefront.bits(network, [level[i] for level in latents])
            assert bits - 1 <= 8 * sum(map(len, part)) <= bits + 64 + 8
            alone = wavefront.decode([network], [part], *size)
            assert all((one[0] == level[i]).all() for one, level in zip(alone, latents, strict=True))
        together = wavefront.decode(used[: len({id(network) for network in used})], coded, *size)
        assert all((one == level).all() for one, level in zip(together, latents, strict=True))


def test_samples_have_all_that_can_happen():
    """Escapes, low bits and large values are in the round trips above."""
    networks = [random_network(LOP, seed=i, scale=2.5) for i in range(3)]
    latents = random_latents(networks, 1, 65, 100, seed=5)
    coded = [wavefront.encode(network, [level[i] for level in latents]) for i, network in enumerate(networks)]
    assert all(part.escapes and part.raw for part in coded)
    assert max(abs(level).max() for level in latents) > 1000


def test_latents_that_are_too_large():
    network = random_network(LOP)
    latents = [np.zeros(shape, np.int32) for shape in ((1, 3, 3), (1, 2, 2), *[(1, 1, 1)] * 5)]
    latents[0][0, 1, 1] = 2**15 - 1
    assert wavefront.decode([network], [wavefront.encode(network, latents)], 1, 3, 3)[0].max() == 2**15 - 1
    latents[0][0, 1, 1] = -(2**15)
    with pytest.raises(CorruptionError, match="latents beyond"):
        wavefront.decode([network], [wavefront.encode(network, latents)], 1, 3, 3)


def test_large_level_in_blocks():
    """An encoder goes over rows block by block; the distributions do not depend on it."""
    network = random_network(MOP, seed=1)
    latents = random_latents([network], 1, 40, 1500)
    found = wavefront.distributions(network, [level[0] for level in latents])
    recorder = Recorder(0)
    wavefront.walk(recorder, [network], 1, 1, 40, 1500)
    assert sum(int(d.mu.sum()) for d in found) == sum(int(mu.sum()) for mu, _, _ in recorder.asked)
    assert sum(int(d.scale.sum()) for d in found) == sum(int(scale.sum()) for _, scale, _ in recorder.asked)


# Synthesis


def by_torch(network, latents):
    """The synthesis of FORMAT.md by PyTorch's convolutions, in float64."""
    p = {name: torch.from_numpy(array).double() for name, array in network.floats().items()}
    s = [torch.from_numpy(level / 16)[:, None] for level in latents]
    x = s[6]
    for k in range(5, -1, -1):
        a, b, c, d = p["up"][k]
        kernels = torch.stack([torch.stack([a, c, d, b, 0 * a]), torch.stack([0 * a, b, d, c, a])])[:, None]

        def twice(x, kernels=kernels):
            m, planes, h, w = x.shape
            padded = F.pad(x, (2, 2, 0, 0), mode="replicate").reshape(-1, 1, w + 4)
            return F.conv1d(padded, kernels).transpose(1, 2).reshape(m, planes, h, 2 * w)

        x = twice(twice(x.transpose(2, 3)).transpose(2, 3))[:, :, : s[k].shape[2], : s[k].shape[3]]
        x = torch.cat([s[k], x], 1)

    def mix(x, w, b=None):
        return F.conv2d(x, p[w][:, :, None, None], p.get(b))

    y = mix(F.relu(mix(x, "syn_w1", "syn_b1")), "syn_w2", "syn_b2") + mix(x, "syn_ws")
    for r in range(network.decoder.residuals):
        y = y + F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), p["res_w"][r], p["res_b"][r])
        y = F.relu(y) if r < network.decoder.residuals - 1 else y
    return y.numpy()


@each_decoder
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [*SIZES, (1, 300, 411)], ids=str)
def test_synthesis(decoder, channels, size):
    network = random_network(decoder, channels, seed=7)
    latents = [level[0] for level in random_latents([network], *size, seed=2)]
    found = synthesise(network, latents)
    expected = by_torch(network, latents)
    assert (found.shape, found.dtype) == ((size[0], channels, *size[1:]), np.float32)
    assert abs(found - expected).max() < 1e-5 * max(1, abs(expected).max())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_real_picture(photograph, channels):
    """A network made by hand codes a photograph, in about as many bits as its probabilities promise."""
    picture = photograph[:200, 100:333, :channels].transpose(2, 0, 1)[None] / 255
    network = picture_network(MOP, channels)
    latents = picture_latents(network, picture)
    coded = wavefront.encode(network, latents)
    found = wavefront.decode([network], [coded], 1, *picture.shape[2:])
    assert all((one[0] == level).all() for one, level in zip(found, latents, strict=True))
    error = np.mean((synthesise(network, latents) - picture) ** 2)
    assert -10 * np.log10(error) > (30 if channels == 3 else 45)
    assert 8 * sum(map(len, coded)) < 5 * picture[0, 0].size
    assert laplace.lengths(latents[0], *wavefront.distributions(network, latents)[0]).mean() < 5
