"""The buffers that zarr asks for: cupy's under zarr.config.enable_gpu(), and anybody's."""

import numpy as np
import pytest
import torch
import zarr
from helpers.images import random_image
from helpers.paths import TINY_CONTEXT
from zarr.core.buffer import cpu
from zarr.registry import fully_qualified_name, register_buffer, register_ndbuffer

import caecodec
from caecodec.images.metrics import psnr

IMAGE = random_image(60, 70, 3)
OPTIONS = {
    "chunks": (32, 32, 3), "compressors": None, "serializer": caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY_CONTEXT)
}  # fmt: skip


class Bytes(cpu.Buffer):
    """Bytes of another kind."""


class Values(cpu.NDBuffer):
    """Values of another kind."""


@pytest.mark.parametrize("shards", [None, (64, 64, 3)])
def test_prototype(shards):
    """The codec takes and returns the buffers that it is asked for."""
    seen = []
    codec = caecodec.zarr.ConvolutionalAutoencoder

    def noted(method):
        async def note(self, data, spec):
            result = await method(self, data, spec)
            seen.append((type(data), type(result)))
            return result

        return note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_encode_single", noted(codec._encode_single))
        patch.setattr(codec, "_decode_single", noted(codec._decode_single))
        register_buffer(Bytes)
        register_ndbuffer(Values)
        with zarr.config.set({"buffer": fully_qualified_name(Bytes), "ndbuffer": fully_qualified_name(Values)}):
            array = zarr.create_array({}, data=IMAGE, shards=shards, **OPTIONS)
            found = array[:]
    np.testing.assert_array_equal(found, array[:])
    assert seen[:6] == [(Values, Bytes)] * 6
    assert seen[6:] == [(Bytes, Values)] * 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shards", [None, (64, 64, 3)])
def test_cupy(shards):
    """Chunks stay on the GPU, and are what they are without it."""
    cupy = pytest.importorskip("cupy", reason="needs cupy")
    image = IMAGE.copy()
    image[:32, :32] = 5
    expected = zarr.create_array({}, data=image, shards=shards, **OPTIONS)[:]
    with zarr.config.enable_gpu():
        array = zarr.create_array({}, data=cupy.asarray(image), shards=shards, **OPTIONS)
        found = array[:]
        assert isinstance(found, cupy.ndarray)
        assert psnr(cupy.asnumpy(found), expected) > 45
        wide = cupy.asarray(image).astype(cupy.uint16) * 9
        serializer = caecodec.zarr.ConvolutionalAutoencoder(max_error=2, weights=TINY_CONTEXT)
        bounded = zarr.create_array({}, data=wide, **{**OPTIONS, "serializer": serializer})
        assert int(cupy.abs(bounded[:].astype(cupy.int32) - wide.astype(cupy.int32)).max()) <= 2
