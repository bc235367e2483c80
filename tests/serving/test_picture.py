"""Pictures of composites, to the value."""

import io

import numpy as np
import pytest
from PIL import Image

from caecodec.serving import picture


def composite(values, windows, colours):
    return np.asarray(Image.open(io.BytesIO(picture.composite(np.array(values), windows, colours)))).tolist()


def test_a_channel_goes_from_black_to_its_colour():
    values = np.array([[[0, 100, 150, 200, 5000]]], np.uint16)
    assert composite(values, [(100, 200)], ["FF8000"]) == [[[0, 0, 0], [0, 0, 0], [128, 64, 0], [255, 128, 0], [255, 128, 0]]]


def test_channels_are_added_and_no_more_than_white():
    values = np.array([[[0, 1, 1]], [[2, 0, 4]]], np.float32)
    assert composite(values, [(0, 1), (0, 4)], ["FF0000", "8000FF"]) == [[[64, 0, 128], [255, 0, 0], [255, 0, 255]]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_all_dtypes(dtype):
    values = np.array([[[0, 25, 50]], [[50, 25, 0]]], dtype)
    assert composite(values, [(0, 50), (0, 50)], ["00FF00", "FF00FF"]) == [[[255, 0, 255], [128, 128, 128], [0, 255, 0]]]


def test_what_is_no_number_is_black():
    assert composite(np.array([[[np.nan, np.inf, -np.inf]]]), [(0, 1)], ["FFFFFF"]) == [[[0] * 3, [255] * 3, [0] * 3]]
