"""The page of caecodec report in headless Chromium: everything moves, by mouse and by keyboard, and nothing leaves the page."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from helpers.processes import PATIENCE
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
# What is asked of a page is drawn with one of its next frames, and a change of size is seen in the first of them.
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=1000 * PATIENCE)
        yield browser
        browser.close()


def opened(browser, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(1000 * PATIENCE)
    return page


@pytest.fixture
def page(browser, reported):
    """The page at a desktop's size; nothing may be requested but the file, and no script may fail."""
    page = opened(browser, viewport={"width": 1280, "height": 900}, color_scheme="light")
    requested, errors = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(error.message))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(reported.as_uri())
    yield page
    assert errors == []
    assert {url for url in requested if not url.startswith("data:")} == {reported.as_uri()}
    page.close()


def drawn(page, value):
    """What this expression is once the page has been drawn."""
    return page.evaluate(f"async () => {{ await {DRAWN}; return {value}; }}")


def place(page):
    """Where the divider is, in percent."""
    return int(page.locator("#slider").get_attribute("aria-valuenow"))


def centre(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def transforms(page):
    """The transforms of both sides."""
    return drawn(page, "[...document.querySelectorAll('.picture')].map((picture) => picture.style.transform)")


def drag(page, start, by):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + by[0], start[1] + by[1], steps=4)
    page.mouse.up()


def test_divider_moves_by_mouse_and_keyboard(page):
    slider = page.get_by_role("slider", name="Divider between Original and caecodec photo mse, quality 1")
    slider.scroll_into_view_if_needed()
    assert place(page) == 50
    width = slider.bounding_box()["width"]
    drag(page, centre(slider), (width / 4, 0))
    assert place(page) == pytest.approx(75, abs=2)
    page.keyboard.press("Home")
    assert place(page) == 0
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") + 1000)
    page.keyboard.down("ArrowRight")
    page.clock.run_for(150)
    page.keyboard.up("ArrowRight")
    moved = place(page)
    assert 0 < moved < 60
    page.clock.run_for(150)
    assert place(page) == moved
    page.keyboard.press("End")
    assert place(page) == 100
    assert slider.get_attribute("aria-valuetext") == "100 % Original"


def test_zoom_keeps_both_sides_together(page):
    slider = page.locator("#slider")
    slider.scroll_into_view_if_needed()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    left, right = transforms(page)
    assert left == right == "scale(2.71828) translate(0px, 0px)"
    x, y = centre(slider)
    drag(page, (x + 100, y + 60), (-80, -40))  # an enlarged picture moves, and the divider stays
    left, right = moved = transforms(page)
    assert left == right != "scale(2.71828) translate(0px, 0px)"
    assert place(page) == 50
    drag(page, (x, y), (-100, 0))  # the divider moves by its grip, and the picture stays
    assert place(page) < 45
    assert transforms(page) == moved
    page.keyboard.press("Shift+ArrowLeft")
    assert transforms(page)[0] == transforms(page)[1] != left
    page.keyboard.press("-")
    assert drawn(page, "document.getElementById('zoom').textContent") == "165 %"
    page.keyboard.press("0")
    assert transforms(page) == ["scale(1) translate(0px, 0px)"] * 2
    page.keyboard.down("Control")
    page.mouse.move(x - 50, y)
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("document.getElementById('zoom').textContent !== '100 %'")  # a wheel is not waited for
    left, right = transforms(page)
    assert left == right != "scale(1) translate(0px, 0px)"


def test_pictures_are_chosen(page):
    page.get_by_role("radio", name="coffee.png").check()
    page.get_by_role("group", name="Rate").get_by_role("radio").nth(1).check()
    page.get_by_role("radio", name=re.compile("JPEG, quality")).check()
    page.get_by_label("Left").select_option("AVIF")
    assert page.locator("#left-caption").inner_text().startswith("AVIF, quality")
    assert page.locator("#right-caption").inner_text().startswith("JPEG, quality")
    rate = data(page)["images"][1]["rates"][1]
    assert page.locator("#right-picture").get_attribute("src") == rate[1]["source"]
    assert page.locator("#left-picture").get_attribute("src") == rate[2]["source"]
    assert page.locator("#left-picture").get_attribute("alt").startswith("coffee.png: AVIF, quality")


