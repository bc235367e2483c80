"""The codec on a GPU, as users call it, and where there is none."""

import pytest
import torch
from helpers.images import random_image

import caecodec
from caecodec import settings
from caecodec.images.metrics import psnr


def test_absent_cuda_device():
    absent = f"cuda:{torch.cuda.device_count()}"
    with settings.using(device=absent), pytest.raises(caecodec.ParameterError, match="finds no such device"):
        caecodec.encode(random_image(64, 64, 3), quality=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_decodes_what_the_cpu_encodes():
    payload = caecodec.encode(random_image(500, 300, 3), quality=4, gpu=False)
    with settings.using(device="cuda"):
        assert psnr(caecodec.decode(payload), caecodec.decode(payload, gpu=False)) > 50
