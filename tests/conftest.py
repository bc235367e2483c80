"""Photographs and networks that the tests share. The tiny network is seeded, so nothing depends on the shipped weights."""

import pytest
from helpers.paths import TINY

from caecodec import settings


def pytest_report_header():
    import torch

    there = "CUDA is present" if torch.cuda.is_available() else "no CUDA device: the tests that need one are skipped"
    return f"caecodec: {there}"


@pytest.fixture(scope="session", autouse=True)
def no_user_weights(tmp_path_factory):
    """No test sees what the user has installed, or installs anything there."""
    with settings.using(user_weights=tmp_path_factory.mktemp("user") / "weights"):
        yield


@pytest.fixture(scope="session")
def photograph():
    """A photograph (512, 512, 3), uint8."""
    import skimage.data

    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def slide():
    """Stained tissue (512, 512, 3), uint8."""
    import skimage.data

    return skimage.data.immunohistochemistry()


@pytest.fixture
def one_thread():
    """What is this small is not done sooner by several threads; on a busy machine they wait for each other for minutes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch):
    """The path of a tiny network's weights, quality 1 and 4, mse, found by digest as well."""
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(TINY.parent))
    return TINY


@pytest.fixture
def fp32(monkeypatch):
    """The precision in which pixels are the same to within rounding on every machine."""
    monkeypatch.setenv("CAECODEC_PRECISION", "fp32")
