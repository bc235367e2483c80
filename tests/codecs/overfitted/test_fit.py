"""What fit() promises."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.fits import measured, one, pictures

import caecodec
from caecodec.codecs.overfitted import fit as fitting
from caecodec.codecs.overfitted.architecture import LOP, level_sizes
from caecodec.codecs.overfitted.fit import PRESETS, Preset, fit
from caecodec.codecs.overfitted.gradients import Objective
from caecodec.codecs.overfitted.parameters import LMBDAS
from caecodec.codecs.overfitted.reports import FitProgress
from caecodec.codecs.overfitted.synthesis import synthesise


def loss(picture, fitted, lmbda):
    distortion, rate = measured(picture, fitted, lmbda)
    return distortion + lmbda * rate


@pytest.fixture
def short(monkeypatch):
    """A preset of so few iterations that it says nothing of how good fits become."""
    monkeypatch.setitem(PRESETS, "instant", Preset(20))


@pytest.fixture
def longer(monkeypatch):
    """A preset of twice the iterations of "instant"."""
    monkeypatch.setitem(PRESETS, "longer", Preset(300))


@pytest.fixture(scope="module")
def told():
    """What the fit of the pair reports."""
    return []


@pytest.fixture(scope="module")
def pair(told):
    """Two chunks fitted together."""
    return fit(pictures(2), LOP, LMBDAS[2], "instant", report=told.append)


def equal(one, other):
    """Whether two fitted chunks are stored alike."""
    return one.network.section() == other.network.section() and all(map(np.array_equal, one.latents, other.latents))


def test_the_picture_is_recognised():
    distortion, rate = measured(pictures()[0], one(), LMBDAS[2])
    assert distortion < pictures()[0].var((1, 2)).mean() / 5
    assert 0 < rate < 3


def test_latents_are_of_each_level():
    assert [level.shape for level in one().latents] == [(1, *size) for size in level_sizes(48, 64)]
    assert {level.dtype for level in one().latents} == {np.dtype(np.int32)}


def test_the_seed_decides(short):
    first, again, other = (fit(pictures(), LOP, LMBDAS[2], "instant", seed)[0] for seed in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


def test_a_chunk_does_not_depend_on_what_else_is_encoded(short):
    """On the CPU; in a batch sums are rounded in another order, and fits magnify that."""
    codec = caecodec.OverfittedAutoencoder(preset="instant", quality=3, gpu=False)
    chunks = [np.rint(255 * np.moveaxis(image[0], 0, -1)).astype(np.uint8) for image in pictures(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(codec.encode, chunks)) == [codec.encode(chunk) for chunk in chunks]


@pytest.mark.slow
def test_a_batch_is_as_good_as_its_chunks_alone(longer):
    images = pictures(2)
    together, _ = fit(images, LOP, LMBDAS[2], "longer")
    assert loss(images[0], together, LMBDAS[2]) == pytest.approx(loss(images[0], one("longer"), LMBDAS[2]), rel=0.15)


def test_more_iterations_are_better(longer):
    assert loss(pictures()[0], one("longer"), LMBDAS[2]) < loss(pictures()[0], one(), LMBDAS[2])


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


def test_progress(pair, told):
    assert len(told) > 1
    assert all(isinstance(progress, FitProgress) for progress in told)
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
def test_a_fit_that_fails_is_tried_again(monkeypatch, bad, pair):
    images = pictures(2)
    break_gradients(monkeypatch, images[bad], 1)
    fitted = fit(images, LOP, LMBDAS[2], "instant")
    for number, (image, chunk, other) in enumerate(zip(images, fitted, pair, strict=True)):
        assert loss(image, chunk, LMBDAS[2]) < 2 * loss(image, other, LMBDAS[2])
        assert equal(chunk, other) == (number not in bad)


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
def test_a_fit_that_always_fails(monkeypatch, given, pair, short):
    network = pair[0].network if given else None
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
    dim = pictures() / 16
    bright, dark = one().network.floats(), fit(dim, LOP, LMBDAS[2], "instant")[0].network.floats()
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
