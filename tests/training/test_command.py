"""caecodec train: recipes, weights that work, checkpoints."""

import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from helpers import processes
from helpers.images import random_image
from helpers.paths import ROOT, TINY
from helpers.training import photographs
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.cli.main import main
from caecodec.codecs.autoencoder.codec import encode
from caecodec.images.metrics import psnr
from caecodec.training import loop
from caecodec.training.export import export
from caecodec.training.fit_entropy import fit_entropy
from caecodec.training.layered import fit_layers
from caecodec.training.loop import Training
from caecodec.training.recipe import Recipe
from caecodec.training.train import train


def test_command_trains_weights_that_work(folder, tmp_path, capsys, monkeypatch, short_start):
    output = tmp_path / "mine.safetensors"
    command = ["train", str(folder), "-o", str(output), "--qualities", "2,4", "--steps", "3", "--crop", "64", "--batch", "4"]
    assert main([*command, "--validation", "0.34", "--init", "default"]) == 0
    printed = capsys.readouterr().out
    assert "step 3" in printed
    assert "q4" in printed
    source = weights.open_file(output, "mse", 2)
    assert source.qualities == (2, 4)
    assert source.name == "mine"
    card = output.with_suffix(".md").read_text()
    assert source.sha256 in card
    assert "4 images" in card
    assert card.count("\n| 2 | ") == 1  # measured on the two images held out
    with Image.open(output.with_suffix(".png")) as curves:
        assert curves.size == (1200, 400)
    image = random_image(100, 120, 3, seed=9)
    array = zarr.create_array(
        tmp_path / "a.zarr", data=image, chunks=(64, 64, 3), compressors=None,
        serializer=caecodec.zarr.ConvolutionalAutoencoder(quality=4, weights=output),
    )  # fmt: skip
    assert psnr(array[...], image) > 20
    recorded = dict(array.metadata.codecs[0].to_dict())["configuration"]["weights"]
    assert recorded == f"mine.safetensors@{source.sha256[:8]}"
    read = f"import zarr; zarr.open_array({str(tmp_path / 'a.zarr')!r})[...]"
    elsewhere = processes.run("-c", read, expected=1)
    assert f"digest {source.sha256[:8]}" in elsewhere.stderr
    assert "WeightsError" in elsewhere.stderr
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr")[...], array[...])

    assert main([*command, "--init", "klt"]) == 1  # exists
    assert "exists already" in capsys.readouterr().err
    longer = [*command[:6], "--steps", "5", "--crop", "64", "--batch", "4"]
    assert main([*longer, "--resume", "--overwrite", "--quiet"]) == 0
    state = torch.load(output.with_suffix(".ckpt"), weights_only=True)
    assert (state["step"], state["recipe"]["qualities"]) == (5, (2, 4))


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_both_kinds(folder, tmp_path, monkeypatch, short_start, kind):
    """All of them; and the folder of the output is made."""
    monkeypatch.chdir(tmp_path)
    output = Path("new", "folder", "mine.safetensors")
    recipe, backbone = Recipe(qualities=(4,), steps=2, crop=64, batch=1), tmp_path / "unused.pth"
    source = train([kind(folder)], kind(output), recipe, init=kind(TINY), validation=0, lpips_backbone=kind(backbone))
    assert (source.location, source.name) == (output, "mine")
    again = export(kind(output.with_suffix(".ckpt")), kind(output.with_stem("again")), [kind(folder)], crops=2)
    assert again.location == output.with_stem("again")
    fit_entropy(kind(output), 2 * [kind(folder)], kind(output.with_stem("fitted")), crops=12)
    fit_layers(kind(output), [kind(folder)], kind(output.with_stem("layers")), quality=4, layers=2, crops=2)
    names = {path.name for path in output.parent.iterdir()}
    assert {"mine.ckpt", "mine.png", "mine.md", "fitted.safetensors", "layers.safetensors"} <= names


def test_arguments_are_refused_before_the_work(folder, tmp_path):
    recipe = Recipe(qualities=(4,), steps=2, crop=64, batch=1)
    with pytest.raises(caecodec.ParameterError, match="images are 'photos' but must be a list of paths"):
        train("photos", tmp_path / "mine.safetensors", recipe)
    (tmp_path / "file").touch()
    with pytest.raises(caecodec.ParameterError, match=r"the folder of .*mine\.safetensors cannot be made: .*file"):
        train([folder], tmp_path / "file" / "mine.safetensors", recipe)
    with pytest.raises(caecodec.ParameterError, match=r"tiny\.safetensors is a weights file already"):
        export(TINY, tmp_path / "again.safetensors", [folder])


