"""caecodec score: values, matching by name, and what cannot be scored."""

import csv
import json
import math

import numpy as np
import pytest
from helpers.images import random_image
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.evaluation import ms_ssim, psnr, score, ssim, write_scores

NAMES = ("a.png", "deep/a.png", "deep/small.png")


@pytest.fixture
def folders(tmp_path, photograph):
    """Originals, JPEG files of them as what was compressed, and these decoded, under other suffixes; one is small."""
    for i, name in enumerate(NAMES):
        side = 40 if "small" in name else 170
        for folder in ("originals", "coded", "decoded"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[50 * i : 50 * i + side, 180:360]).save(tmp_path / "originals" / name)
        coded = (tmp_path / "coded" / name).with_suffix(".jpg")
        Image.fromarray(photograph[50 * i : 50 * i + side, 180:360]).save(coded, quality=40)
        with Image.open(coded) as decoded:
            decoded.save((tmp_path / "decoded" / name).with_suffix(".bmp"))
    (tmp_path / "decoded" / "._a.png").write_text("hidden")
    (tmp_path / "decoded" / "notes.txt").write_text("no image")
    return tmp_path / "originals", tmp_path / "decoded", tmp_path / "coded"


def pixels(path):
    return np.asarray(Image.open(path))


def test_every_value(folders):
    states = []
    scores = score(*folders, progress=lambda *state: states.append(state))
    assert states == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert scores.problems == ()
    assert [image.name for image in scores.images] == ["a", "deep/a", "deep/small"]
    originals, decoded, coded = folders
    for image, name in zip(scores.images, NAMES, strict=True):
        one, other = pixels(originals / name), pixels((decoded / name).with_suffix(".bmp"))
        size = (coded / name).with_suffix(".jpg").stat().st_size
        assert (image.height, image.width) == one.shape[:2]
        assert (image.psnr, image.ssim, image.bytes) == (psnr(one, other), ssim(one, other), size)
        assert image.bpp == 8 * size / (one.shape[0] * one.shape[1])
        assert image.ratio == one.nbytes / size
        assert image.ms_ssim == (None if "small" in name else ms_ssim(one, other))
    assert list(scores.notes()) == ["no MS-SSIM of images with a side of less than 161 pixels: deep/small"]
    assert scores.mean("psnr") == pytest.approx(sum(image.psnr for image in scores.images) / 3)
    assert scores.mean("ms_ssim") == pytest.approx((scores.images[0].ms_ssim + scores.images[1].ms_ssim) / 2)


def test_ssim_of_known_images(photograph):
    """1 of equal images, less with more noise; what a window of the paper's gives for constant images."""
    assert ssim(photograph, photograph) == 1
    noise = np.random.default_rng(0).normal(size=photograph.shape)
    values = [ssim(photograph, np.clip(photograph + scale * noise, 0, 255).astype(np.uint8)) for scale in (5, 20, 60)]
    assert values == sorted(values, reverse=True)
    dark, bright = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, bright) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))
    with pytest.raises(caecodec.ParameterError, match="11 pixels"):
        ssim(photograph[:10], photograph[:10])


def test_the_files(folders, tmp_path, capsys):
    """JSON and CSV hold the same, and nothing is overwritten unless asked."""
    command = ["score", *map(str, folders), "-o"]
    assert main([*command, str(tmp_path / "a.json")]) == 0
    output = capsys.readouterr()
    assert "no MS-SSIM" in output.err
    assert output.out.startswith(f"{tmp_path / 'a.json'}: means of 3 images: PSNR ")
    assert ", ratio " in output.out
    document = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert main([*command, str(tmp_path / "a.csv"), "--quiet"]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        *rows, mean = csv.DictReader(file)
    for row, image in zip(rows, document["images"], strict=True):
        assert {key: value or None for key, value in row.items()} == {
            key: None if value is None else str(value) for key, value in image.items()
        }
    assert (mean["name"], float(mean["ssim"])) == ("mean", document["means"]["ssim"])
    assert main([*command, str(tmp_path / "a.json")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "a.txt")]) == 1
    assert "must be named NAME.json or NAME.csv" in capsys.readouterr().err


