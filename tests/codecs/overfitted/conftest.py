"""Fixtures of the overfitted codec's tests."""

import pytest
from helpers.overfitted import fit_by_hand, picture_network

from caecodec.codecs.overfitted import codec
from caecodec.codecs.overfitted.architecture import LOP


@pytest.fixture
def by_hand(monkeypatch):
    """Chunks are fitted with a network made by hand, in no time."""
    monkeypatch.setattr(codec, "_fit", fit_by_hand)


@pytest.fixture(scope="module")
def sections():
    """A network for three channels, and one for single planes."""
    return {channels: picture_network(LOP, channels).section() for channels in (1, 3)}