def test_command_trains_another_family(folder, tmp_path, capsys, short_start):
    output = tmp_path / "fast.safetensors"
    command = ["train", str(folder), "-o", str(output), "--qualities", "3", "--crop", "64", "--batch", "2", "--validation", "0"]
    assert main([*command, "--steps", "2", "--family", "depthwise-residual"]) == 0
    start = weights.resolve(weights.Spec("photo-fast"), "mse", 3).spec
    assert f"depthwise-residual starts from {start}\n" in capsys.readouterr().out
    card = output.with_suffix(".md").read_text()
    assert "| network | depthwise-residual, " in card
    assert f"| start | {start} |" in card
    assert weights.open_file(output, "mse", 3).family == "depthwise-residual"
    image = photographs()[0][:64, :64]
    assert psnr(caecodec.decode(encode(image, quality=3, metric="mse", weights=output), weights=output), image) > 24

    assert main([*command, "--steps", "3", "--resume", "--overwrite"]) == 1
    assert "but that of the checkpoint is 'depthwise-residual'; pass the same" in capsys.readouterr().err
    resumed = [*command, "--steps", "3", "--resume", "--overwrite", "--family", "depthwise-residual", "--init", "klt"]
    assert main(resumed) == 0
    assert f"continues from {output.with_suffix('.ckpt')}" in capsys.readouterr().out
    assert f"| start | {start} |" in output.with_suffix(".md").read_text()
    again = tmp_path / "again.safetensors"
    assert main(["export", str(output.with_suffix(".ckpt")), str(folder), "-o", str(again), "--crops", "2"]) == 0
    assert weights.open_file(again, "mse", 3).family == "depthwise-residual"
    assert main(["export", str(again), "-q", "3", "-o", str(tmp_path / "for-compressai.pth")]) == 1
    assert "CompressAI loads 'bmshj2018-factorized' alone" in capsys.readouterr().err


def test_ms_ssim_from_mse_weights(tmp_path, short_start):
    for number, photograph in enumerate(photographs()):
        Image.fromarray(photograph[:256, :256]).save(tmp_path / f"{number}.png")
    output = tmp_path / "similar.safetensors"
    start = str(weights.resolve(weights.Spec("default"), "mse", 3).location)
    assert main(["train", str(tmp_path), "-o", str(output), "-m", "ms-ssim", "--qualities", "3", "--steps", "2",
                 "--init", start, "--validation", "0", "--quiet"]) == 0  # fmt: skip
    assert weights.open_file(output, "mse", 3).metric == "ms-ssim"
    payload = encode(photographs()[0], quality=3, metric="ms-ssim", weights=output)
    assert psnr(caecodec.decode(payload, weights=output), photographs()[0]) > 22
    exported = tmp_path / "again.safetensors"
    assert main(["export", str(output.with_suffix(".ckpt")), str(tmp_path), "-o", str(exported), "--crops", "2"]) == 0
    assert weights.open_file(exported, "mse", 3).metric == "ms-ssim"
    few, all_of_them = (weights.read_tensors(weights.open_file(path, "mse", 3)) for path in (exported, output))
    assert not np.array_equal(few["q3.static.mass"], all_of_them["q3.static.mass"])
    with pytest.raises(caecodec.ParameterError, match="crops is 0"):
        export(output.with_suffix(".ckpt"), tmp_path / "none.safetensors", [tmp_path], crops=0)


# What the fixture short_start does, in a process of its own.
SHORT_START = """
from caecodec.models import rate
from caecodec.training import start
rate.FIT_STEPS = 10
start.RATE_CROPS = 16
"""


