"""The loop of training: it learns, resumes, and survives steps that are not finite."""

import errno
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.images import random_image
from helpers.training import each

import caecodec
from caecodec import settings
from caecodec.models.factorized.training.normalise import EAGER
from caecodec.training import initial, loop, report
from caecodec.training.backbone import Backbone
from caecodec.training.crops import Crops
from caecodec.training.loop import Training
from caecodec.training.loss import rate_distortion, squared_error
from caecodec.training.recipe import LMBDAS, Recipe

PICTURES = [random_image(96, 96, 3, seed=seed).repeat(4, axis=0).repeat(4, axis=1) for seed in range(3)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))]


def small_run(steps, state=None, device="cpu", compiled=False):
    """Forty steps from the principal components of photographs or from a state, or as many of them."""
    torch.manual_seed(1)
    recipe = Recipe(qualities=(2, 4), steps=40, crop=64, batch=3, lr=1e-3)
    crops = Crops(PICTURES, 64, device, recipe.seed)
    network = Backbone(recipe.qualities, dtype=torch.float32)
    if not state:
        initial.klt(network, crops.draw(50, 64).cpu(), recipe.lmbdas)
    training = Training(network, recipe, crops, device, compiled)
    if state:
        training.resume(state)
    advance(training, steps)
    return training


def advance(training, steps):
    while training.step < steps:
        training.take_step()


def loss_of(training):
    """On crops that are always the same, of the lower quality."""
    x = Crops(PICTURES, 64, "cpu", 7).draw(8, 64).to(training.device)
    with torch.no_grad():
        bpp, _, distortion = rate_distortion(
            training.backbone, x, each(8).to(x.device), squared_error, torch.Generator(x.device).manual_seed(0)
        )
    return float((bpp + LMBDAS["mse"][1] * distortion).mean())


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns_and_resumes(tmp_path, device):
    """The loss falls; and a run that was stopped and resumed takes the same steps as one that was not."""
    whole = small_run(0, device=device)
    before = loss_of(whole)
    advance(whole, 20)
    torch.save(whole.state(), tmp_path / "half.ckpt")
    advance(whole, 40)
    resumed = small_run(40, torch.load(tmp_path / "half.ckpt", weights_only=True, map_location=device), device)
    for name, value in whole.backbone.state_dict().items():
        torch.testing.assert_close(
            resumed.backbone.state_dict()[name], value, rtol=1e-4, atol=1e-5 if device == "cpu" else 1e-2
        )
    assert loss_of(whole) < 0.85 * before
    assert loss_of(resumed) == pytest.approx(loss_of(whole), rel=1e-3 if device == "cpu" else 0.05)
    if device == "cuda":
        assert whole.advance._graph is not None


