"""The README's commands and examples, run as written."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import tifffile
from helpers.paths import ROOT
from PIL import Image

README = (ROOT / "README.md").read_text()
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    for name in ("astronaut", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()[:272, 100:356]).save(folder / "photos" / f"{name}.png")
    cells = skimage.data.camera()[:300, :300] * np.arange(40, 240, 100, dtype=np.uint16)[:, None, None]
    tifffile.imwrite(folder / "cells.ome.tif", cells, photometric="minisblack", metadata={"axes": "CYX"})
    grey = 4 * skimage.data.camera().astype("<u2")
    video = np.concatenate(
        [part.ravel() for i in range(2) for part in (grey[i:, :64][:48], grey[i:, :32][:24], grey[:24, :32])]
    )
    video.tofile(folder / "film_64x48_25_10bit.yuv")
    return folder


def run(command, folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_python(workplace):
    """All python blocks, one after the other in one process."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 5
    output = run([sys.executable, "-c", "\n".join(blocks)], workplace)
    assert "ConvolutionalAutoencoder(quality=4" in output
    assert (workplace / "v3.zarr" / "zarr.json").exists()


def test_commands(workplace):
    """The caecodec commands, in their order; training takes a few steps instead of minutes, evaluation two qualities."""
    lines = [re.sub(r"--minutes \d+", "--steps 2", line) for line in SHELL if line.startswith("caecodec ")]
    commands = [re.sub("^caecodec evaluate.*", r"\g<0> -q 1,4", line) for line in lines]
    assert len(commands) >= 4
    outputs = [run([sys.executable, "-m", *shlex.split(command)], workplace) for command in commands]
    assert any("bits per pixel" in output for output in outputs)
    assert (workplace / "decoded" / "astronaut.png").exists()
    assert (workplace / "coffee.cae").exists()
    assert tifffile.imread(workplace / "cells-again.ome.tif").shape == (2, 300, 300)
    assert (workplace / "cells-small.ome.zarr" / "s0").is_dir()
    assert (workplace / "film.zarr" / "u").is_dir()
    assert (workplace / "film.y4m").stat().st_size > (workplace / "film_64x48_25_10bit.yuv").stat().st_size
    assert (workplace / "evaluation" / "report.html").exists()


def test_quickstart(workplace):
    (line,) = [line for line in SHELL if "examples/quickstart.py" in line]
    command = line.split("&& ")[1]
    assert command == "python examples/quickstart.py"
    output = run([sys.executable, str(ROOT / "examples" / "quickstart.py"), "quick"], workplace)
    assert "astronaut" in output
    assert Image.open(workplace / "quick" / "before_after.png").size == (1024, 512)


@pytest.mark.parametrize("script", ["encode.py", "decode.py"])
def test_conversion_scripts(workplace, script):
    run([sys.executable, str(ROOT / "examples" / "encode.py"), "photos", "-o", f"for-{script}", "-q", "1"], workplace)
    if script == "decode.py":
        run([sys.executable, str(ROOT / "examples" / "decode.py"), f"for-{script}", "-o", "again"], workplace)
        assert (workplace / "again" / "coffee.png").exists()
    assert (workplace / f"for-{script}" / "coffee.ome.zarr").is_dir()


def test_generation_loss(workplace):
    folder = workplace / "rewritten"
    folder.mkdir()
    Image.fromarray(skimage.data.astronaut()[:128, :128]).save(folder / "a.png")
    output = run(
        [sys.executable, str(ROOT / "examples" / "generation_loss.py"), str(folder), "-q", "3", "--chunk", "64"], workplace
    )
    once, *later = (float(cell) for cell in output.splitlines()[-1].strip("| ").split(" | ")[1:])
    assert once > 25
    assert all(value < once for value in later)


def test_chunk_borders(workplace):
    folder = workplace / "bordered"
    folder.mkdir()
    Image.fromarray(skimage.data.astronaut()[:128, :128]).save(folder / "a.png")
    command = [sys.executable, str(ROOT / "examples" / "chunk_borders.py"), str(folder), "-q", "1", "--chunk", "64"]
    _, quality, ratio, _ = run(command, workplace).splitlines()[-1].split("|")
    assert int(quality) == 1
    assert 0.8 < float(ratio) < 4


def test_every_command_option_and_setting_is_described():
    from caecodec import settings
    from caecodec.cli.main import COMMANDS

    for command in COMMANDS:
        assert f"caecodec {command.__name__.rsplit('.', 1)[-1].replace('_', '-')} " in README
    for name in settings.Settings.__dataclass_fields__:
        assert f"`CAECODEC_{name.upper()}`" in README


def test_links_lead_somewhere():
    links = [target for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]
    assert links
    headings = {re.sub("[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall("(?m)^#+ (.*)", README)}
    for target in links:
        assert target[1:] in headings if target.startswith("#") else (ROOT / target).exists(), target
