"""Fixtures of the tests of conversion."""

import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path, photograph):
    """A file of 32x50 pixels: two chunks, and one of its next level."""
    path = tmp_path / "photo.png"
    Image.fromarray(photograph[60:124:2, 180:280:2]).save(path)
    return path
