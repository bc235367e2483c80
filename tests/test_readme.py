"""Every README's commands and snippets, run as written and in order; the examples; links and names."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import tifffile
from helpers import slides
from helpers.paths import PACKAGE, ROOT, TINY
from PIL import Image

TOP = ROOT / "README.md"
FOLDERS = (".github", "caecodec", "examples", "tests", "weights")
DOCUMENTS = [TOP, *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md")))]
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
# What is shortened: training takes two small steps for one quality instead of minutes for five, evaluation two qualities.
SHORTER = [
    (r"--minutes \d+", "--steps 2 --crop 64"),
    ("^caecodec report.*", r"\g<0> -q 1,4 --samples 1"),
    ("^caecodec train(.*) --qualities 1-5", r"caecodec train\1 --qualities 4"),
    ("^caecodec evaluate.*", r"\g<0> -q 1,4"),
]
# A command that does not end: start it, ask it for what it has, and end it as users do.
SERVE = """
import json, signal, subprocess, sys, urllib.request
server = subprocess.Popen([sys.executable, "-m", "caecodec", *{words!r}, "--port", "0"], stdout=subprocess.PIPE, text=True)
url = next(line for line in server.stdout if line.startswith("http")).split()[0]
images = json.load(urllib.request.urlopen(url + "images"))["images"]
tile = urllib.request.urlopen(url + "tiles/" + images[0]["key"] + "/0/0_0.png")
assert tile.headers["Content-Type"] == "image/png"
server.send_signal(signal.SIGINT)
assert server.wait() == 0
"""
# What the snippets of a document leave in their folder, beside what they assert.
LEAVES = {
    "README.md": ["v3.zarr/zarr.json", "sharded.zarr/zarr.json", "v2.zarr/.zarray"],
    "caecodec/codecs/autoencoder/README.md": ["image.zarr/zarr.json"],
    "caecodec/codecs/overfitted/README.md": ["fitted.zarr/zarr.json"],
    "caecodec/codecs/scalable/README.md": ["layered.zarr/zarr.json", "astronaut-small.ome.zarr/s0"],
    "caecodec/engine/README.md": ["slide.zarr/zarr.json", "latents.npy"],
    "caecodec/evaluation/README.md": ["evaluation/report.html", "report.html", "evaluation-of-two/results.json", "scores.json"],
    "caecodec/ngff/README.md": [
        "decoded/astronaut.png",
        "coffee.cae",
        "photos-again/coffee.bmp",
        "scores.csv",
        "cells-again.ome.tif",
        "cells-small.ome.zarr/s0",
        "film.y4m",
        "slide-resumed.ome.zarr/s1",
        "slide-shared.ome.zarr/s1",
        "slide.ome.zarr/s1",
        "slide-built.ome.zarr/associated/label",
        "cells-0.6.ome.zarr/s0",
        "cells.ozx",
        "astronaut-blosc.ome.zarr/s0",
        "dataset.zarr/photo",
    ],
    "caecodec/serving/README.md": ["photos-4/astronaut.ome.zarr"],
    "caecodec/training/README.md": ["mine.safetensors", "mine.md"],
    "caecodec/weights/README.md": ["mine-zarr/astronaut.ome.zarr/caecodec_weights", "user-weights"],
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path):
    return BLOCK.findall(path.read_text())


def shell(path):
    """The lines of a document's shell blocks."""
    return [line for language, text in blocks(path) if language == "sh" for line in text.splitlines()]


def program(path):
    """A Python program that does what a document's blocks do, in order: snippets as they are, and the caecodec commands.

    Commands of the main document that a folder's document repeats are run there.
    """
    parts = ["import caecodec.cli.main as command_line"]
    elsewhere = {line for other in DOCUMENTS[1:] for line in shell(other)} if path == TOP else set()
    for language, text in blocks(path):
        if language == "python":
            parts.append(text)
            continue
        for line in text.splitlines():
            if line.startswith("caecodec ") and line not in elsewhere:
                for pattern, replacement in SHORTER:
                    line = re.sub(pattern, replacement, line)
                if line.startswith("caecodec serve "):
                    parts.append(SERVE.format(words=shlex.split(line)[1:]))
                    continue
                parts.append(f"assert command_line.main({shlex.split(line)[1:]!r}) == 0")
    return "\n".join(parts)


