"""caecodec evaluate: real codecs on small photographs, with the shipped weights and a tiny network's."""

import contextlib
import csv
import io
import json
import re
from html import unescape
from statistics import fmean

import numpy as np
import pytest
from helpers.images import random_image
from helpers.paths import TINY, TINY_CONTEXT
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.evaluation import bd_rate, evaluate, ms_ssim, psnr
from caecodec.evaluation.bd_rates import shared_range
from caecodec.evaluation.published import read_published
from caecodec.images.metrics import decibels

OUTPUTS = ["bd_rate.csv", "ms_ssim.png", "points.csv", "psnr.png", "report.html", "results.json"]
OURS = "caecodec photo mse"
CURVES = [OURS, "caecodec tiny.safetensors mse", "JPEG", "AVIF", "theirs & <b>co</b>", "JPEG [theirs]"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "theirs.json"
    points = [{"bpp": 0.2, "psnr": 20.0, "ms_ssim": 0.7}, {"bpp": 4, "psnr": 45.5, "ms_ssim": 0.999, "setting": "best"}]
    codecs = {"theirs & <b>co</b>": points, "JPEG": [{"bpp": 1, "psnr": 30}]}
    path.write_text(json.dumps({"what": "ignored", "codecs": codecs}))
    return path


@pytest.fixture(scope="module")
def evaluated(photos, published, tmp_path_factory):
    """The folder that the command wrote, and what it printed."""
    output = tmp_path_factory.mktemp("evaluated") / "out"
    arguments = ["evaluate", str(photos), "-o", str(output), "--weights", "default", "--weights", str(TINY)]
    arguments += ["--metric", "mse", "--codecs", "jpeg,avif", "--chunk", "128", "--reference", str(published), "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0
    return output, printed.getvalue()


@pytest.fixture(scope="module")
def results(evaluated):
    return json.loads((evaluated[0] / "results.json").read_text())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_outputs(evaluated, results):
    folder, printed = evaluated
    assert sorted(path.name for path in folder.iterdir()) == OUTPUTS
    assert [path.name for path in folder.parent.iterdir()] == ["out"]  # nothing half-written beside it
    assert printed.splitlines()[-1] == str(folder / "report.html")
    assert f"BD-rate of {OURS} against JPEG, psnr: -" in printed
    assert "Published points were measured by others" in printed
    assert results["images"] == [
        {"name": "astronaut.png", "height": 200, "width": 200},
        {"name": "coffee.png", "height": 162, "width": 180},
    ]
    assert list(results["codecs"]) == CURVES[:4]
    assert list(results["published"]) == CURVES[4:]
    assert list(results["about"]) == CURVES
    assert results["chunk"] == 128
    assert results["environment"]["caecodec"] == caecodec.__version__
    assert [point["setting"] for point in results["codecs"][CURVES[1]]] == ["quality 1", "quality 4"]
    for metric in ("psnr", "ms_ssim"):
        assert Image.open(folder / f"{metric}.png").size == (1200, 720)


def test_values_are_means_of_the_images(results):
    keys = ("bpp", "psnr", "ms_ssim", "encode_s_per_mp", "decode_s_per_mp")
    for points in results["codecs"].values():
        for point in points:
            assert [image["image"] for image in point["images"]] == ["astronaut.png", "coffee.png"]
            for key in keys:
                assert point[key] == pytest.approx(fmean(image[key] for image in point["images"]))
            assert point["ms_ssim_db"] == pytest.approx(decibels(point["ms_ssim"]))
            assert min(point[key] for key in keys if key != "ms_ssim") > 0


def test_values_are_those_of_real_bytes(photos, results):
    """One image measured by hand: chunks of 128 pixels, the sizes of their payloads, the image put together again."""
    image = np.asarray(Image.open(photos / "coffee.png"))
    decoded, size = np.empty_like(image), 0
    for y, x in ((0, 0), (0, 128), (128, 0), (128, 128)):
        payload = caecodec.encode(image[y : y + 128, x : x + 128], quality=2)
        size += len(payload)
        decoded[y : y + 128, x : x + 128] = caecodec.decode(payload)
    (measured,) = (p["images"][1] for p in results["codecs"][OURS] if p["setting"] == "quality 2")
    assert measured["bytes"] == size
    assert measured["bpp"] == 8 * size / (162 * 180)
    assert measured["psnr"] == pytest.approx(psnr(image, decoded))
    assert measured["ms_ssim"] == pytest.approx(ms_ssim(image, decoded))


def test_tables_agree(evaluated, results):
    points = rows(evaluated[0] / "points.csv")
    written = [(name, point) for part in ("codecs", "published") for name, ps in results[part].items() for point in ps]
    assert [row["codec"] for row in points] == [name for name, _ in written]
    for row, (_, point) in zip(points, written, strict=True):
        for key in ("setting", "bpp", "psnr", "ms_ssim", "ms_ssim_db", "encode_s_per_mp", "decode_s_per_mp"):
            assert row[key] == ("" if point[key] is None else str(point[key]))
    rates = rows(evaluated[0] / "bd_rate.csv")
    assert [{k: "" if v is None else str(v) for k, v in rate.items()} for rate in results["bd_rate"]] == rates


def test_bd_rates(results):
    rates = {(rate["test"], rate["reference"], rate["metric"]): rate for rate in results["bd_rate"]}
    assert list(rates) == [(a, b, m) for a in CURVES[:2] for b in CURVES if a != b for m in ("psnr", "ms_ssim")]
    ours, jpeg = ([(p["bpp"], p["psnr"]) for p in results["codecs"][name]] for name in (OURS, "JPEG"))
    rate = rates[OURS, "JPEG", "psnr"]
    assert rate["percent"] == pytest.approx(bd_rate(jpeg, ours))
    assert (rate["low_db"], rate["high_db"]) == shared_range(jpeg, ours)
    assert "JPEG [theirs] has 1 points with psnr" in rates[OURS, "JPEG [theirs]", "psnr"]["note"]
    assert "JPEG [theirs] has 0 points with ms_ssim" in rates[OURS, "JPEG [theirs]", "ms_ssim"]["note"]
    assert "share no range" in rates[CURVES[1], OURS, "psnr"]["note"]  # the tiny network is not trained
    for rate in rates.values():
        assert (rate["percent"] is None) == bool(rate["note"])


def test_report_shows_the_results(evaluated, results):
    """The page is that of caecodec report, whose tests look at it more closely."""
    html = (evaluated[0] / "report.html").read_text()
    data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', html)[1])
    assert [chart["label"] for chart in data["charts"]] == ["PSNR (dB)", "MS-SSIM (dB)"]
    assert [curve["name"] for curve in data["charts"][0]["curves"]] == CURVES
    # the photographs are smaller than the part that is shown; each at two rates, by two curves of caecodec and two other codecs
    assert [(image["width"], image["height"]) for image in data["images"]] == [(200, 200), (180, 162)]
    assert [[len(rate) for rate in image["rates"]] for image in data["images"]] == [[4, 4]] * 2
    text = unescape(html)
    for name in CURVES:
        assert f"<td>{name}</td>" in text
    assert "<b>co</b>" not in html
    for points in results["codecs"].values():
        for point in points:
            assert f">{point['bpp']:.4f}<" in html
    (rate,) = (r for r in results["bd_rate"] if (r["test"], r["reference"], r["metric"]) == (OURS, "JPEG", "psnr"))
    assert f">{rate['percent']:+.1f} % (" in html


def test_in_python_with_no_other_codec(photos, tmp_path):
    said = []
    results = evaluate(
        [photos / "astronaut.png"], tmp_path / "out", weights=[TINY, TINY_CONTEXT], qualities=[4], codecs=[], chunk=0,
        samples=0, metrics=["mse"], say=said.append,
    )  # fmt: skip
    assert said == ["1/1 astronaut.png"]
    assert [curve.name for curve in results.curves] == [
        "caecodec tiny.safetensors mse",
        "caecodec tiny-context.safetensors mse",
    ]
    assert [rate.percent for rate in results.bd_rates] == [None] * 4
    assert '"images": []' in (tmp_path / "out" / "report.html").read_text()
    payload = caecodec.encode(np.asarray(Image.open(photos / "astronaut.png")), quality=4, weights=TINY)
    assert results.curves[0].points[0].images[0].bytes == len(payload)


def test_results_are_a_reference_for_the_next(evaluated, photos, tmp_path):
    results = evaluate(
        [photos], tmp_path / "out", qualities=[1, 5], codecs=[], chunk=128, samples=0,
        references=[evaluated[0] / "results.json"],
    )  # fmt: skip
    rates = {rate.reference: rate.percent for rate in results.bd_rates if rate.metric == "psnr"}
    assert rates["JPEG"] < 0
    before = next(curve for curve in results.curves if curve.name == f"{OURS} [results]")
    assert [p.bpp for p in before.points if p.setting in ("quality 1", "quality 5")] == [
        p.bpp for p in results.curves[0].points
    ]


def test_small_images_have_no_ms_ssim(tmp_path):
    for side in (100, 170):
        Image.fromarray(random_image(side, side, 3)).save(tmp_path / f"{side}.png")
    said = []
    results = evaluate([tmp_path], tmp_path / "out", weights=[TINY], codecs=["jpeg"], samples=1, say=said.append)
    assert "100.png have fewer" in said[0]
    assert said[0] in results.notes
    for curve in results.curves:
        for point in curve.points:
            assert point.ms_ssim is None
            assert [m.ms_ssim is None for m in point.images] == [True, False]
    assert not (tmp_path / "out" / "ms_ssim.png").exists()
    assert (tmp_path / "out" / "psnr.png").exists()
    assert said[0] in (tmp_path / "out" / "report.html").read_text()
    assert rows(tmp_path / "out" / "points.csv")[0]["ms_ssim"] == ""


def test_an_image_that_comes_back_exactly_has_no_psnr(tmp_path):
    Image.new("RGB", (170, 170), (9, 99, 199)).save(tmp_path / "flat.png")
    results = evaluate([str(tmp_path)], str(tmp_path / "out"), weights=[TINY], codecs=["jpeg"], cache=str(tmp_path / "a.jsonl"))
    assert "flat.png came back exactly" in results.notes[0]
    assert [(p.psnr, p.ms_ssim_db) for p in results.curves[0].points] == [(None, None)] * 2
    images = json.loads((tmp_path / "out" / "results.json").read_text())["codecs"][results.curves[0].name][0]["images"]
    assert images[0]["psnr"] is None
    assert " bpp, exact" in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "psnr.png").exists()


def test_existing_outputs_are_kept(evaluated, photos, tmp_path, capsys):
    folder = evaluated[0]
    before = (folder / "results.json").stat().st_mtime_ns
    arguments = ["evaluate", str(photos / "coffee.png"), "--weights", str(TINY), "-m", "mse", "--codecs", "none", "--quiet"]
    assert main([*arguments, "-o", str(folder)]) == 1
    assert "exists already; pass overwrite (--overwrite)" in capsys.readouterr().err
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert main([*arguments, "-o", str(photos), "--overwrite"]) == 1  # the photographs are not replaced by their evaluation
    assert "holds no earlier evaluation" in capsys.readouterr().err
    assert (photos / "coffee.png").exists()
    assert main([*arguments, "-o", str(tmp_path / "mine"), "--overwrite"]) == 0
    (tmp_path / "mine" / "old").touch()
    (tmp_path / "mine" / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "mine" / "photos" / "a.png")
    assert main(["evaluate", str(tmp_path / "mine" / "photos"), "-o", str(tmp_path / "mine"), "--overwrite", "--quiet"]) == 1
    assert "mine, which is an output; choose another output" in capsys.readouterr().err
    assert main([*arguments, "-o", str(tmp_path / "mine"), "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == OUTPUTS
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_published_names(published):
    first, second = read_published(published, taken=["JPEG"])
    assert (first.name, second.name) == ("theirs & <b>co</b>", "JPEG [theirs]")
    assert [point.setting for point in first.points] == ["", "best"]
    with pytest.raises(caecodec.ParameterError, match="given twice"):
        read_published(published, taken=[CURVES[4], f"{CURVES[4]} [theirs]"])
