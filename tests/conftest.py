"""Photographs and networks that the tests share. The tiny network is seeded, so nothing depends on the shipped weights."""

import importlib.util
import os
import signal
from collections import Counter

# The tests are so small that several threads do not speed them up, and on a busy machine threads wait for each other for
# minutes; threads that wait leave the cores to others. numpy and PyTorch read these variables when they are imported, here or
# in the processes that tests start; some plugins of pytest import numpy earlier.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from helpers.paths import PACKAGE, TINY

from caecodec import settings

# Shells start background jobs with interrupts ignored, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

if importlib.util.find_spec("hypothesis"):  # no test of a GPU needs it
    import hypothesis

    # Any example may take long on a busy machine, or where it is the first.
    COMMON = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("quick", max_examples=30, **COMMON)
    hypothesis.settings.register_profile("thorough", max_examples=200, **COMMON)
    hypothesis.settings.load_profile("quick")  # --hypothesis-profile=thorough for the other


def pytest_xdist_auto_num_workers(config):
    """A process for each core, up to four, for all tests; this one alone for those that are named."""
    if config.args_source is config.ArgsSource.TESTPATHS:
        return min(4, os.cpu_count() or 1)
    config.option.dist = "no"
    return 0


def pytest_collection_modifyitems(items):
    """Files with slow tests first: one that begins when the others are done leaves processes without work."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_ignore_collect(collection_path, config):
    """With `-k cuda`, read no files without such tests: a machine with a GPU need not have the packages that they import."""
    if config.option.keyword != "cuda":
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any("cuda" in file.read_text() for file in files) else True


def pytest_report_header():
    import torch

    there = "CUDA is present" if torch.cuda.is_available() else "no CUDA device: the tests that need one are skipped"
    return f"caecodec: {PACKAGE}, {there}"


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
def tiny(monkeypatch):
    """The path of a tiny network's weights, quality 1 and 4, mse, found by digest as well."""
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(TINY.parent))
    return TINY


@pytest.fixture
def fp32(monkeypatch):
    """The precision in which pixels are the same to within rounding on every machine."""
    monkeypatch.setenv("CAECODEC_PRECISION", "fp32")


@pytest.fixture
def by_hand(monkeypatch):
    """Overfitted chunks have a network made by hand, in no time."""
    from helpers.overfitted import fit_by_hand

    from caecodec.codecs.overfitted import codec

    monkeypatch.setattr(codec, "_fit", fit_by_hand)


@pytest.fixture
def short_fit(monkeypatch):
    """The preset "instant" has about as few iterations as small chunks are fitted with."""
    from caecodec.codecs.overfitted.fit import PRESETS, Preset

    monkeypatch.setitem(PRESETS, "instant", Preset(60))