RUNNABLE = [path for path in DOCUMENTS if "\n" in program(path)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with the files that the documents name: photographs, a stack and a video of one frame."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "photos").mkdir()
    for title in ("astronaut", "coffee"):
        Image.fromarray(getattr(skimage.data, title)()[:256, 100:356]).save(folder / "photos" / f"{title}.png")
    cells = skimage.data.camera()[:100, :100] * np.arange(40, 240, 100, dtype=np.uint16)[:, None, None]
    tifffile.imwrite(folder / "cells.ome.tif", cells, photometric="minisblack", metadata={"axes": "CYX"})
    grey = 4 * skimage.data.camera().astype("<u2")
    frame = np.concatenate([part.ravel() for part in (grey[:48, :64], grey[1:25, :32], grey[:24, :32])])
    frame.tofile(folder / "film_64x48_25_10bit.yuv")
    slides.aperio(folder / "slide.svs", slides.tissue(300, 400))
    return folder


def run(command, folder):
    """What a Python command prints; weights that it installs go into the folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "CAECODEC_USER_WEIGHTS": str(folder / "user-weights"),
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_snippets_and_commands(path, inputs, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(inputs, folder)
    if name(path) == "caecodec/weights/README.md":
        shutil.copy(TINY, folder / "mine.safetensors")
    if name(path) == "caecodec/evaluation/README.md":
        for photo in (folder / "photos").iterdir():
            Image.open(photo).crop((0, 0, 176, 176)).save(photo)  # MS-SSIM, which needs 161, takes most of the time
    output = run(["-c", program(path)], folder)
    for left in LEAVES[name(path)]:
        assert (folder / left).exists(), left
    if path == TOP:
        assert "ConvolutionalAutoencoder(quality=4" in output
    if name(path) == "caecodec/ngff/README.md":
        assert "bits per pixel" in output
        assert tifffile.imread(folder / "cells-again.ome.tif").shape == (2, 100, 100)
        assert (folder / "film.y4m").stat().st_size > (folder / "film_64x48_25_10bit.yuv").stat().st_size


def test_other_commands_name_scripts():
    """Every other command of a shell block installs, runs the tests or CI, or runs a script that is tested by itself."""
    for path in DOCUMENTS:
        for line in shell(path):
            for command in line.split(" && "):
                words = shlex.split(command)
                if words[0] in ("python", "bash") and words[1] != "-m":
                    assert (ROOT / words[1]).exists(), command
                else:
                    assert words[0] in ("caecodec", "git") or words[:2] == ["python", "-m"], command


def test_ci_finds_its_commands():
    assert [line.split(" && ")[1] for line in shell(TOP) if " && " in line] == [
        "python examples/quickstart.py",
        "python -m pytest",
    ]


def example(script, folder, *arguments):
    return run([ROOT / "examples" / script, *arguments], folder)


@pytest.fixture
def photograph_folder(tmp_path):
    """A folder with one small photograph."""
    (tmp_path / "images").mkdir()
    Image.fromarray(skimage.data.astronaut()[:128, :128]).save(tmp_path / "images" / "a.png")
    return tmp_path


def test_quickstart(tmp_path):
    assert "astronaut" in example("quickstart.py", tmp_path, "quick")
    assert Image.open(tmp_path / "quick" / "before_after.png").size == (1024, 512)


def test_conversion_examples(photograph_folder):
    example("encode.py", photograph_folder, "images", "-o", "groups", "-q", "1")
    assert (photograph_folder / "groups" / "a.ome.zarr").is_dir()
    example("decode.py", photograph_folder, "groups", "-o", "again")
    assert (photograph_folder / "again" / "a.png").exists()


def test_readers(tmp_path):
    """All but napari, which .ci/run installs last and has by itself."""
    output = example("readers.py", tmp_path, "dask", "xarray", "ome-zarr", "open_slide")
    assert output.count("uint8 (3, 100, 150), as zarr reads it") == 4


def test_dataloader(tmp_path):
    """The script compares every crop with the array; workers that drew the same places would have half as many."""
    output = example("dataloader.py", tmp_path, "--workers", "2", "--start", "fork", "spawn", "--side", "64", "--count", "48")
    places = dict(re.findall(r"(?m)^(\w+) 2 workers: .* (\d+) different places$", output))
    assert list(places) == ["fork", "spawn"]
    assert all(int(count) > 44 for count in places.values())


def test_generation_loss(photograph_folder):
    output = example("generation_loss.py", photograph_folder, "images", "-q", "3", "--chunk", "64")
    once, *later = (float(cell) for cell in output.splitlines()[-1].strip("| ").split(" | ")[1:])
    assert once > 25
    assert all(value < once for value in later)


def test_chunk_borders(photograph_folder):
    output = example("chunk_borders.py", photograph_folder, "images", "-q", "1", "--chunk", "64")
    _, quality, ratio, _ = output.splitlines()[-1].split("|")
    assert int(quality) == 1
    assert 0.8 < float(ratio) < 4


def test_entropy_gain(photograph_folder):
    output = example("entropy_gain.py", photograph_folder, "images", "-q", "4")
    quality, static, context, saved, _ = output.splitlines()[-1].split()
    assert int(quality) == 4
    assert int(context) < int(static)
    assert float(saved) == pytest.approx(100 * (1 - int(context) / int(static)), abs=0.01)


def test_bounded_error(photograph_folder):
    output = example("bounded_error.py", photograph_folder, "images", "--errors", "2", "--chunk", "64", "--most", "2")
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| 2 |")]
    assert [row[1] for row in rows] == ["caecodec", "Zstd", "Blosc", "JPEG-LS", "JPEG XL"]
    for row in rows:
        assert float(row[2]) > 1
        assert int(row[5]) <= 2


@pytest.mark.slow
def test_latents_as_features(tmp_path):
    output = example("latents_as_features.py", tmp_path, "-o", "features", "--epochs", "3")
    rows = dict(re.findall(r"(?m)^(latents|pixels) +([0-9.]+) %", output))
    assert float(rows["latents"]) > 60 > 0 < float(rows["pixels"])


@pytest.mark.slow
def test_layers(tmp_path):
    output = example("layers.py", tmp_path, "-o", "layers", "--side", "512")
    rows = re.findall(r"(?m)^(layers|level) \S+ +(\d+) +([\d.]+) +([\d.]+)$", output)
    assert [kind for kind, *_ in rows] == 4 * ["layers"] + 2 * ["level"]
    for kind in ("layers", "level"):
        received, _, quality = zip(*([float(cell) for cell in row] for found, *row in rows if found == kind), strict=True)
        assert list(received) == sorted(received)
        assert list(quality) == sorted(quality)


@pytest.mark.slow
def test_own_family(tmp_path):
    output = example("own_family.py", tmp_path, "-o", "own", "--steps", "2")
    bpp, db = re.search(r"([\d.]+) bits per pixel, ([\d.]+) dB: own", output).groups()
    assert float(bpp) < 1.2
    assert float(db) > 29


@pytest.mark.slow
def test_binary_latents(tmp_path):
    output = example("binary_latents.py", tmp_path, "-o", "binary", "-q", "2", "--steps", "2")
    quality, bpp, packed, compressed, static, context, bits, *_ = output.splitlines()[-1].split()
    assert (quality, bpp, packed) == ("2", "0.250", str(512 * 512 // 64 * 16 // 8))
    assert int(bits) < int(compressed) < int(packed)
    assert 0.1 < int(context) / int(packed) < 1.1
    assert 0.1 < int(static) / int(packed) < 1.1


@pytest.mark.parametrize("preset", ["none", pytest.param("instant", marks=pytest.mark.slow)])
def test_gallery(tmp_path, preset):
    output = example("gallery.py", tmp_path, "--codecs", "jpeg", "--weights", TINY, "--preset", preset, "--side", "64")
    drawn = ["JPEG", "caecodec photo mse", "caecodec photo-fast mse", "caecodec tiny.safetensors mse"]
    drawn += ["overfitted"] if preset != "none" else []
    assert re.findall(r"(?m)^(.+), .*: \d\.\d{3} bpp", output) == drawn
    assert Image.open(tmp_path / "gallery.webp").size == ((len(drawn) + 1) * (256 + 12) - 12, 58 + 320)


def test_every_example_is_listed_and_tested():
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    listed = set(re.findall(r"`(\w+\.py)", (ROOT / "examples" / "README.md").read_text()))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert listed == scripts
    assert {script for script in scripts if f'"{script}"' in tests} == scripts


def test_every_command_option_and_setting_is_described():
    from caecodec import settings
    from caecodec.cli.main import COMMANDS

    text = "".join(path.read_text() for path in DOCUMENTS)
    for command in COMMANDS:
        assert f"caecodec {command.__name__.rsplit('.', 1)[-1].replace('_', '-')} " in text
    for field in settings.Settings.__dataclass_fields__:
        assert f"`CAECODEC_{field.upper()}`" in TOP.read_text()


def headings(path):
    """The anchors of a document."""
    return {re.sub("[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall("(?m)^#+ (.*)", path.read_text())}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not link.startswith("http"):
            target, _, anchor = link.partition("#")
            file = path.parent / target if target else path
            assert file.exists(), link
            assert not anchor or anchor in headings(file), link


def test_every_document_is_linked_from_the_main_one():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", TOP.read_text())}
    assert set(DOCUMENTS[1:]) <= linked


def test_the_main_document_is_read_in_ten_minutes():
    assert len(TOP.read_text().splitlines()) <= 260
