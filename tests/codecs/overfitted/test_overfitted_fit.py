"""Fitting: gradients against autograd, rates against real bytes, and what fit() promises."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

import caecodec
from caecodec.codecs.overfitted import fit as fitting
from caecodec.codecs.overfitted import wavefront
from caecodec.codecs.overfitted.architecture import DECODERS, LOP, MOP, OFFSETS, level_sizes
from caecodec.codecs.overfitted.fit import PRESETS, fit
from caecodec.codecs.overfitted.gradients import Objective
from caecodec.codecs.overfitted.parameters import LMBDAS
from caecodec.codecs.overfitted.reports import Progress
from caecodec.codecs.overfitted.synthesis import synthesise

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(chunks=1, count=1, channels=3, height=48, width=64):
    """Parts of photographs (chunks, count, channels, height, width) in [0, 1], each another."""
    sources = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    made = np.empty((chunks, count, channels, height, width), np.float32)
    for i in range(chunks):
        for j in range(count):
            source, corner = sources[(i + j) % 4], 60 + 40 * j
            made[i, j] = source[corner : corner + height, 150 : 150 + width, :channels].transpose(2, 0, 1) / np.float32(255)
    return made


def tensors(network):
    return {name: torch.from_numpy(value)[None] for name, value in network.floats().items()}


def atlas(objective, latents):
    """Latents (m, rows, columns) of each level as the objective takes them."""
    array = torch.zeros(objective.shape, dtype=torch.float32)
    for level, values in enumerate(latents):
        objective.atlas.level(array, level)[...] = torch.from_numpy(values)
    return array


def measured(picture, fitted, lmbda):
    """Mean squared error and bits per pixel of a fitted chunk (m, C, height, width), by its stored network."""
    objective = Objective(torch.from_numpy(picture[None]), lmbda)
    distortion, rate = objective.measure(atlas(objective, fitted.latents), tensors(fitted.network))
    return float(distortion), float(rate)


def loss(picture, fitted, lmbda):
    distortion, rate = measured(picture, fitted, lmbda)
    return distortion + lmbda * rate


def equal(one, other):
    """Whether two fitted chunks are stored alike."""
    return one.network.section() == other.network.section() and all(map(np.array_equal, one.latents, other.latents))


# The objective and its gradients, against the same in plain operations that autograd differentiates


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


# What is fitted


@cache
def one(preset="instant", seed=0, quality=3):
    return fit(pictures(), LOP, LMBDAS[quality - 1], preset, seed)[0]


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


def test_the_picture_is_recognised():
    distortion, rate = measured(pictures()[0], one(), LMBDAS[2])
    assert distortion < pictures()[0].var((1, 2)).mean() / 5
    assert 0 < rate < 3


def test_latents_are_of_each_level():
    assert [level.shape for level in one().latents] == [(1, *size) for size in level_sizes(48, 64)]
    assert {level.dtype for level in one().latents} == {np.dtype(np.int32)}


def test_the_seed_decides():
    again = fit(pictures(), LOP, LMBDAS[2], "instant", 0)[0]
    assert equal(one(), again)
    assert not equal(one(), one(seed=1))


def test_a_chunk_does_not_depend_on_what_else_is_encoded():
    """On the CPU; in a batch sums are rounded in another order, and fits magnify that."""
    codec = caecodec.OverfittedAutoencoder(preset="instant", quality=3, gpu=False)
    chunks = [np.rint(255 * np.moveaxis(image[0], 0, -1)).astype(np.uint8) for image in pictures(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(codec.encode, chunks)) == [codec.encode(chunk) for chunk in chunks]


def test_a_batch_is_as_good_as_its_chunks_alone():
    images = pictures(3)
    for image, together in zip(images, fit(images, LOP, LMBDAS[2], "faster"), strict=True):
        (alone,) = fit(image[None], LOP, LMBDAS[2], "faster")
        assert loss(image, together, LMBDAS[2]) == pytest.approx(loss(image, alone, LMBDAS[2]), rel=0.15)


def test_more_iterations_are_better():
    assert loss(pictures()[0], one("faster"), LMBDAS[2]) < loss(pictures()[0], one(), LMBDAS[2])


def test_quality_is_ordered():
    lowest, highest = (measured(pictures()[0], one(quality=quality), 0) for quality in (1, 6))
    assert lowest[0] > highest[0]
    assert lowest[1] < highest[1]


def test_a_given_network_stays(monkeypatch):
    network = one().network
    before = copy.deepcopy(network.integers)
    fitted = fit(pictures(2), LOP, LMBDAS[2], "instant", network=network)
    for chunk, image in zip(fitted, pictures(2), strict=True):
        assert chunk.network.section() == network.section()
        error = np.mean((synthesise(network, chunk.latents) - image) ** 2)
        assert error < image.var((1, 2)).mean() / 3
    for name, value in before.items():
        np.testing.assert_array_equal(network.integers[name], value)


def test_progress():
    told = []
    fit(pictures(2), LOP, LMBDAS[2], "instant", report=told.append)
    assert len(told) > 1
    assert all(isinstance(progress, Progress) for progress in told)
    iterations = [progress.iteration for progress in told]
    assert iterations == sorted(set(iterations))
    assert {progress.iterations for progress in told} == {PRESETS["instant"].iterations}
    assert 0 < iterations[0] <= iterations[-1] <= PRESETS["instant"].iterations
    assert told[-1].psnr > told[0].psnr
    assert all(np.isfinite((progress.bpp, progress.psnr)).all() for progress in told)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(pictures(), LOP, LMBDAS[2], "instant", report=stop)


def break_gradients(monkeypatch, images, times):
    """The gradients of these chunks' pictures are no numbers, in so many calls."""
    real, left = Objective.losses, [times]

    def losses(self, latents, p):
        found = real(self, latents, p)
        if left[0]:
            left[0] -= 1
            bad = [any(np.array_equal(chunk.transpose(0, 1), image) for image in images) for chunk in self.pictures]
            for gradient in (found.latents, *found.parameters.values()):
                gradient[bad] = np.nan
        return found

    monkeypatch.setattr(Objective, "losses", losses)


