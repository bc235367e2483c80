"""The page in headless Chromium: images, views, channels and places, by mouse and by keyboard."""

import re
import shutil

import httpx
import pytest
from helpers import processes
from helpers.served import running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
sync_api.expect.set_options(timeout=1000 * processes.PATIENCE)
expect = sync_api.expect
# The colour in the middle of a part of the stage, from left and top, as OpenSeadragon has drawn it.
COLOUR = """([x, y]) => {
    const canvas = document.querySelector("#viewer canvas");
    return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
}"""
# What changes is drawn in the next frame, which has ended once the one after it begins.
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, url):
    """Opens the page at a place; nothing may be requested from elsewhere, and no script may fail."""
    pages, requested, errors = [], [], []

    def open_page(place="", **options):
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 800}, "color_scheme": "light", **options})
        page.set_default_timeout(1000 * processes.PATIENCE)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(error.message))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(f"{url}{place}")
        return settled(page)

    yield open_page
    for page in pages:
        page.close()
    assert errors == []
    assert {one for one in requested if not one.startswith((url, "data:", "blob:"))} == set()


def settled(page):
    """The page, once it has all the tiles that it shows, and has drawn them."""
    expect(page.locator("html[data-ready]")).to_be_attached()
    expect(page.locator("#busy")).to_be_hidden()
    page.evaluate(TWO_FRAMES)
    return page


def says(page, **values):
    """Wait until the address says so; a value is a regular expression."""
    for name, value in values.items():
        expect(page).to_have_url(re.compile(f"[#&]{name}={value}(&|$)"))


def said_window(page):
    says(page, window=".*")
    return re.search("window=([^&]*)", page.url)[1]


def said(page, name):
    return float(re.search(f"[#&]{name}=([^&]*)", page.url)[1])


def changed(page, name, before):
    """What the address says once it says something else."""
    expect(page).not_to_have_url(re.compile(f"[#&]{name}={re.escape(f'{before:g}')}(&|$)"))
    return said(page, name)


def key(images, name):
    return images[name]["key"]


def two(images):
    return f"#a={key(images, 'quality-4.ome.zarr')}&b={key(images, 'plain.zarr')}"


def test_it_opens_with_the_first_image(opened, images):
    page = opened()
    says(page, a=key(images, "blosc.ozx"), view="a", x="550", y="350")
    assert page.title() == "blosc.ozx - caecodec"
    assert page.evaluate(COLOUR, [0.5, 0.5])[3] == 255
    expect(page.get_by_role("radio", name="Split")).to_be_disabled()
    expect(page.locator("#costs tr", has_text="tiles").locator("td").first).not_to_have_text("0")


def test_moving_and_zooming_change_the_address(opened):
    page = opened()
    says(page, zoom=".*")
    zoom, x = said(page, "zoom"), said(page, "x")
    stage = page.locator("#viewer").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] / 4, stage["y"] + stage["height"] / 2)
    page.mouse.wheel(0, -300)
    assert changed(page, "zoom", zoom) > zoom
    assert changed(page, "x", x) < x
    page.get_by_role("button", name="1:1").click()
    says(page, zoom="1")
    expect(page.locator("#zoom")).to_have_text("100 %")
    x = said(page, "x")
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] / 2 - 200, stage["y"] + stage["height"] / 2, steps=5)
    page.mouse.up()
    assert changed(page, "x", x) > x
    page.get_by_role("button", name="Fit").click()
    says(page, x="550", y="350", zoom=f"{zoom:g}")


def test_keyboard(opened, images):
    page = opened(two(images))
    says(page, zoom=".*")
    zoom, x, y = (said(page, name) for name in ("zoom", "x", "y"))
    page.keyboard.press("+")
    assert changed(page, "zoom", zoom) == pytest.approx(1.5 * zoom, rel=0.01)
    page.keyboard.press("ArrowRight")
    assert changed(page, "x", x) > x
    page.keyboard.press("ArrowDown")
    assert changed(page, "y", y) > y
    page.keyboard.press("-")
    says(page, zoom=f"{zoom:g}")
    page.keyboard.press("0")
    says(page, x=f"{x:g}", y=f"{y:g}")
    page.keyboard.press("Space")
    says(page, view="b")
    page.keyboard.press("Space")
    says(page, view="a")
    page.keyboard.press("3")
    says(page, view="split", divider="50")
    page.keyboard.press("]")
    says(page, divider="52")
    page.get_by_role("slider", name="Divider between A and B").focus()
    page.keyboard.press("Home")
    says(page, divider="0")
    page.keyboard.press("ArrowRight")
    says(page, divider="2")
    page.keyboard.press("2")
    says(page, view="b")
    expect(page.get_by_role("radio", name="B", exact=True)).to_be_checked()
    expect(page.locator("#right-name")).to_have_text("B: plain.zarr")


