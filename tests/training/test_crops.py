"""Crops of the images that a network is trained on."""

import numpy as np
import pytest
from helpers.images import random_image

import caecodec
from caecodec.training.crops import Crops


def test_crops_are_parts_of_images():
    image = random_image(70, 80, 3)
    drawn = (Crops([image, image[:30]], 64, "cpu", 0).draw(50, 64) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    places = {
        (y, x, mirrored, turned)
        for crop in drawn
        for y in range(7)
        for x in range(17)
        for mirrored in (False, True)
        for turned in (False, True)
        if np.array_equal(image[y : y + 64, x : x + 64][:: -1 if turned else 1, :: -1 if mirrored else 1], crop)
    }
    assert len(places) > 20
    assert {place[2:] for place in places} == {(True, False), (False, False), (True, True), (False, True)}
    with pytest.raises(caecodec.ParameterError, match="no training image has 128x128"):
        Crops([image], 128, "cpu", 0)
