"""Fixtures of the tests of training."""

import pytest
from helpers.images import random_image
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six small images."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        Image.fromarray(random_image(272, 288, 3, seed=number)).save(folder / f"{number}.png")
    return folder