def test_the_views_show_what_they_say(opened, images):
    """A, B and both at one place: the colours on either side of the divider are those of the images."""
    left, right = [0.25, 0.5], [0.75, 0.5]
    page = opened(two(images))
    in_a = [page.evaluate(COLOUR, place) for place in (left, right)]
    page.get_by_role("radio", name="B", exact=True).check()
    settled(page)
    in_b = [page.evaluate(COLOUR, place) for place in (left, right)]
    assert all(a != b for a, b in zip(in_a, in_b, strict=True))
    page.get_by_role("radio", name="Split").check()
    settled(page)
    says(page, view="split")
    assert [page.evaluate(COLOUR, place) for place in (left, right)] == [in_a[0], in_b[1]]
    divider = page.get_by_role("slider", name="Divider between A and B").bounding_box()
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(divider["x"] + divider["width"] / 2, divider["y"] + divider["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.9 * stage["width"], stage["y"] + 100, steps=4)
    page.mouse.up()
    says(page, divider="90")
    settled(page)
    assert [page.evaluate(COLOUR, place) for place in (left, right)] == in_a


def test_layers_of_one_image_beside_each_other(opened, images):
    left, right = [0.25, 0.5], [0.75, 0.5]
    layered = key(images, "layers.ome.zarr")
    page = opened(f"#a={layered}&b={layered}&view=split")
    layers = {side: page.get_by_role("combobox", name=f"Layers of {side}") for side in "AB"}
    assert layers["A"].locator("option").all_text_contents() == ["all 4 layers", *(f"{i} of 4 layers" for i in (1, 2, 3))]
    with_all = [page.evaluate(COLOUR, place) for place in (left, right)]
    layers["A"].select_option("1 of 4 layers")
    says(page, **{"a-layers": "1"})
    expect(page.locator("#left-name")).to_have_text("A: 1 of 4 layers of layers.ome.zarr")
    expect(page.locator("#right-name")).to_have_text("B: all 4 layers of layers.ome.zarr")
    layers["B"].focus()
    page.keyboard.type("2")
    says(page, **{"a-layers": "1", "b-layers": "2"})
    expect(page.locator("#right-name")).to_have_text("B: 2 of 4 layers of layers.ome.zarr")
    settled(page)
    split = [page.evaluate(COLOUR, place) for place in (left, right)]
    assert all(a != b for a, b in zip(split, with_all, strict=True))
    link = page.url
    page.get_by_role("radio", name="B", exact=True).check()
    settled(page)
    in_b = [page.evaluate(COLOUR, place) for place in (left, right)]
    assert in_b[0] != split[0]
    assert in_b[1] == split[1]
    again = opened(link[link.index("#") :])
    assert [again.evaluate(COLOUR, place) for place in (left, right)] == split
    expect(again.get_by_role("combobox", name="Layers of B")).to_have_value("2")
    again.get_by_role("combobox", name="A", exact=True).select_option("plain.zarr")
    expect(again.get_by_role("combobox", name="Layers of A")).to_be_hidden()
    says(again, a=key(images, "plain.zarr"), **{"b-layers": "2"})
    assert "a-layers" not in again.url


def test_links_lead_to_the_same_place(opened, images):
    place = f"{two(images)}&view=split&divider=30&x=400&y=300&zoom=2"
    page = opened(place)
    says(page, view="split", divider="30", x="400", y="300", zoom="2")
    expect(page.get_by_role("combobox", name="A", exact=True)).to_have_value(key(images, "quality-4.ome.zarr"))
    page.evaluate("() => { location.hash = location.hash.replace('x=400', 'x=600').replace('view=split', 'view=b') }")
    says(page, view="b", x="600", zoom="2")
    expect(page.get_by_role("radio", name="B", exact=True)).to_be_checked()


@pytest.mark.parametrize(
    "place",
    [
        "#a=nothing&b=<b>",
        "#zoom=-1&x=a&y=",
        "#view=split",
        "#channel=99&at=7,7,7&window=5,5&a-layers=9&b-layers=0.5",
        "#zoom=Infinity&x=1e999&divider=500",
    ],
)
def test_places_that_there_are_not(opened, images, place):
    page = opened(place)
    says(page, a=key(images, "blosc.ozx"), view="a")
    assert page.evaluate(COLOUR, [0.5, 0.5])[3] == 255


def test_an_image_that_is_no_longer_served_is_named(opened):
    expect(opened("#a=0123456789ab").get_by_role("alert")).to_have_text("The image of this address is not served.")


def test_composites(opened, images):
    """Opened in the colours of the metadata, green and magenta; each channel is switched by mouse and keyboard."""
    cells = key(images, "deep/cells-0.4.ome.zarr")
    page = opened(f"#a={cells}")
    middle = [0.5, 0.5]
    says(page, channels="0,1", window="[^,]*,[^,]*,[^,]*,[^,]*")
    red, green, blue, _ = both = page.evaluate(COLOUR, middle)
    assert red == blue
    switches = {name: page.get_by_role("checkbox", name=name, exact=True) for name in ("DAPI", "GFP")}
    switches["GFP"].uncheck()
    says(page, channels="0")
    settled(page)
    assert page.evaluate(COLOUR, middle) == [0, green, 0, 255]
    expect(switches["GFP"]).to_be_focused()
    page.keyboard.press("Shift+Digit1")  # the last one stays
    page.keyboard.press("Shift+Digit9")  # there is none
    page.keyboard.press("Shift+Digit2")
    says(page, channels="0,1")
    page.keyboard.press("Shift+Digit1")
    says(page, channels="1")
    settled(page)
    assert page.evaluate(COLOUR, middle) == [red, 0, red, 255]
    expect(switches["DAPI"]).not_to_be_checked()
    page.keyboard.press("m")
    says(page, channel="0", window="[^,]*,[^,]*")
    expect(switches["DAPI"]).to_be_hidden()
    page.get_by_role("spinbutton", name="white", exact=True).fill("40000")
    page.get_by_role("spinbutton", name="white", exact=True).press("Enter")
    says(page, window="[^,]*,40000")
    page.get_by_role("combobox", name="Channel").select_option("several, in colour")
    says(page, channels="1")
    switches["DAPI"].check()
    says(page, channels="0,1", window="[^,]*,40000,.*")  # a window stays with its channel
    settled(page)
    darker = page.evaluate(COLOUR, middle)
    assert darker[1] < green
    assert [darker[0], darker[2]] == [red, red]
    again = opened(page.url[page.url.index("#") :])
    assert again.evaluate(COLOUR, middle) == darker
    again.get_by_label("black of GFP").fill("30000")
    again.get_by_label("black of GFP").press("Enter")  # more than white is, which is in the metadata
    says(again, channels="0,1", window="[^,]*,40000,30000,[^,]*")
    again.get_by_role("button", name="Reset").click()
    settled(again)
    assert again.evaluate(COLOUR, middle) == both
    again.locator("#viewer").click()
    again.keyboard.press("c")
    says(again, channel="0")
    assert opened(f"#a={cells}&channels=0,7&window=1,2").evaluate(COLOUR, middle) == both


def test_composites_beside_each_other(opened, images):
    """An image of two channels, and one that is RGB, on which the channels have no effect."""
    page = opened(f"#a={key(images, 'plain.zarr')}&b={key(images, 'deep/cells-0.4.ome.zarr')}&view=b")
    assert "channels" not in page.url
    red, green, blue, _ = page.evaluate(COLOUR, [0.1, 0.2])
    assert red == green == blue  # B has channels by those of A, which are none
    page.get_by_role("combobox", name="A", exact=True).select_option("deep/cells-0.4.ome.zarr")
    says(page, channels="0,1")
    page.get_by_role("combobox", name="B", exact=True).select_option("plain.zarr")
    settled(page)
    assert page.evaluate(COLOUR, [0.1, 0.2])[3] == 255


def test_channels_positions_and_contrast(opened, images):
    page = opened(f"#a={key(images, 'deep/cells-0.4.ome.zarr')}&channel=0")
    says(page, channel="0", at="1", window=".*")
    before = page.evaluate(COLOUR, [0.5, 0.5])
    window = said_window(page)
    page.get_by_role("combobox", name="Channel").select_option("GFP")
    says(page, channel="1")
    settled(page)
    assert page.evaluate(COLOUR, [0.5, 0.5]) != before
    page.locator("#viewer").click()
    page.keyboard.press("c")
    says(page, channel="0", window=window)
    page.get_by_label("z", exact=True).press("ArrowRight")
    says(page, at="2")
    page.get_by_role("spinbutton", name="white", exact=True).fill("9000")
    page.get_by_role("spinbutton", name="black", exact=True).fill("8999")
    says(page, window=".*,9000")  # which does not undo what is being typed
    page.get_by_role("spinbutton", name="black", exact=True).press("Enter")
    says(page, window="8999,9000")
    settled(page)
    assert page.evaluate(COLOUR, [0.5, 0.5])[0] in (0, 255)
    page.get_by_role("spinbutton", name="black", exact=True).fill("9001")
    page.get_by_role("spinbutton", name="black", exact=True).press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Black must be less than white.")
    page.get_by_role("button", name="Reset").click()
    says(page, window=window)


def test_an_answer_that_is_late_or_lost(browser, images, url):
    """The page says that it is not there yet, and then that it will not come."""
    page, held = browser.new_page(), []

    def request():
        """The one that a click makes, which waits."""
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("#busy")).to_be_visible()
        while not held:
            page.wait_for_timeout(20)
        return held.pop()

    page.goto(f"{url}#a={key(images, 'deep/cells-0.4.ome.zarr')}&channel=0")
    settled(page)
    usual = said_window(page)
    page.get_by_role("spinbutton", name="white", exact=True).fill("9000")
    page.get_by_role("spinbutton", name="white", exact=True).press("Enter")
    says(page, window=".*,9000")
    page.route("**/window?*", lambda route: held.append(route))
    request().continue_()
    says(page, window=usual)
    settled(page)
    request().abort()
    expect(page.get_by_role("alert")).to_have_text("Failed to fetch")
    settled(page)
    page.close()


def test_costs_are_shown_by_side(opened, images):
    page = opened(two(images) + "&view=split")
    rows = page.locator("#costs tr")
    for name in ("tiles", "PNG"):
        for side in (0, 1):
            expect(rows.filter(has_text=name).last.locator("td").nth(side)).not_to_have_text(re.compile("^0"))
    expect(page.locator("#last")).to_have_text(re.compile(r"Last tile \([AB]\): .* read, [\d.]+ ms decoding, [\d.]+ ms PNG"))


def test_what_is_wrong_is_said(browser, images, url):
    page = browser.new_page()
    page.goto(f"{url}#a={key(images, 'chunk-linked.zarr')}")
    expect(page.get_by_role("alert")).to_have_text(re.compile("is a link out of"))
    page.get_by_text("1 not shown").click()
    expect(page.locator("#left-out li")).to_have_text(re.compile("^deep/several.zarr/names: "))
    page.close()


def test_an_image_without_a_pyramid_is_shown_in_part(browser, served, tmp_path_factory):
    """One pixel of the screen for one of the coarsest level that is made, and no less."""
    import zarr

    path = tmp_path_factory.mktemp("large") / "large.zarr"
    zarr.create_array(path, shape=(16384, 16384), chunks=(512, 512), dtype="uint8", fill_value=200)
    with running(path) as url:
        assert httpx.get(f"{url}images", timeout=processes.PATIENCE).json()["images"][0]["limited"]
        page, decoded = browser.new_page(), []
        page.on("response", lambda answer: decoded.append(answer.headers.get("caecodec-decoded-pixels")))
        page.goto(url)
        settled(page)
        assert set(decoded) == {None, "0", str(512**2)}  # the tile in the middle was decoded when the server began
        says(page, x="8192", y="8192", zoom="0.25")
        page.keyboard.press("-")
        page.keyboard.press("-")
        page.keyboard.press("+")
        says(page, zoom="0.375")
        expect(page.locator("#note")).to_contain_text("levels to 1:4 are made by averaging")
        assert page.evaluate(COLOUR, [0.5, 0.5]) == [200, 200, 200, 255]
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_fits_the_window(opened, images, width, scheme):
    page = opened(two(images) + "&view=split", viewport={"width": width, "height": 800}, color_scheme=scheme)
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate("() => document.documentElement.scrollHeight") <= 800
    assert page.locator("#viewer").bounding_box()["height"] > 300


def test_everything_has_a_name(opened, images):
    page = opened(f"#a={key(images, 'deep/cells-0.4.ome.zarr')}&b={key(images, 'plain.zarr')}&view=split")
    for name in ("DAPI", "GFP"):
        expect(page.get_by_role("checkbox", name=name, exact=True)).to_be_visible()
        expect(page.get_by_role("spinbutton", name=f"black of {name}", exact=True)).to_be_visible()
        expect(page.get_by_role("spinbutton", name=f"white of {name}", exact=True)).to_be_visible()
    page.keyboard.press("m")
    for role, names in {
        "combobox": ["A", "B", "Channel"],
        "radio": ["A", "B", "Split"],
        "button": ["Zoom out", "Zoom in", "1:1", "Fit", "Reset"],
        "slider": ["Divider between A and B", "z"],
        "spinbutton": ["black", "white"],
    }.items():
        assert page.get_by_role(role).count() == len(names)
        for name in names:
            expect(page.get_by_role(role, name=name, exact=True)).to_be_visible()