def data(page):
    return json.loads(page.locator("#data").inner_text())


def pixels(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB"), np.int64)


def test_heat_map_is_of_the_error(page):
    page.get_by_label("Error as a heat map").check()
    page.locator("#error").wait_for(state="visible")
    drawn = page.evaluate("() => document.getElementById('error').toDataURL()")
    image = data(page)["images"][0]
    errors = np.abs(pixels(image["original"]) - pixels(image["rates"][0][0]["source"])).mean(axis=2)
    colours = pixels(drawn)
    assert colours.shape == (160, 160, 3)
    np.testing.assert_array_equal((colours == (0, 0, 4)).all(axis=2), errors == 0)
    np.testing.assert_array_equal((colours == (252, 255, 164)).all(axis=2), errors >= 32)
    middle = np.unravel_index(np.abs(errors - 16).argmin(), errors.shape)
    assert np.abs(colours[middle] - (188, 55, 84)).max() < 20
    assert "Error of caecodec" in page.locator("#right-caption").inner_text()
    page.get_by_label("Error as a heat map").uncheck()
    page.locator("#right-picture").wait_for(state="visible")


def test_tables_sort(page):
    table = page.locator("#points table")
    bpp = table.get_by_role("columnheader", name="bpp")
    order = "[...document.querySelectorAll('#points tbody tr td:nth-child(3)')].map((cell) => +cell.textContent)"
    before = page.evaluate(order)
    assert before != sorted(before)
    bpp.click()
    assert drawn(page, order) == sorted(before)
    assert table.locator("th[aria-sort]").inner_text() == "bpp"
    bpp.focus()
    page.keyboard.press("Enter")
    assert drawn(page, order) == sorted(before, reverse=True)


def test_curves_say_their_values(page):
    plots = page.locator("#charts .u-over")
    assert plots.count() == 2
    page.mouse.move(*centre(plots.nth(0)))
    legend = page.locator("#charts figure").nth(0).locator(".u-legend")
    for name, kind in (("caecodec photo mse", "quality [123]"), ("JPEG", r"quality \d+"), ("AVIF", r"quality \d+")):
        row = legend.locator("tr", has_text=re.compile(f"^{name}"))
        assert re.search(kind + r": \d\d\.\d\d dB at \d\.\d{3} bpp", row.inner_text())
    jpeg = legend.get_by_role("button", name="JPEG")
    jpeg.focus()
    page.keyboard.press("Enter")
    assert jpeg.get_attribute("aria-pressed") == "false"
    second = page.get_by_role("img", name=re.compile(r"^MS-SSIM \(dB\) against bits per pixel of caecodec photo mse, JPEG"))
    second.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert " dB at " in page.locator("#charts figure").nth(1).locator(".u-legend").inner_text()


def test_curves_enlarge(page):
    """A drag over part of a plot enlarges it, and a double click shows all of it again."""
    canvas = "document.querySelector('#charts canvas').toDataURL()"
    plot = page.locator("#charts .u-over").nth(0)
    whole = drawn(page, canvas)
    drag(page, centre(plot), (80, 60))
    page.mouse.move(5, 5)
    assert drawn(page, canvas) != whole
    plot.dblclick()
    page.mouse.move(5, 5)
    assert drawn(page, canvas) == whole


def test_light_and_dark(browser, page, reported):
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate(background) == "rgb(21, 24, 28)"
    other = opened(browser, color_scheme="dark")
    other.goto(reported.as_uri())
    assert other.evaluate(background) == "rgb(21, 24, 28)"
    other.get_by_label("Theme").select_option("light")
    assert other.evaluate(background) == "rgb(255, 255, 255)"
    other.close()


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_fits_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert drawn(page, "document.documentElement.scrollWidth") <= width
    assert page.locator("#slider").bounding_box()["width"] > 0.5 * min(width, 768)
