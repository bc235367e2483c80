"""What the server answers: pixels, costs, headers and errors; that it serves nothing else, nor by other names; many at once."""

import asyncio
import http.client
import io
import re
import socket
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.served import CELLS, PHOTO, SIGNAL, running
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.ngff.groups import read_group
from caecodec.ngff.pyramid import pyramid
from caecodec.serving.app import Viewer, application
from caecodec.serving.blocks import BlockCache
from caecodec.serving.collection import open_collection


def pixels(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_images_are_described(images, client):
    assert set(images) == {
        "blosc.ozx",
        "chunk-linked.zarr",
        "deep/cells-0.4.ome.zarr",
        "deep/several.zarr/float",
        "layers.ome.zarr",
        "plain.zarr",
        "quality-1.ome.zarr",
        "quality-4.ome.zarr",
    }
    coded = images["quality-4.ome.zarr"]
    assert coded["codec"] == "cae, quality 4"
    assert coded["rgb"]
    assert [(one["width"], one["made"]) for one in coded["levels"]] == [(1100, False), (550, False), (275, False), (138, False)]
    assert {name: one["layers"] for name, one in images.items() if one["layers"]} == {"layers.ome.zarr": 4}
    cells = images["deep/cells-0.4.ome.zarr"]
    assert cells["channels"] == ["DAPI", "GFP"]
    assert (cells["colours"], cells["composed"]) == (["#00FF00", "#FF00FF"], [0, 1])
    assert coded["composed"] == []
    assert cells["axes"] == [{"name": "z", "length": 3, "at": 1}]
    plain = images["plain.zarr"]
    assert [tuple(one.values()) for one in plain["levels"]] == [
        (1100, 700, 512, False),
        (550, 350, 256, True),
        (275, 175, 128, True),
    ]
    (left_out,) = client.get("images").json()["left_out"]
    assert left_out.startswith("deep/several.zarr/names: ")


@pytest.mark.parametrize("name", ["blosc.ozx", "plain.zarr"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_are_the_pixels(client, images, name, level, tmp_path):
    """Of arrays without loss, stored levels and made ones alike."""
    whole = np.moveaxis(list(pyramid((np.moveaxis(PHOTO, -1, 0),), 200, tmp_path))[level], 0, -1)
    side = images[name]["levels"][level]["tile"]
    for row in range(-(-whole.shape[0] // side)):
        for column in range(-(-whole.shape[1] // side)):
            found = pixels(client.get(f"tiles/{images[name]['key']}/{level}/{column}_{row}.png"))
            np.testing.assert_array_equal(found, whole[side * row : side * (row + 1), side * column : side * (column + 1)])


def test_weights_that_groups_carry_are_used(client, images, served):
    shown = pixels(client.get(f"tiles/{images['quality-4.ome.zarr']['key']}/0/0_0.png")).astype(int)
    expected = np.moveaxis(read_group(served / "quality-4.ome.zarr").pixels, 0, -1)[:512, :512]
    assert np.abs(shown - expected).max() <= 1
    assert "caecodec_weights" in zarr.open_group(served / "quality-4.ome.zarr", mode="r")


def test_layers(client, images, served):
    """The pixels of the first layers alone, for which fewer bytes are read; all of them if none are asked for."""
    path = f"tiles/{images['layers.ome.zarr']['key']}/0/1_1.png"
    group = zarr.open_group(served / "layers.ome.zarr", mode="r")
    read = []
    for layers in (1, 2, 3, 4):
        answer = client.get(path, params={"layers": layers})
        with caecodec.weights.using(group):
            expected = caecodec.read(group["s0"], np.s_[:, 512:, 512:1024], layers=layers)
        assert np.abs(pixels(answer).astype(int) - np.moveaxis(expected, 0, -1)).max() <= 1
        read.append(int(answer.headers["caecodec-read-bytes"]))
        again = client.get(path, params={"layers": layers})
        assert (again.headers["caecodec-read-bytes"], again.content) == ("0", answer.content)
    assert 0 < read[0] < read[1] < read[2] < read[3]
    np.testing.assert_array_equal(pixels(client.get(path)), pixels(answer))


@pytest.mark.parametrize(
    ("name", "layers", "problem"),
    [
        ("layers.ome.zarr", "5", "layers is 5 but layers.ome.zarr has 4, from 1 on"),
        ("layers.ome.zarr", "0", "layers is 0 but layers.ome.zarr has 4, from 1 on"),
        ("layers.ome.zarr", "all", "layers is 'all' but must be whole numbers from 0 on"),
        ("quality-4.ome.zarr", "1", "layers is 1 but quality-4.ome.zarr has no layers; leave it out"),
        ("plain.zarr", "1", "layers is 1 but plain.zarr has no layers; leave it out"),
    ],
)
def test_layers_that_there_are_not(client, images, name, layers, problem):
    for path in (f"tiles/{images[name]['key']}/0/0_0.png", f"images/{images[name]['key']}/window"):
        answer = client.get(path, params={"layers": layers})
        assert (answer.status_code, answer.json()["error"]) == (400, problem)


def test_channels_positions_and_windows(client, images):
    key = images["deep/cells-0.4.ome.zarr"]["key"]
    low, high = client.get(f"images/{key}/window", params={"channel": 1}).json()["window"]
    assert (low, high) == (CELLS[1].min(), CELLS[1].max())
    shown = pixels(client.get(f"tiles/{key}/0/0_0.png", params={"at": "2", "channel": 1, "window": "1000,30000"}))
    expected = np.clip((CELLS[1, 2].astype(float) - 1000) * 255 / 29000, 0, 255)
    assert np.abs(shown - expected).max() <= 0.51
    middle = pixels(client.get(f"tiles/{key}/0/0_0.png"))  # by default the first channel, the middle of z, its own window
    expected = np.clip((CELLS[0, 1].astype(float) - CELLS[0].min()) * 255 / np.ptp(CELLS[0]), 0, 255)
    assert np.abs(middle - expected).max() <= 0.51


def test_composites(client, images):
    """Channels in the colours of the metadata, green and magenta, each by its window; what is decoded serves all of them."""
    key = images["deep/cells-0.4.ome.zarr"]["key"]
    path, windows = f"tiles/{key}/0/0_0.png", [(1000, 30000), (500, 20000)]
    green, magenta = (
        np.clip((plane.astype(float) - low) * 255 / (high - low), 0, 255)
        for plane, (low, high) in zip(CELLS[:, 2], windows, strict=True)
    )
    shown = client.get(path, params={"at": "2", "channels": "0,1", "window": "1000,30000,500,20000"})
    assert np.abs(pixels(shown) - np.stack([magenta, green, magenta], axis=-1)).max() <= 0.51
    one = client.get(path, params={"at": "2", "channels": "1", "window": "500,20000"})
    assert np.abs(pixels(one) - np.stack([magenta, 0 * green, magenta], axis=-1)).max() <= 0.51
    assert one.headers["caecodec-decoded-pixels"] == "0"
    usual = client.get(f"images/{key}/window", params={"channels": "1,0"}).json()["window"]
    assert usual == [CELLS[1].min(), CELLS[1].max(), CELLS[0].min(), CELLS[0].max()]
    asked = client.get(path, params={"channels": "1,0", "window": ",".join(map(str, usual))})
    np.testing.assert_array_equal(pixels(client.get(path, params={"channels": "0,1"})), pixels(asked))


@pytest.mark.parametrize(
    ("name", "query", "problem"),
    [
        ("cells-0.4.ome.zarr", {"channels": "0,2"}, "channel is 2 but deep/cells-0.4.ome.zarr has 2"),
        ("cells-0.4.ome.zarr", {"channels": ""}, "channels is '' but must be whole numbers"),
        ("cells-0.4.ome.zarr", {"channels": "0,-1"}, "channels is '-1' but must be whole numbers"),
        ("cells-0.4.ome.zarr", {"channels": "1,1"}, "channels is '1,1' but must be different ones"),
        ("cells-0.4.ome.zarr", {"channels": "0", "channel": "0"}, "channels is '0' but must be different ones, not of RGB"),
        (
            "cells-0.4.ome.zarr",
            {"channels": "0,1", "window": "0,1"},
            "window is '0,1' but must be two numbers for each channel",
        ),
        ("cells-0.4.ome.zarr", {"channels": "0,1", "window": "0,1,2,2"}, "'0,1,2,2' but must be two numbers for each channel"),
        ("cells-0.4.ome.zarr", {"channel": "0", "window": "0,1,2,3"}, "window is '0,1,2,3' but must be two numbers, the"),
        ("cells-0.4.ome.zarr", {"window": "0,1,2"}, "window is '0,1,2' but must be two numbers, the"),
        ("cells-0.4.ome.zarr", {"window": "0,inf"}, "window is '0,inf' but must be two numbers, the"),
        ("plain.zarr", {"channels": "0,1"}, "channels is '0,1' but must be different ones, not of RGB"),
    ],
)
def test_composites_that_there_are_not(client, images, name, query, problem):
    (key,) = (one["key"] for other, one in images.items() if other.endswith(name) and "chunk" not in other)
    for path in (f"tiles/{key}/0/0_0.png", f"images/{key}/window"):
        answer = client.get(path, params=query)
        assert answer.status_code == 400
        assert problem in answer.json()["error"]


def test_windows_of_values_without_metadata(client, images):
    key = images["deep/several.zarr/float"]["key"]
    low, high = client.get(f"images/{key}/window").json()["window"]
    assert (low, high) == pytest.approx(np.percentile(SIGNAL[10:], (0.1, 99.9)), rel=1e-3)
    shown = pixels(client.get(f"tiles/{key}/0/0_0.png"))
    assert (shown[:10] == 0).all()  # not a number
    assert np.ptp(shown[10:]) == 255


def test_costs_are_told(served):
    """What is read from the store and decoded for a tile, and nothing for one that the server still has."""
    array = zarr.open_array(served / "plain.zarr", mode="r")
    with running(served / "plain.zarr") as url, httpx.Client(base_url=url, timeout=processes.PATIENCE) as client:
        key = client.get("images").json()["images"][0]["key"]
        client.get(f"tiles/{key}/0/1_0.png")  # decoded already, when the server began: the middle
        answer = client.get(f"tiles/{key}/0/0_0.png")
        again = client.get(f"tiles/{key}/0/0_0.png")
    files = [served / "plain.zarr" / array.metadata.encode_chunk_key((i, j, 0)) for i in range(8) for j in range(6)]
    assert 0 < int(answer.headers["caecodec-read-bytes"]) < sum(file.stat().st_size for file in files)
    assert int(answer.headers["caecodec-decoded-pixels"]) > 0
    assert re.fullmatch(r"wait;dur=[\d.]+, decode;dur=[\d.]+, png;dur=[\d.]+", answer.headers["server-timing"])
    assert again.headers["caecodec-read-bytes"] == again.headers["caecodec-decoded-pixels"] == "0"
    assert again.content == answer.content


def test_a_tile_that_the_browser_has_is_not_sent_again(client, images):
    path = f"tiles/{images['plain.zarr']['key']}/0/0_0.png"
    answer = client.get(path)
    assert answer.headers["cache-control"] == "private, no-cache"
    same = client.get(path, headers={"If-None-Match": f'"other", W/{answer.headers["etag"]}'})
    assert (same.status_code, same.content) == (304, b"")
    other = client.get(path, params={"window": "0,100"}, headers={"If-None-Match": answer.headers["etag"]})
    assert other.status_code == 200
    assert client.head(path).headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("0/2_0.png", 200),
        ("0/3_0.png", 404),
        ("0/0_2.png", 404),
        ("9/0_0.png", 404),
        ("-1/0_0.png", 404),
        ("0/0_-1.png", 404),
        (f"0/{'9' * 5000}_0.png", 404),
        ("0/٣_0.png", 404),
        ("0/0_0.png?window=2,1", 400),
        ("0/0_0.png?window=nan,1", 400),
        ("0/0_0.png?channel=3", 400),
        ("0/0_0.png?channel=-1", 400),
        ("0/0_0.png?at=0", 400),
        ("0/0_0.png?colour=1", 400),
    ],
)
def test_what_there_is_not_is_an_error(client, images, place, status):
    answer = client.get(f"tiles/{images['plain.zarr']['key']}/{place}")
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]
    assert client.get(f"tiles/none/{place}").status_code == 404


def test_headers_of_every_answer(client, images):
    for path, kind in {
        "": "text/html; charset=utf-8",
        "viewer.js": "text/javascript; charset=utf-8",
        "page.css": "text/css; charset=utf-8",
        "images": "application/json",
        "nothing": "text/plain; charset=utf-8",
        f"tiles/{images['plain.zarr']['key']}/0/0_0.png": "image/png",
    }.items():
        headers = client.get(path).headers
        assert headers["content-type"] == kind
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "private, no-cache"
        assert "script-src 'self';" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
    assert client.post("images").status_code == 405


@pytest.mark.parametrize(
    "target",
    [
        "/../app.py",
        "/../../errors.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/vendor/../../app.py",
        "/vendor/..%2f..%2fapp.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/..\\app.py",
        "/tiles/../../app.py",
        "/tiles/..%2f..%2fserved/0/0_0.png",
        "/images/%2e%2e%2fplain.zarr/window",
        "/plain.zarr/zarr.json",
        "/page.css%00.html",
        "http://127.0.0.1/etc/passwd",
    ],
)
def test_no_path_leads_out(url, target):
    """Sent as they are, without a client that tidies them up."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=processes.PATIENCE)
    connection.putrequest("GET", target)
    connection.endheaders()
    assert connection.getresponse().status in (400, 404)
    connection.close()


def test_links_out_of_the_folder_are_not_followed(client, images):
    assert "linked.zarr" not in images
    answer = client.get(f"tiles/{images['chunk-linked.zarr']['key']}/0/0_0.png")
    assert answer.status_code == 400
    assert "is a link out of" in answer.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example:8000", 400),
        ("www.localhost", 400),
        ("", 400),
    ],
)
def test_other_host_names_are_refused(client, host, status):
    """A page of others could otherwise let its own name point to this machine, and read what is served."""
    assert client.get("images", headers={"Host": host}).status_code == status


def test_the_names_that_are_given_are_accepted(served):
    with running(served / "plain.zarr", "--name", "slides.lab") as url:
        assert httpx.get(url, headers={"Host": "slides.lab"}, timeout=processes.PATIENCE).status_code == 200
        assert httpx.get(url, headers={"Host": "other.lab"}, timeout=processes.PATIENCE).status_code == 400


def test_200_requests_at_once(url, images):
    """Tiles of several images, each asked for several times, on as many connections."""
    paths = [f"tiles/{images[name]['key']}/0/{i % 2}_{i // 2 % 2}.png" for name in images for i in range(4)]
    paths = [path for path in paths if "0/0_0" in path or "cells" not in path]
    known = {path: httpx.get(url + path, timeout=processes.PATIENCE) for path in paths}
    known = {path: answer.content for path, answer in known.items() if answer.status_code == 200}

    async def ask():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, timeout=processes.PATIENCE, limits=limits, trust_env=False) as client:
            return await asyncio.gather(*(client.get(list(known)[i % len(known)]) for i in range(200)))

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 200
    assert all(answer.content == known[list(known)[i % len(known)]] for i, answer in enumerate(answers))


def test_nothing_is_decoded_for_a_browser_that_has_gone(served):
    cache = BlockCache(2**28)
    with ExitStack() as stack:
        viewer = Viewer(open_collection(served / "plain.zarr", stack), cache)
        app = application(viewer, ["testserver"])
        key = next(iter(viewer._collection.pyramids))
        sent = []

        async def request(*messages):
            path = f"/tiles/{key}/0/0_0.png"
            scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"testserver")]}
            left = iter(messages)

            async def receive():
                return next(left)

            async def send(message):
                sent.append(message)

            await app(scope, receive, send)

        asyncio.run(request({"type": "http.disconnect"}))
        assert (sent[0]["status"], cache.bytes) == (499, 0)
        asyncio.run(request({"type": "http.request", "body": b"", "more_body": False}))
        assert sent[2]["status"] == 200
        assert cache.bytes > 0


def test_what_cannot_be_served(served, tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 1
    assert "holds no image to show: there is no Zarr array or group in it" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "missing.zarr"), "--port", "0"]) == 1
    assert "missing.zarr holds no image to show" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(served), "--port", str(port)]) == 1
        assert f"127.0.0.1:{port} cannot be listened at" in capsys.readouterr().err
    for wrong in (["--port", "70000"], ["--cache-mib", "many"]):
        with pytest.raises(SystemExit):
            main(["serve", str(served), *wrong])


def test_the_extra_is_named():
    code = "import sys; sys.modules['uvicorn'] = None; from caecodec.cli.main import main; sys.exit(main(['serve', '.']))"
    assert (
        "serving needs uvicorn, which is not installed: pip install 'caecodec[serve]'"
        in processes.run("-c", code, expected=1).stderr
    )


def test_importing_the_package_imports_no_framework():
    code = "import sys, caecodec, caecodec.cli.main; print({'starlette', 'uvicorn', 'anyio'} & set(sys.modules))"
    assert processes.run("-c", code).stdout.strip() == "set()"