@pytest.mark.slow
def test_example_of_ones_own_images(tmp_path):
    """It trains the families that ship, and compares them with what ships and with JPEG 2000."""
    for name, photograph in zip(("train", "test"), photographs()[:2], strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(photograph[:256, :256]).save(tmp_path / name / "one.png")
    script, families = ROOT / "examples" / "own_images.py", ["bmshj2018-factorized", "depthwise-residual"]
    folders = tmp_path / "train", tmp_path / "test", "-o", tmp_path / "out"
    run = SHORT_START + "import runpy, sys\nrunpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = ["-c", run, script, *folders, "--minutes", "0.01", "--qualities", "2-4", "--family", *families]
    output = processes.run(*command).stdout
    header, *rows = output.splitlines()[-1 - len(families) :]
    assert "against caecodec photo mse, JPEG 2000" in header
    for row, family in zip(rows, families, strict=True):
        assert re.fullmatch(rf"{family} +0.01 +[0-9.]+  [-+][0-9.]+ %, [-+][0-9.]+ %", row)
        card = (tmp_path / "out" / f"own-{family}-0.01.md").read_text()
        assert f"| network | {family}, " in card
    assert (tmp_path / "out" / "evaluation" / "report.html").exists()


TRAINING = f"""
{SHORT_START}
import sys
from caecodec.cli.main import main
from caecodec.training import loop
loop.REPORT = 10
sys.exit(main(sys.argv[1:]))
"""


def test_interrupt_leaves_a_checkpoint(folder, tmp_path):
    output = tmp_path / "mine.safetensors"
    command = ["-u", "-c", TRAINING, "train", folder, "-o", output, "--qualities", "1", "--crop", "64", "--batch", "2",
               "--minutes", "600", "--init", "default", "--save-every", "0.01"]  # fmt: skip
    with processes.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "bmshj2018-factorized starts from default\n"
        assert process.stdout.readline().startswith("step 10")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=processes.PATIENCE)
    assert process.returncode == 130
    assert "--resume" in error
    state = torch.load(output.with_suffix(".ckpt"), weights_only=True)
    assert state["step"] >= 10
    assert not output.exists()
    with Image.open(output.with_suffix(".png")) as curves:
        assert curves.size == (1200, 400)
    assert main(["export", str(output.with_suffix(".ckpt")), str(folder), "-o", str(output), "--crops", "2"]) == 0
    assert weights.open_file(output, "mse", 1).qualities == (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qualities": (5, 6), "steps": 1}, "one network serves"),
        ({"qualities": (), "steps": 1}, "one network serves"),
        ({"qualities": (2, 2), "steps": 1}, "each once"),
        ({}, "exactly one must be above 0"),
        ({"steps": 3, "minutes": 1}, "steps is 3, minutes is 1, epochs is 0, but exactly one must be above 0"),
        ({"epochs": 3, "minutes": 1}, "exactly one must be above 0"),
        ({"steps": 1, "crop": 100}, "multiple of 32"),
        ({"steps": 1, "metric": "ms-ssim", "crop": 128}, "at least 192 for ms-ssim"),
        ({"steps": 1, "metric": "psnr"}, "metric is 'psnr'"),
        ({"steps": 1, "batch": -1}, "batch is -1"),
        ({"steps": 1, "batch": 4}, "at least 5, a crop for each quality"),
        ({"steps": 1, "lr": 0.0}, "lr is 0.0"),
    ],
)
def test_recipes_that_do_not_fit(arguments, message):
    with pytest.raises(caecodec.ParameterError, match=message):
        Recipe(**arguments)


@pytest.mark.parametrize(
    ("arguments", "memory", "crop", "batch"),
    [
        ({}, None, 128, 10),
        ({"metric": "ms-ssim"}, None, 192, 5),
        ({"qualities": (6, 7, 8)}, None, 128, 9),
        ({}, 16 * 2**30, 192, 50),
        ({"qualities": (6, 7, 8)}, 16 * 2**30, 192, 54),
        ({}, 4 * 2**30, 192, 25),
        ({"crop": 256}, 2**20, 256, 5),
        ({"batch": 7, "crop": 64}, 16 * 2**30, 64, 7),
    ],
)
def test_crops_and_batches_suit_the_device(arguments, memory, crop, batch):
    chosen = Recipe(steps=1, **arguments).on(memory)
    assert (chosen.size, chosen.crops) == (crop, batch)


def test_small_images_are_refused_before_training(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(random_image(255, 300, 3, seed=number)).save(tmp_path / "in" / f"{number}.png")
    command = ["train", str(tmp_path / "in"), "-o", str(tmp_path / "mine.safetensors"), "--steps", "9", "--crop", "64"]
    assert main(command) == 1
    output = capsys.readouterr()
    assert "no image of 256x256 pixels" in output.err
    assert "step" not in output.out
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_bad_requests(folder, tmp_path, capsys, monkeypatch, short_start):
    monkeypatch.setattr(loop, "REPORT", 5)
    output = tmp_path / "mine.safetensors"
    command = ["train", str(folder), "-o", str(output), "--qualities", "1", "--crop", "64", "--batch", "4", "--quiet"]
    for more, message in (
        (["--steps", "1", "--resume"], "there is no checkpoint"),
        (["--steps", "1", "--validation", "0.9"], "validation is 0.9"),
        (["--steps", "1", "--init", "nothing"], "no weights 'nothing' for quality 1"),
        (["--steps", "1", "--crop", "512"], "no training image has 512x512"),
        (["--steps", "100", "--lr", "1e6", "--init", "default"], "no longer finite"),
    ):
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_damaged_images_are_refused_before_training(tmp_path, capsys, monkeypatch):
    """Those that training reads and those that it holds out, by name, though their headers are sound."""
    monkeypatch.setattr(Training, "run", lambda *arguments: pytest.fail("trained"))
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    Image.fromarray(random_image(300, 300, 3)).save(whole)
    cut.write_bytes(whole.read_bytes()[:20000])
    for order in ([whole, cut], [cut, whole]):
        images = list(map(str, order))
        assert main(["train", *images, "-o", str(tmp_path / "mine.safetensors"), "--steps", "9", "--validation", "0.5"]) == 1
        assert f"{cut} cannot be read as an image" in capsys.readouterr().err
