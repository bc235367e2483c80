"""A folder of images of all sorts, served."""

import os

import httpx
import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.paths import TINY, TINY_LAYERS
from helpers.served import CELLS, PHOTO, SIGNAL, running
from PIL import Image as PillowImage

from caecodec.cli.main import main
from caecodec.ngff import Image, Options, write_group


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A folder with images of several formats and codecs, and links out of it."""
    top = tmp_path_factory.mktemp("top")
    folder = top / "served"
    (folder / "deep").mkdir(parents=True)
    PillowImage.fromarray(PHOTO).save(top / "photo.png")
    for quality in ("1", "4"):  # with the weights of their own that they carry
        target = folder / f"quality-{quality}.ome.zarr"
        command = ["encode", str(top / "photo.png"), "-o", str(target), "--weights", str(TINY), "--quality", quality, "--quiet"]
        assert main(command) == 0
    command = ["encode", str(top / "photo.png"), "-o", str(folder / "layers.ome.zarr"), "--codec", "sae"]
    assert main([*command, "--weights", str(TINY_LAYERS), "--quiet"]) == 0
    cells = Image(CELLS, "czyx", labels=("DAPI", "GFP"))
    write_group(folder / "deep" / "cells-0.4.ome.zarr", cells, "cells", Options(codec="none", ngff="0.4", chunk_size=32))
    command = ["encode", str(top / "photo.png"), "-o", str(folder / "blosc.ozx"), "--codec", "blosc", "--quiet"]
    assert main([*command, "--chunk-size", "128", "--shard-size", "512"]) == 0
    zarr.create_array(folder / "plain.zarr", data=PHOTO, chunks=(96, 200, 3))
    values = SIGNAL.copy()
    values[:10] = np.nan
    group = zarr.open_group(folder / "deep" / "several.zarr", mode="w")
    group.create_array("float", data=values, chunks=(30, 30), dimension_names=("y", "x"))
    group.create_array("names", data=np.array(["a", "b"]), chunks=(2,))
    secret = zarr.create_array(top / "secret.zarr", data=PHOTO[:64, :64], chunks=(64, 64, 3), compressors=None)
    (folder / "linked.zarr").symlink_to(top / "secret.zarr")
    link = zarr.create_array(folder / "chunk-linked.zarr", data=PHOTO[:64, :64], chunks=(64, 64, 3), compressors=None)
    chunk = folder / "chunk-linked.zarr" / link.metadata.encode_chunk_key((0, 0, 0))
    chunk.unlink()
    chunk.symlink_to(top / "secret.zarr" / secret.metadata.encode_chunk_key((0, 0, 0)))
    return folder


@pytest.fixture(scope="session")
def url(served):
    with running(served) as found:
        yield found


@pytest.fixture(scope="session")
def client(url):
    with httpx.Client(base_url=url, timeout=processes.PATIENCE, trust_env=False) as found:
        yield found


@pytest.fixture(scope="session")
def images(client):
    """The descriptions of the images by name."""
    return {one["name"]: one for one in client.get("images").json()["images"]}


@pytest.fixture(scope="session", autouse=True)
def no_proxy():
    """Requests to this machine go to it."""
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
