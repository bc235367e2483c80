"""Photographs for the tests of evaluation."""

import pytest
import skimage.data
from PIL import Image

from caecodec.evaluation import report


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.astronaut()[:200, 100:300]).save(folder / "astronaut.png")
    Image.fromarray(skimage.data.coffee()[100:262, 200:380]).save(folder / "coffee.png")
    return folder


@pytest.fixture(scope="session")
def reported(photos, tmp_path_factory):
    """A page of two photographs and three codecs, at two rates."""
    path = tmp_path_factory.mktemp("reported") / "report.html"
    report([photos], path, codecs=["default", "jpeg", "avif"], qualities=[1, 2, 3], chunk=0, side=160)
    return path
