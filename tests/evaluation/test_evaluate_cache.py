"""caecodec evaluate of the overfitted codec, and results that are kept from one evaluation to the next."""

import dataclasses
import json
import signal
import time

import numpy as np
import pytest
import skimage.data
from helpers import processes
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.evaluation import compared, evaluate, sweep
from caecodec.evaluation.cache import Cache, key
from caecodec.evaluation.images import select_images


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()[100:164, 150:198]).save(folder / f"{name}.png")
    return folder


def refuse(array):
    raise AssertionError("encoded what had been saved")


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_overfitted(photos, tmp_path, capsys, short_fit):
    cache = tmp_path / "results.jsonl"
    arguments = [
        "evaluate", str(photos), "--weights", "none", "--overfitted", "instant", "--decoder", "lop", "--qualities", "2,5",
        "--codecs", "jpeg", "--chunk", "0", "--every", "2", "--samples", "1", "--cache", str(cache),
    ]  # fmt: skip
    assert main([*arguments, "-o", str(tmp_path / "first")]) == 0
    printed, said = capsys.readouterr()
    assert "BD-rate of caecodec overfitted instant lop against JPEG, psnr: " in printed
    found = results(tmp_path / "first")
    assert [image["name"] for image in found["images"]] == ["astronaut.png", "rocket.png"]
    assert said.splitlines()[1] == "1/2 astronaut.png"
    points = found["codecs"]["caecodec overfitted instant lop"]
    assert [point["setting"] for point in points] == ["quality 2", "quality 5"]
    assert f"  caecodec overfitted instant lop, quality 2: {points[0]['images'][0]['bpp']:.4f} bpp" in said
    image = np.asarray(Image.open(photos / "rocket.png"))
    codec = caecodec.OverfittedAutoencoder(quality=2, preset="instant", decoder="lop")
    assert points[0]["images"][1]["bytes"] == len(codec.encode(image))
    assert points[0]["psnr"] < points[1]["psnr"]
    assert points[0]["encode_s_per_mp"] > points[0]["decode_s_per_mp"] > 0
    assert len(cache.read_text().splitlines()) == 2 * (2 + 8)
    before = cache.read_bytes()
    assert main([*arguments, "-o", str(tmp_path / "second"), "--quiet"]) == 0
    assert cache.read_bytes() == before
    for name in ("results.json", "points.csv", "report.html"):  # seconds, too
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_saved_results_are_not_made_again(photos, tmp_path):
    images = select_images([photos])
    jpeg = dataclasses.replace(*compared.references(["jpeg"]), finer=())  # a search of finer settings always codes
    runs = (*compared.caecodec([TINY], ["mse"], None, None, None), jpeg)
    first = sweep.sweep(images, runs, 32, lambda line: None, Cache(tmp_path / "a.jsonl"), shown=[1])
    never = tuple(
        compared.ComparedCodec(run.name, run.kind, run.about, tuple(
            compared.CodecSetting(setting.name, setting.about, refuse, setting.decode) for setting in run.settings
        ))
        for run in runs
    )  # fmt: skip
    second = sweep.sweep(images, never, 32, lambda line: None, Cache(tmp_path / "a.jsonl"), shown=[1])
    assert second.curves == first.curves
    before, after = ([crop for rate in swept.comparisons[0].rates for crop in rate] for swept in (first, second))
    assert len(before) == len(after) == 2
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.setting) == (other.name, other.setting)
        np.testing.assert_array_equal(one.pixels, other.pixels)
    with pytest.raises(AssertionError, match="had been saved"):
        sweep.sweep(images, never, 16, lambda line: None, Cache(tmp_path / "a.jsonl"))


def test_keys_differ_with_all_that_results_depend_on(photos):
    image = np.asarray(Image.open(photos / "rocket.png"))
    runs = (
        *compared.caecodec([TINY, TINY.with_name("tiny-context.safetensors")], ["mse"], None, None, None),
        *compared.caecodec([TINY.with_name("tiny-context.safetensors")], ["mse"], None, "static", None),
        *compared.overfitted(["instant", "fast"], [1, 2], None, None),
        *compared.overfitted(["instant"], [1, 2], "mop", None),
        *compared.references(compared.CODECS),
    )
    settings = [setting for run in runs for setting in run.settings]
    keys = {key(image, setting, 64) for setting in settings}
    keys |= {key(image, settings[0], 0), key(image[:-1], settings[0], 64), key(image + 1, settings[0], 64)}
    keys |= {key(image.reshape(48, 64, 3), settings[0], 64)}
    assert len(keys) == len(settings) + 4


def test_images_that_came_back_exactly(tmp_path):
    Image.new("RGB", (40, 40), (9, 99, 199)).save(tmp_path / "flat.png")
    both = [
        evaluate(
            [tmp_path / "flat.png"], tmp_path / f"{i}", weights=[], overfitted=["instant"], qualities=[1], codecs=[],
            cache=tmp_path / "a.jsonl",
        )
        for i in range(2)
    ]  # fmt: skip
    assert both[0] == both[1]
    assert both[0].curves[0].points[0].psnr is None
    json.loads((tmp_path / "a.jsonl").read_text(), parse_constant=refuse)


@pytest.mark.parametrize("content", [b'{"a": [1, 2]}', b"notes", b'{"key": 1}\nnotes', b'{"values": 1, "key": "a"}'])
def test_other_files_are_left_alone(tmp_path, content):
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(caecodec.ParameterError, match="cannot be used"):
        Cache(path)
    assert path.read_bytes() == content


def test_an_interrupted_evaluation_goes_on(photos, tmp_path, by_hand):
    """A process that is killed loses what it was at; the next begins with what there is, half a line or not.

    The process fits its payloads; those that it leaves are made by hand.
    """
    cache = tmp_path / "a.jsonl"
    command = [
        "evaluate", str(photos), "-o", str(tmp_path / "out"), "--weights", "none",
        "--overfitted", "instant", "-q", "1", "--codecs", "none", "--chunk", "0", "--cache", str(cache), "--quiet",
    ]  # fmt: skip
    with processes.start("-m", "helpers.one_fit", *command) as process:
        while not (cache.exists() and cache.read_bytes().count(b"\n") >= 1):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    saved = cache.read_bytes()
    with cache.open("ab") as file:
        file.write(b'{"key": "abc')
    assert main(command) == 0
    assert cache.read_bytes().startswith(saved[: saved.rindex(b"\n") + 1])
    lines = [json.loads(line) for line in cache.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 3