@pytest.mark.parametrize("bad", [[0, 1], [1]], ids=["all", "one of two"])
def test_a_fit_that_fails_is_tried_again(monkeypatch, bad):
    images = pictures(2)
    good = fit(images, LOP, LMBDAS[2], "instant")
    break_gradients(monkeypatch, images[bad], 1)
    fitted = fit(images, LOP, LMBDAS[2], "instant")
    for number, (image, chunk, other) in enumerate(zip(images, fitted, good, strict=True)):
        assert loss(image, chunk, LMBDAS[2]) < 2 * loss(image, other, LMBDAS[2])
        assert equal(chunk, other) == (number not in bad)


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
def test_a_fit_that_always_fails(monkeypatch, given):
    network = one().network if given else None
    break_gradients(monkeypatch, pictures(2)[1:], 10**9)
    first, second = fit(pictures(2), LOP, LMBDAS[2], "instant", network=network)
    assert first is not None
    assert second is None


def test_noise_is_better_stored_as_it_is():
    """A network has no level of latents for each channel."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image = np.moveaxis(noise, -1, 0)[None, None] / np.float32(255)
    (fitted,) = fit(image, LOP, LMBDAS[7], "instant")
    assert loss(image[0], fitted, LMBDAS[7]) > 24 * LMBDAS[7]
    codec = caecodec.OverfittedAutoencoder(preset="instant", quality=8, gpu=False)
    with pytest.warns(RuntimeWarning, match="stored without loss"):
        payload = codec.encode(noise)
    np.testing.assert_array_equal(codec.decode(payload), noise)


def test_steps_that_are_too_large_fail(monkeypatch):
    schedule = replace(fitting.SHORT, network_rate=1e6)
    monkeypatch.setitem(PRESETS, "instant", replace(PRESETS["instant"], schedule=schedule))
    monkeypatch.setattr(fitting, "MOST_NETWORK_RATE", 1e6)
    assert fit(pictures(), LOP, LMBDAS[2], "instant") == [None]


def test_presets_take_longer_and_longer():
    iterations = [preset.iterations for preset in PRESETS.values()]
    assert iterations == sorted(set(iterations))


@pytest.mark.parametrize("pixels", [1, 64**2, 128**2, 256**2, 512 * 768, 2**26])
def test_trials_take_less_time_than_what_follows(pixels):
    counts = [fitting.candidates(preset, pixels) for preset in PRESETS.values()]
    assert counts == sorted(counts)
    assert counts[-1] == fitting.CANDIDATES
    for preset in PRESETS.values():
        assert preset.iterations <= fitting.work(preset, pixels) <= 4 / 3 * preset.iterations


@pytest.mark.parametrize(
    ("count", "height", "width"), [(1, 512, 768), (1, 40, 50), (100, 64, 64), (300, 16, 16), (5, 128, 1), (9, 200, 300)]
)
def test_trials_are_for_no_more_than_is_counted(count, height, width):
    """Many pictures of a chunk as well: time and memory are reckoned by it."""
    part = fitting._middle(torch.zeros(2, count, 3, height, width))
    assert part.shape[0] == 2
    assert 0 < part[0, :, 0].numel() <= fitting._tried(count * height * width)


@pytest.mark.parametrize("count", [1, 2])
def test_the_best_candidate_is_chosen(monkeypatch, count):
    """For each chunk its own; by the middle of all its pictures."""
    images = pictures(2, count, height=160, width=192)
    images[1] /= 16  # dark
    bright, dark = (fit(image[None], LOP, LMBDAS[2], "instant")[0].network.floats() for image in images)
    bad = fitting.initial(LOP, 3, 1, torch.Generator().manual_seed(0))
    drawn = {
        name: torch.cat((value, *(torch.from_numpy(known[name])[None] for known in (dark, bright))))
        for name, value in bad.items()
    }
    monkeypatch.setattr(fitting, "initial", lambda decoder, channels, number, generator: copy.deepcopy(drawn))
    monkeypatch.setattr(fitting, "candidates", lambda preset, pixels: 3)
    monkeypatch.setattr(fitting, "TRIAL", 10)
    run = fitting._Run(torch.from_numpy(images), LOP, LMBDAS[2], PRESETS["instant"], 0, None, None)
    run._choose(1.0)
    for chunk, known in enumerate((bright, dark)):
        distances = [
            sum(float((run._parameters[name][chunk] - torch.from_numpy(one[name])).square().sum()) for name in one)
            for one in (bright, dark)
        ]
        assert np.argmin(distances) == chunk, known
