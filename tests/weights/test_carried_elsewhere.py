"""Weights carried by zipped stores, archives of folders, and groups behind URLs."""

import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.carried import DIGEST
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec import engine, weights
from caecodec.arrays.inspection import inspect
from caecodec.cli.main import main
from caecodec.ngff import decode_paths, read_group
from caecodec.storage import locations

pytestmark = pytest.mark.usefixtures("user")


def zipped(group, path):
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(group.rglob("*")):
            if one.is_file():
                file.write(one, one.relative_to(group))
    return path


@contextmanager
def served(folder):
    """The URL of a folder, by HTTP, which does not list what it has as Zarr would want it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def elsewhere(kind, group, tmp_path):
    """The same group in another kind of store."""
    if kind == "zip":
        yield zipped(group, tmp_path / "b.ome.zarr.zip")
    elif kind == "file":
        yield group.as_uri()
    elif kind == "memory":
        memory = fsspec.filesystem("memory")
        memory.put(str(group), "/travel/a.ome.zarr", recursive=True)
        yield "memory://travel/a.ome.zarr"
        memory.rm("/travel", recursive=True)
    elif kind == "zip in memory":
        memory = fsspec.filesystem("memory")
        memory.pipe("/travel/b.ozx", zipped(group, tmp_path / "b.ozx").read_bytes())
        yield "memory://travel/b.ozx"
        memory.rm("/travel", recursive=True)
    else:
        with served(group.parent) as url:
            yield f"{url}/{group.name}"


@pytest.mark.parametrize("kind", ["zip", "file", "memory", "zip in memory", "http"])
def test_other_stores(tmp_path, group, kind, user):
    if kind == "http":
        pytest.importorskip("aiohttp")
    expected = read_group(group).pixels
    engine.engine.renew()
    with elsewhere(kind, group, tmp_path) as place:
        np.testing.assert_array_equal(read_group(place).pixels, expected)
        engine.engine.renew()
        out = tmp_path / "out"
        assert main(["decode", str(place), "-o", str(out), "--quiet"]) == 0
        (written,) = out.iterdir()
        assert written.name in ("a.png", "b.png")
        np.testing.assert_array_equal(np.asarray(Image.open(written)).transpose(2, 0, 1), expected)
        if kind != "http":  # which needs a store that lists its keys
            assert all(report.weights_carried and not report.weights_installed for report in inspect(place))
        assert not user.exists()
        (source,) = weights.install(place)
    assert source.location == user / f"{DIGEST}.safetensors"
    assert source.location.read_bytes() == TINY.read_bytes()
    engine.engine.renew()
    np.testing.assert_array_equal(zarr.open_group(str(group), mode="r")["s0"][:], expected)


def test_inner_groups_of_a_remote_zip(tmp_path):
    labels = zarr.create_group(tmp_path / "a.zarr").create_group("labels")
    labels.create_group("cells").create_array("0", data=np.arange(6).reshape(2, 3), chunks=(1, 3))
    memory = fsspec.filesystem("memory")
    memory.pipe("/travel/inner.ozx", zipped(tmp_path / "a.zarr", tmp_path / "inner.ozx").read_bytes())
    group = locations.open_group("memory://travel/inner.ozx")
    assert [name for name, _ in group.members(max_depth=None)] == ["labels", "labels/cells", "labels/cells/0"]
    np.testing.assert_array_equal(group["labels/cells/0"][:], [[0, 1, 2], [3, 4, 5]])
    memory.rm("/travel", recursive=True)


def test_a_folder_with_zipped_stores(tmp_path, group):
    folder = tmp_path / "folder"
    folder.mkdir()
    zipped(group, folder / "b.ome.zarr.zip")
    written, failed = decode_paths([folder], tmp_path / "out")
    assert not failed
    assert written == [tmp_path / "out" / "b.png"]


@pytest.mark.parametrize("place", ["memory://travel/none", "nonsense://a", "none.zarr", "none.zip", "http://127.0.0.1:9/a"])
def test_places_that_hold_nothing(place):
    for function in (read_group, weights.install, inspect):
        with pytest.raises(caecodec.ParameterError, match=place):
            function(place)


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(caecodec.ParameterError, match="is not a zip file"):
        weights.install(tmp_path / "a.zip")


def test_a_folder_within_a_zip(tmp_path, newer):
    with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w") as file:
        file.write(newer / "zarr.json", "a.ome.zarr/zarr.json")
    with pytest.raises(caecodec.ParameterError, match="is not a Zarr group .its documents must be at the top level of the zip"):
        read_group(tmp_path / "b.zarr.zip")


def test_urls_without_fsspec():
    script = """if True:
        import sys
        sys.modules["fsspec"] = None
        import importlib.util, caecodec
        importlib.util.find_spec = lambda name, find=importlib.util.find_spec: None if name == "fsspec" else find(name)
        for call in (caecodec.ngff.read_group, caecodec.weights.install):
            for url in ("memory://a.zarr", "memory://a.safetensors"):
                try:
                    call(url)
                except caecodec.ParameterError as error:
                    print(error)
    """
    assert processes.run("-c", script).stdout.count("needs fsspec, which is not installed: pip install fsspec") == 4
