"""Groups that carry weights, and a user who has installed none."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.carried import FORMATS, SMALL, converted
from helpers.images import random_image
from PIL import Image

from caecodec import engine, settings


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user who has installed nothing, in a process that has seen no weights yet."""
    monkeypatch.delenv("CAECODEC_WEIGHTS", raising=False)
    engine.engine.renew()
    with settings.using(user_weights=tmp_path / "user"):
        yield tmp_path / "user"
    engine.engine.renew()


@pytest.fixture
def picture(tmp_path):
    """The path of a small picture."""
    path = tmp_path / "picture.png"
    Image.fromarray(random_image(48, 60, 3)).save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A group that carries the tiny weights, of each version."""
    folder = tmp_path_factory.mktemp("made")
    Image.fromarray(random_image(48, 60, 3)).save(folder / "picture.png")
    for ngff in FORMATS:
        converted(folder / "picture.png", folder / f"{ngff}.ome.zarr", replace(SMALL, ngff=ngff))
    return folder


@pytest.fixture(params=FORMATS)
def group(request, made, tmp_path):
    """A copy of one, in a process that has seen no weights."""
    engine.engine.renew()
    return Path(shutil.copytree(made / f"{request.param}.ome.zarr", tmp_path / "a.ome.zarr"))


@pytest.fixture
def newer(made, tmp_path):
    """The same of 0.5 alone."""
    engine.engine.renew()
    return Path(shutil.copytree(made / "0.5.ome.zarr", tmp_path / "a.ome.zarr"))