def test_mismatches_are_listed_and_the_others_are_scored(folders, tmp_path, capsys):
    originals, decoded, coded = folders
    Image.fromarray(random_image(20, 30, 3)).save(originals / "only.png")
    Image.fromarray(random_image(20, 30, 3)).save(decoded / "extra.png")
    Image.fromarray(random_image(20, 30, 3)).save(originals / "deep" / "small.jpg")
    Image.fromarray(random_image(20, 30, 3)).save(decoded / "deep" / "a.bmp")
    for folder in (originals, decoded, coded):
        (folder / "bad.png").write_text("no image")
    assert main(["score", *map(str, folders), "-o", str(tmp_path / "a.json"), "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"caecodec: {line}" for line in json.loads((tmp_path / "a.json").read_text())["problems"]]
    for line in (
        f"{originals / 'deep/small.jpg'} and {originals / 'deep/small.png'} have one name",
        f"{originals / 'only.png'} has no counterpart in {decoded}",
        f"{originals / 'only.png'} has no counterpart in {coded}",
        f"{decoded / 'extra.png'} has no counterpart in {originals}",
        f"{decoded / 'deep/a.bmp'} has 30x20 pixels but {originals / 'deep/a.png'} has 180x170 pixels",
    ):
        assert f"caecodec: {line}" in said
    assert [line for line in said if "bad.png cannot be read as an image" in line]
    assert len(said) == 7
    assert [image["name"] for image in json.loads((tmp_path / "a.json").read_text())["images"]] == ["a"]


def test_single_images_and_a_group(tmp_path, folders, photograph):
    """Whatever their names; equal images have an infinite PSNR, which JSON has no number for."""
    originals, decoded, _ = folders
    image = originals / "a.png"
    caecodec.ngff.encode_paths([image], tmp_path / "x.zarr", caecodec.ngff.Options(codec="blosc"))
    (found,) = score(image, image, tmp_path / "x.zarr").images
    assert (found.name, found.psnr, found.ssim) == ("a", math.inf, 1)
    assert found.bytes == sum(path.stat().st_size for path in (tmp_path / "x.zarr").rglob("*") if path.is_file())
    scores = score(image, decoded / "deep" / "a.bmp")
    assert scores.images[0].bpp is None
    write_scores(score(str(image), str(image)), str(tmp_path / "b.json"))
    assert json.loads((tmp_path / "b.json").read_text())["means"]["psnr"] is None
    Image.fromarray(photograph[:20, :30, 0]).save(tmp_path / "grey.png")
    (grey,) = score(tmp_path / "grey.png", tmp_path / "grey.png", tmp_path / "grey.png").images
    assert grey.ratio == 600 / (tmp_path / "grey.png").stat().st_size


@pytest.mark.parametrize(("paths", "match"), [
    (("originals", "decoded/a.bmp"), "must be two image files or two folders"),
    (("originals", "decoded", "coded/a.jpg"), "must be a folder, as"),
    (("originals/a.png", "decoded/a.bmp", "coded"), "must be one file or group, as"),
    (("empty", "decoded"), "empty holds no image"), (("none.png", "other.png"), "none.png does not exist"),
    (("originals", "nowhere"), "nowhere does not exist"),
])  # fmt: skip
def test_paths_that_do_not_fit(tmp_path, folders, paths, match):
    assert folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(caecodec.ParameterError, match=match):
        score(*(str(tmp_path / path) for path in paths))


def test_where_nothing_matches(tmp_path, folders, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["score", str(folders[0]), str(tmp_path / "empty"), "-o", str(tmp_path / "a.json")]) == 1
    assert "nothing is written" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()
