"""What caecodec evaluate refuses, and what it says."""

import sys

import numpy as np
import pytest
from helpers.images import random_image
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.evaluation import evaluate
from caecodec.evaluation.published import read_published


@pytest.mark.parametrize(("arguments", "match"), [
    (["none"], "none does not exist; name image files"),
    (["empty"], "empty holds no image"),
    (["bad.png"], "bad.png cannot be read as an image"),
    (["deep.png"], "deep.png holds an image of axes y, x, shape (30, 30) and dtype uint16, but only 8-bit RGB"),
    (["a.png", "a.png"], "named twice"),
    (["a.png", "--codecs", "jpeg,gif"], "codec is 'gif' but reference codecs are jpeg, jpeg2k, jpegxl, webp, avif (or none)"),
    (["a.png", "--chunk", "8"], "chunk is 8 but must be 16 or more pixels a side, or 0"),
    (["a.png", "--chunk", "-1"], "chunk is -1"),
    (["a.png", "--samples", "-1"], "samples is -1"),
    (["a.png", "--every", "0"], "every is 0 but must be 1"),
    (["a.png", "--cache", "bad.png"], "cache bad.png cannot be used"),
    (["a.png", "--cache", "empty"], "cache empty cannot be used"),
    (["a.png", "--cache", "other.jsonl"], "name a file that an evaluation made"),
    (["a.png", "--overfitted", "fast,best"], "preset is 'best' but must be one of instant"),
    (["a.png", "--weights", "none"], "name weights (--weights) or presets (--overfitted)"),
    (["a.png", "--decoder", "mop"], "decoder is 'mop' but no preset of the overfitted codec is given"),
    (["a.png", "-q", "0-3"], "qualities is '0-3' but must be numbers from 1 to 8"),
    (["a.png", "-q", "1,8", "--weights", str(TINY)], "but quality is 8, metric"),
    (["a.png", "-m", "ms-ssim", "--weights", str(TINY)], "metric 'ms-ssim'"),
    (["a.png", "--weights", "nothing"], "no weights 'nothing' for"),
    (["a.png", "--weights", "none.safetensors"], "none.safetensors does not exist"),
    (["a.png", "--weights", str(TINY), "--entropy", "context"], "no context tables; run caecodec fit-entropy"),
    (["a.png", "--weights", "compressai"], "do not list their qualities; pass qualities (--qualities 1-5)"),
    (["a.png", "--weights", "mine.pth", "-q", "1"], "do not say their metric; pass metrics"),
    (["a.png", "--reference", "none.json"], "none.json cannot be read as JSON"),
])  # fmt: skip
def test_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(random_image(30, 30, 3)).save("a.png")
    Image.fromarray(np.zeros((30, 30), np.uint16)).save("deep.png")
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", "-o", "out", *arguments]) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_that_a_codec_does_not_take(tmp_path):
    Image.new("RGB", (17000, 2)).save(tmp_path / "long.png")
    with pytest.raises(caecodec.ParameterError, match="WebP, quality 1, cannot code 17000 x 2 pixels: .*smaller chunk"):
        evaluate([tmp_path / "long.png"], tmp_path / "out", weights=[TINY], codecs=["webp"], chunk=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["imagecodecs", "matplotlib", "pytorch_msssim", "scipy"])
def test_missing_packages(tmp_path, monkeypatch, capsys, module):
    monkeypatch.setitem(sys.modules, module, None)  # what importing finds where it is not installed
    assert main(["evaluate", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert f"evaluation needs {module}" in (error := capsys.readouterr().err)
    assert "pip install 'caecodec[eval]'" in error


@pytest.mark.parametrize(("text", "match"), [
    ("[]", "has no codecs"), ('{"codecs": {}}', "has no codecs"), ("{", "cannot be read as JSON"),
    ('{"codecs": {"a": []}}', "codec 'a' has no list of points"), ('{"codecs": {"a": [3]}}', "point 1 is 3"),
    ('{"codecs": {"a": [{"psnr": 3}]}}', "bpp None"), ('{"codecs": {"a": [{"bpp": 0, "psnr": 3}]}}', "bpp 0.0"),
    ('{"codecs": {"a": [{"bpp": 1, "psnr": "3"}]}}', "psnr '3'"), ('{"codecs": {"a": [{"bpp": NaN}]}}', "bpp nan"),
    ('{"codecs": {"a": [{"bpp": 1, "ms_ssim": 16.2}]}}', "convert decibels"), ('{"codecs": {"a": [{"bpp": 1}]}}', "neither"),
])  # fmt: skip
def test_published_points_of_another_form(tmp_path, text, match):
    path = tmp_path / "published.json"
    path.write_text(text)
    with pytest.raises(caecodec.ParameterError, match=match) as refused:
        read_published(path)
    assert "published.json" in str(refused.value)
