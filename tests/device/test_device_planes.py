"""Chunks <-> images on a device: the same as on the CPU in numpy."""

import numpy as np
import pytest
import torch
from helpers.images import random_image

from caecodec.chunks import device_planes, planes, tiling
from caecodec.chunks.axes import check_chunk
from caecodec.chunks.planes import Layout
from caecodec.chunks.spec import ChunkSpec

CASES = [
    ("uint8", (33, 47, 3), -1), ("uint8", (3, 33, 47), 0), ("uint8", (20, 30), None), ("uint8", (2, 3, 4, 20, 30), 2),
    ("uint16", (20, 30), None), ("uint16", (2, 20, 30, 5), -1), ("int16", (5, 20, 30), 0), ("float32", (20, 30, 3), -1),
    ("float64", (2, 2, 20, 30), None),
]  # fmt: skip
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def chunk(dtype, shape, seed):
    """Values of any range; a plane of one value among them where there are several."""
    rng = np.random.default_rng(seed)
    image = random_image(*shape, 3, seed=seed)[..., 0]
    values = image if dtype == "uint8" else (image * rng.uniform(1, 90)).astype(dtype)
    if len(shape) > 3:
        values[0, 0] = values.reshape(-1)[0]
    return values


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "shape", "channel_axis"), CASES)
def test_same_as_on_the_cpu(dtype, shape, channel_axis, device):
    chunks = [chunk(dtype, shape, seed) for seed in range(3)]
    axes = check_chunk(shape, chunks[0].dtype, channel_axis)
    specs = [ChunkSpec(shape, dtype, axes, Layout.of(each, axes)) for each in chunks]
    assert all(spec.alike(specs[0]) for spec in specs)
    expected = [tiling.pad(planes.to_images(each, axes, p.layout), 16) for each, p in zip(chunks, specs, strict=True)]
    found = device_planes.to_images(torch.from_numpy(np.stack(chunks)).to(device), specs, 16).cpu().numpy()
    if device == "cpu":
        np.testing.assert_array_equal(found, np.concatenate(expected))
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-6)
    noisy = np.concatenate(expected) * np.float32(1.03) - np.float32(0.01)
    back = device_planes.to_chunks(torch.from_numpy(noisy).to(device), specs).cpu().numpy()
    count = len(noisy) // 3
    for i, (each, spec) in enumerate(zip(chunks, specs, strict=True)):
        images = noisy[i * count : (i + 1) * count, :, : shape[axes.height], : shape[axes.width]]
        wanted = planes.to_array(images, shape, each.dtype, axes, spec.layout)
        if device == "cpu":
            np.testing.assert_array_equal(back[i], wanted)
        elif each.dtype.kind == "f":
            np.testing.assert_allclose(back[i], wanted, rtol=1e-5)
        else:  # a GPU divides by three by another rounding
            assert np.abs(back[i].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**64])
def test_implausible(value):
    images = torch.zeros(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    images[3, 1, 2, 3] = value
    assert device_planes.implausible(images, 2).tolist() == [False, True]
    assert device_planes.implausible(images[:2], 2).tolist() == [False, False]
