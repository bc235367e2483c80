"""Gradients of a fit against autograd, its rates against real bytes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.fits import measured, pictures

from caecodec.codecs.overfitted import fit as fitting
from caecodec.codecs.overfitted import wavefront
from caecodec.codecs.overfitted.architecture import DECODERS, LOP, MOP, OFFSETS, level_sizes
from caecodec.codecs.overfitted.fit import fit
from caecodec.codecs.overfitted.gradients import Objective
from caecodec.codecs.overfitted.parameters import LMBDAS
from caecodec.codecs.overfitted.synthesis import synthesise


def plain_rate(levels, p, contexts):
    """Bits of one chunk's latents, (m, rows, columns) of each level."""
    bits = 0
    for level, values in enumerate(levels):
        _, rows, columns = values.shape
        around = F.pad(values, (3, 3, 3, 3))
        inputs = [around[:, 3 + y : 3 + y + rows, 3 + x : 3 + x + columns] for y, x in OFFSETS[:contexts]]
        if level == len(levels) - 1:
            inputs.append(torch.zeros_like(values))
        else:
            parents = F.interpolate(levels[level + 1].abs()[None], scale_factor=2, mode="nearest")[0]
            inputs.append(parents[:, :rows, :columns])
        x = torch.stack(inputs, -1)
        hidden = torch.relu(x + F.linear(x, p["arm_w1"], p["arm_b1"]))
        hidden = torch.relu(hidden + F.linear(hidden, p["arm_w2"], p["arm_b2"]))
        out = F.linear(hidden, p["arm_w3"], p["arm_b3"]) + F.linear(x, p["arm_ws"])
        scale = 2 ** out[..., 1].clamp(-5, 10)
        distribution = torch.distributions.Laplace(out[..., 0], scale)
        mass = distribution.cdf(values + 0.5) - distribution.cdf(values - 0.5)
        bits = bits - torch.log2(mass.clamp(min=2.0**-16)).sum()
    return bits


def plain_pictures(levels, p):
    """The pictures (m, C, height, width) of one chunk's latents."""
    planes = levels[-1][:, None] / 16
    for level in reversed(range(len(levels) - 1)):
        a, b, c, d = p["up"][level]
        line = torch.stack((a, b, c, d, d, c, b, a))
        kernel = torch.outer(line, line).expand(planes.shape[1], 1, 8, 8)
        padded = F.pad(planes, (2, 2, 2, 2), mode="replicate")
        tall = F.conv_transpose2d(padded, kernel, stride=2, groups=planes.shape[1])
        rows, columns = levels[level].shape[1:]
        planes = torch.cat((levels[level][:, None] / 16, tall[..., 7 : 7 + rows, 7 : 7 + columns]), 1)
    hidden = torch.relu(F.conv2d(planes, p["syn_w1"][..., None, None], p["syn_b1"]))
    y = F.conv2d(hidden, p["syn_w2"][..., None, None], p["syn_b2"]) + F.conv2d(planes, p["syn_ws"][..., None, None])
    for layer, (weight, bias) in enumerate(zip(p["res_w"], p["res_b"], strict=True)):
        y = y + F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), weight, bias)
        if layer < len(p["res_w"]) - 1:
            y = torch.relu(y)
    return y


