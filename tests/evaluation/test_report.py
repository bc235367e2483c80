"""caecodec report: a page that has everything in it, and what is at which rate."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.paths import PACKAGE, TINY
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.evaluation import compared, report, side_by_side, sweep
from caecodec.evaluation.images import select_images

OURS = "caecodec photo mse"


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def pictures(html):
    """What the page's scripts draw."""
    return json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', html)[1])


def pixels(source):
    head, data = source.split(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture(scope="module")
def html(reported):
    return reported.read_text()


def test_every_image_is_there_without_loss(photos, html):
    images = pictures(html)["images"]
    assert [image["name"] for image in images] == ["astronaut.png", "coffee.png"]
    for image, file in zip(images, select_images([photos]), strict=True):
        original = side_by_side.middle(file.file.pixels(), 160)
        assert (image["height"], image["width"]) == original.shape[:2] == (160, 160)
        np.testing.assert_array_equal(pixels(image["original"]), original)
        assert [[picture["codec"] for picture in rate] for rate in image["rates"]] == [[OURS, "JPEG", "AVIF"]] * 2
        for quality, (ours, *_) in zip((1, 2), image["rates"], strict=True):
            assert ours["setting"] == f"quality {quality}"
            decoded = caecodec.decode(caecodec.encode(file.file.pixels(), quality=quality))
            np.testing.assert_array_equal(pixels(ours["source"]), side_by_side.middle(decoded, 160))


def test_page_needs_nothing_else(html):
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("href", "src", "srcset", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not (tag == "link" and attributes["rel"] != "icon")
    for style in re.findall("<style>(.*?)</style>", html, re.DOTALL):
        assert "url(" not in style
        assert "@import" not in style
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "sourceMappingURL" not in html
    assert html.count("<script") == html.count("</script>")


def test_controls_have_names(html):
    """Labels around controls, or names of their own."""
    for tag, attributes in Page(html).elements:
        if tag == "section":
            assert f'id="{attributes["aria-labelledby"]}"' in html
        if tag in ("input", "select"):
            assert re.search(f'<label[^>]*>[^/]*<{tag}[^>]*id="{attributes["id"]}"', html)
        if tag == "th":
            assert attributes["scope"] == "col"
    for name in ("Zoom in", "Zoom out"):
        assert f'aria-label="{name}"' in html


def test_tables_have_all_points(html):
    page = Page(html)
    for curve in pictures(html)["charts"][0]["curves"]:
        for bpp, psnr, setting in curve["points"]:
            assert f"{bpp:.4f}" in page.text
            assert f"{psnr:.2f}" in page.text
            assert setting in page.text


def test_rates_are_matched(photos):
    """Among all qualities of JPEG it takes the nearest, as a search of all of them finds."""
    images = select_images([photos])[:1]
    runs = (*compared.caecodec(["default"], ["mse"], [1, 2, 3], None, None), *compared.references(["jpeg"]))
    (comparison,) = sweep.sweep(images, runs, 0, lambda line: None, shown=[0]).comparisons
    array = images[0].file.pixels()
    for quality, (ours, theirs) in zip((1, 2), comparison.rates, strict=True):
        assert ours.setting == f"quality {quality}"
        np.testing.assert_array_equal(ours.pixels, caecodec.decode(caecodec.encode(array, quality=quality)))
        rates = {s.name: 8 * len(s.encode(array)) / (array.shape[0] * array.shape[1]) for s in runs[1].finer}
        nearest = min(rates, key=lambda name: abs(math.log(rates[name] / ours.values.bpp)))
        assert rates[theirs.setting] == theirs.values.bpp
        assert rates[nearest] == pytest.approx(rates[theirs.setting], rel=0.01)


def test_one_file_that_is_complete_or_absent(photos, tmp_path, capsys):
    arguments = ["report", str(photos / "coffee.png"), "--quiet", "--codecs", f"jpeg,{TINY}", "-o"]
    assert main([*arguments, str(tmp_path / "a.html"), "--samples", "0"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.html'}, 0.")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert pictures((tmp_path / "a.html").read_text())["images"] == []
    for wrong, match in (
        ([str(tmp_path / "a.html")], "exists already; pass overwrite (--overwrite)"),
        ([str(tmp_path / "page")], "must end with .html"),
        ([str(tmp_path / "b.html"), "--side", "-1"], "side is -1 but must be 1 or more pixels, or 0"),
        ([str(tmp_path / "b.html"), "--codecs", "jpeg,gif"], "no weights 'gif'"),
        ([str(tmp_path / "b.html"), "--codecs", "jpeg"], "codecs are jpeg but one must be caecodec's; add default"),
    ):
        assert main([*arguments, *wrong]) == 1
        assert match in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_script_in_a_name_stays_text(tmp_path):
    name = "</script><b onload=x>.png"
    try:
        Image.new("RGB", (20, 20)).save(tmp_path / name.replace("/", "_"))
    except OSError:
        pytest.skip("the file system does not take such names")
    report([str(tmp_path)], str(tmp_path / "page.html"), codecs=[TINY])
    html = (tmp_path / "page.html").read_text()
    assert "<b onload" not in html
    assert pictures(html)["images"][0]["name"] == name.replace("/", "_")


def test_libraries_are_listed_with_their_licences():
    vendor = PACKAGE / "evaluation" / "page" / "vendor"
    listed = (PACKAGE / "evaluation" / "README.md").read_text()
    for licence in vendor.glob("*.LICENSE"):
        assert licence.stem in listed
    libraries = {path.name.split(".")[0] for path in vendor.glob("*.js")}
    assert libraries == {"uPlot", "img-comparison-slider", "panzoom", "sortable"}
    assert len(list(vendor.glob("*.LICENSE"))) == len(libraries)
