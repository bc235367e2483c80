"""Fixtures of the tests of training."""

import pytest
from helpers.images import random_image
from PIL import Image

from caecodec.models import rate
from caecodec.training import start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six small images."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        Image.fromarray(random_image(272, 288, 3, seed=number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def short_start(monkeypatch):
    """The start of a training draws few crops and fits its rates in few steps."""
    monkeypatch.setattr(start, "KLT_CROPS", 60)
    monkeypatch.setattr(start, "RATE_CROPS", 16)
    monkeypatch.setattr(rate, "FIT_STEPS", 10)
