"""Fixtures of the overfitted codec's tests."""

import pytest
from helpers.overfitted import picture_network

from caecodec.codecs.overfitted.architecture import LOP


@pytest.fixture(scope="module")
def sections():
    """A network for three channels, and one for single planes."""
    return {channels: picture_network(LOP, channels).section() for channels in (1, 3)}