def random_parameters(decoder, channels, count, seed=0):
    """Parameters (count, ...) in float64 that leave no part of the network without effect."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        name: 0.5 / shape[-1] ** 0.5 * torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        for name, shape in decoder.shapes(channels).items()
    }
    made["up"] = made["up"] / 4 + torch.tensor([-36, -108, 268, 900]) / 1024
    made["syn_b2"] += 0.5
    return made


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize(("chunks", "count", "channels", "height", "width"), [
    (1, 1, 3, 48, 64), (2, 1, 3, 17, 33), (2, 2, 1, 20, 11), (1, 2, 3, 9, 50), (1, 1, 3, 1, 40), (1, 1, 1, 65, 2),
    (3, 1, 1, 1, 1),
])  # fmt: skip
def test_gradients_are_those_of_autograd(decoder, chunks, count, channels, height, width):
    images = torch.from_numpy(pictures(chunks, count, channels, height, width)).double()
    lmbda = 0.01
    objective = Objective(images, lmbda)
    generator = torch.Generator().manual_seed(1)
    levels = [
        (4 * torch.randn(chunks, count, *size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size in level_sizes(height, width)
    ]
    parameters = {name: value.requires_grad_() for name, value in random_parameters(decoder, channels, chunks).items()}
    distortion, rate = [], []
    for i in range(chunks):
        chunk, p = [level[i] for level in levels], {name: value[i] for name, value in parameters.items()}
        distortion.append((plain_pictures(chunk, p) - images[i]).square().mean())
        rate.append(plain_rate(chunk, p, decoder.contexts) / (count * height * width))
    distortion, rate = torch.stack(distortion), torch.stack(rate)
    (distortion + lmbda * rate).sum().backward()

    latents = torch.zeros(objective.shape, dtype=torch.float64)
    for level, values in enumerate(levels):
        objective.atlas.level(latents, level)[...] = values.detach()
    plain = {name: value.detach() for name, value in parameters.items()}
    found = objective.losses(latents, plain)
    torch.testing.assert_close(found.distortion, distortion.detach())
    torch.testing.assert_close(found.rate, rate.detach())
    for one, other in zip(objective.measure(latents, plain), (distortion, rate), strict=True):
        torch.testing.assert_close(one, other.detach())
    assert set(found.parameters) == set(parameters)
    for name, value in parameters.items():
        close(found.parameters[name], value.grad, name)
    for level, values in enumerate(levels):
        close(objective.atlas.level(found.latents, level), values.grad, f"latents of level {level}")


def close(found, expected, what):
    """Equal to 1e-6 of the largest: constants are in single precision."""
    assert found.shape == expected.shape, what
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), what


@pytest.mark.parametrize("far", ["mean", "scale"])
def test_gradients_where_they_are_limited(far):
    """Improbable values, and scales beyond their range, have no gradient there; autograd's clamp says the same."""
    images = torch.from_numpy(pictures(height=16, width=16)).double()
    objective = Objective(images, 0.01)
    p = {name: torch.zeros(1, *shape, dtype=torch.float64) for name, shape in LOP.shapes(3).items()}
    p["arm_b3"][0] = torch.tensor([40.0, -3.0] if far == "mean" else [0.0, 11.0])
    found = objective.losses(torch.zeros(objective.shape, dtype=torch.float64), p)
    if far == "mean":
        values = sum(rows * columns for rows, columns in level_sizes(16, 16))
        assert float(found.rate) == 16 * values / 256
        assert float(found.parameters["arm_b3"].abs().max()) == 0
    else:
        assert float(found.parameters["arm_b3"][0, 1]) == 0


def test_a_channel_that_is_cut_off_is_revived():
    """It would have no gradient, for ever; the gradients of the others are the same."""
    images = torch.from_numpy(pictures(2))
    exact, reviving = Objective(images, 0.01), Objective(images, 0.01, revive=True)
    p = fitting.initial(MOP, 3, 2, torch.Generator().manual_seed(0))
    p["res_b"][1, 0, 2] = -5
    latents = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)) * exact.atlas.mask
    found, revived = (objective.losses(latents, p).parameters["res_b"][:, 0] for objective in (exact, reviving))
    assert found[1, 2] == 0
    assert revived[1, 2] < 0  # more of it is better
    found[1, 2] = revived[1, 2]
    torch.testing.assert_close(found, revived)


@pytest.mark.parametrize(("decoder", "channels", "count", "quality"), [(LOP, 3, 1, 6), (MOP, 1, 2, 4)])
def test_the_objective_is_that_of_real_bytes(decoder, channels, count, quality):
    images = pictures(1, count, channels)
    (fitted,) = fit(images, decoder, LMBDAS[quality - 1], "instant")
    distortion, rate = measured(images[0], fitted, LMBDAS[quality - 1])
    coded = wavefront.encode(fitted.network, fitted.latents)
    size = 8 * sum(map(len, coded))
    ideal = rate * count * 48 * 64
    assert 0.97 * ideal < size < 1.04 * ideal + 64  # the last words of a stream, and escapes
    (decoded,) = wavefront.decode([fitted.network], [coded], count, 48, 64)[:1]
    np.testing.assert_array_equal(decoded[0], fitted.latents[0])
    error = np.mean((synthesise(fitted.network, fitted.latents) - images[0]) ** 2)
    assert distortion == pytest.approx(error, rel=1e-4)