def test_a_disk_that_is_full(tmp_path):
    """The error is the system's, the checkpoint before it stays, and nothing else is left."""
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    training, path = small_run(1), tmp_path / "a.ckpt"
    loop.save_checkpoint(training, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            loop.save_checkpoint(training, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", DEVICES)
def test_checkpoints_resume_on_another_kind_of_device(tmp_path, there):
    """Of random numbers it has others; all else goes on."""
    state = small_run(4, device=there).state()
    state["steps"]["device"] = "another"
    torch.save(state, tmp_path / "half.ckpt")
    resumed = small_run(5, torch.load(tmp_path / "half.ckpt", weights_only=True, map_location="cpu"))
    before = state["network"]["ga.1.weight"].cpu()
    change = (resumed.backbone.ga[1].weight.detach() - before).abs().max()
    assert 0 < change < 0.01
    moments = resumed.advance.state()["optimiser"]
    assert {float(one["step"]) for one in moments.values()} == {5.0}


def test_epochs_end_a_run_and_the_history_goes_on(tmp_path, monkeypatch):
    """An epoch draws as many pixels as the images have; a resumed run adds to the history of the first."""
    monkeypatch.setattr(loop, "REPORT", 2)
    crops = Crops(PICTURES, 64, "cpu", 0)
    of_a_step = 4 * 64**2
    epochs = 4.5 * of_a_step / len(crops.pixels)
    recipe = Recipe(qualities=(2, 4), epochs=epochs, crop=64, batch=4)
    training = Training(Backbone((2, 4), dtype=torch.float32), recipe, crops)
    training.run(lambda report: None, 1e9, lambda run: torch.save(run.state(), tmp_path / "a.ckpt"))
    assert training.step == 5
    assert training.epoch == 5 * of_a_step / len(crops.pixels)
    longer = Training(Backbone((2, 4), dtype=torch.float32), replace(recipe, epochs=1.5 * epochs), crops)
    longer.resume(torch.load(tmp_path / "a.ckpt", weights_only=True))
    longer.run(lambda report: None, 1e9, lambda run: None)
    assert [row["step"] for row in longer.history] == [2, 4, 5, 6, 7]
    assert [row["epoch"] for row in longer.history] == [step * of_a_step / len(crops.pixels) for step in (2, 4, 5, 6, 7)]
    assert {"seconds", "loss", "bpp", "psnr", "distortion"} <= set(longer.history[0])
    report.draw(longer.history, recipe, tmp_path / "a.png")
    report.draw([], recipe, tmp_path / "none.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "a.png"}


def test_training_says_so_where_there_is_no_graph():
    """A machine without CUDA cannot have one; training goes on."""
    training = small_run(0)
    training.advance._graphs, training.advance._taken = True, 3
    with pytest.warns(UserWarning, match="without a CUDA graph"):
        training.take_step()
    training.take_step()
    assert (training.step, training.advance._graph) == (2, None)
    assert training.advance.sums[:, 3].tolist() == [2, 2]


def test_training_says_so_where_nothing_compiles():
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.warns(UserWarning, match=r"without torch\.compile"),
    ):
        training = small_run(1, compiled=True)
    assert training.backbone.parts is EAGER


def test_a_step_that_is_not_finite_changes_nothing_for_good():
    training = small_run(3)
    training.crops.pixels = training.crops.pixels.float().fill_(float("nan"))
    before = {name: value.clone() for name, value in training.advance.state()["optimiser"][0].items()}
    training.take_step()
    assert training.advance.sums[:, 3].tolist() == [3, 3]
    assert all(parameter.isfinite().all() for parameter in training.backbone.parameters())
    after = training.advance.state()["optimiser"][0]
    torch.testing.assert_close(after["exp_avg"], 0.9 * before["exp_avg"])


def test_checkpoints_of_earlier_versions_are_refused():
    with pytest.raises(caecodec.ParameterError, match="earlier version"):
        small_run(0, {"network": {}, "optimiser": {}})


@pytest.mark.parametrize(("name", "value"), [("family", "depthwise-residual"), ("qualities", (1, 2, 4)), ("metric", "ms-ssim")])
def test_checkpoints_of_another_recipe_are_refused(name, value):
    state = small_run(0).state()
    state["recipe"][name] = value
    with pytest.raises(
        caecodec.ParameterError, match=rf"{name} is .* but that of the checkpoint is {re.escape(repr(value))}; pass"
    ):
        small_run(0, state)


def test_precision_follows_the_settings():
    from caecodec.training.train import _dtype

    with settings.using(precision="fp32"):
        assert _dtype("cpu") == torch.float32
    with settings.using(precision="bf16"):
        assert _dtype("cpu") == torch.bfloat16


def test_denormal_numbers_are_back_after_a_run():
    """Training takes them as zeros, which what the same thread does next must not."""
    training, seen = small_run(0), []
    training.recipe = replace(training.recipe, steps=2)
    training.run(lambda report: seen.append(float(np.float32(1e-40) * np.float32(1))), 1e9, lambda _: None)
    assert seen == [0]
    assert np.float32(1e-40) * np.float32(1) > 0
