"""The parts of an evaluation: configurations, reference codecs, images, means."""

import tarfile

import numpy as np
import pytest
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY
from PIL import Image

from caecodec.evaluation import compared, side_by_side, sweep
from caecodec.evaluation.curves import Measurement, Point
from caecodec.evaluation.images import select_images


def test_images_to_show_are_spread_evenly():
    assert side_by_side.chosen(24, 3) == (4, 12, 20)
    assert side_by_side.chosen(2, 3) == (0, 1)
    assert side_by_side.chosen(5, 0) == ()
    assert side_by_side.chosen(3, None) == (0, 1, 2)


def test_configurations(tmp_path, tiny):
    sources = [
        save_seeded(tmp_path / folder / "mine.safetensors", seed) for seed, folder in enumerate(made(tmp_path, "a", "b"))
    ]
    found = compared.caecodec([source.location for source in sources], ["mse", "ms-ssim"], None, "static", None)
    assert [c.name for c in found] == [f"caecodec mine.safetensors@{source.sha256[:8]} mse" for source in sources]
    assert [s.name for s in found[0].settings] == ["quality 1", "quality 4"]
    again = compared.caecodec(["tiny", TINY], ["mse"], [4, 1, 4], None, None)  # the same weights, by name and path
    assert [c.name for c in again] == ["caecodec tiny mse", "caecodec tiny.safetensors mse"]
    assert [s.name for s in again[0].settings] == ["quality 1", "quality 4"]
    array = random_image(40, 50, 3)
    for contender in (*found, *again):
        for setting in contender.settings:
            assert setting.decode(setting.encode(array)).shape == array.shape


def made(parent, *names):
    for name in names:
        (parent / name).mkdir()
    return names


@pytest.mark.parametrize("name", compared.CODECS)
def test_reference_codecs(name, photograph):
    (contender,) = compared.references([name])
    points = [sweep.measure("a", photograph[:200, :200], contender, setting, 100).values for setting in contender.settings]
    rates, quality = [p.bpp for p in points], [p.psnr for p in points]
    assert rates == sorted(rates)
    assert quality == sorted(quality)
    assert rates[0] < 1.2
    assert 34 < quality[-1] < 50
    for shape in ((1, 1, 3), (3, 17, 3)):
        array = np.ascontiguousarray(photograph[: shape[0], : shape[1]])
        assert contender.settings[0].decode(contender.settings[0].encode(array)).shape == shape


def test_means():
    measured = [Measurement("a", 1, 1.0, 30.0, 0.9, 1.0, 2.0), Measurement("b", 1, 3.0, 40.0, None, 3.0, 4.0)]
    assert Point.mean("s", tuple(measured)) == Point("s", 2.0, 35.0, None, 2.0, 3.0, tuple(measured))


def test_images_in_folders_and_tar_files(photos, tmp_path):
    (tmp_path / "deep").mkdir()
    Image.fromarray(random_image(20, 30, 3)).save(tmp_path / "deep" / "x.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photos / "coffee.png", "inside/coffee.png")
        tar.add(photos / "coffee.png", "notes.txt")
    found = select_images([photos, tmp_path / "deep" / "x.png", tmp_path / "a.tar"])
    names = [photos / "astronaut.png", photos / "coffee.png", tmp_path / "deep" / "x.png", tmp_path / "a.tar/inside/coffee.png"]
    assert [image.info.name for image in found] == list(map(str, names))  # in full where they are not unique without
    assert [(image.info.height, image.info.width) for image in found] == [(200, 200), (162, 180), (20, 30), (162, 180)]
    np.testing.assert_array_equal(found[3].file.pixels(), found[1].file.pixels())
    np.testing.assert_array_equal(found[3].file.pixels(), found[1].file.pixels())  # a second time


def test_chunks():
    image = random_image(50, 70, 3)
    assert [part.shape[:2] for part in sweep.cut(image, 32)] == [(32, 32), (32, 32), (32, 6), (18, 32), (18, 32), (18, 6)]
    assert [part.shape[:2] for part in sweep.cut(image, 0)] == [(50, 70)]
