"""Photographs for the tests of evaluation."""

import pytest
import skimage.data
from PIL import Image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.astronaut()[:200, 100:300]).save(folder / "astronaut.png")
    Image.fromarray(skimage.data.coffee()[100:262, 200:380]).save(folder / "coffee.png")
    return folder
