"""Whole chunks through the line of a device, against those that the CPU codes.

On a GPU or, with TRITON_INTERPRET=1, in Triton's interpreter: `PYTHONPATH=.:tests python tests/device/check_line.py cuda`.
"""

import dataclasses
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import zarr
from benchmarks import line_stages, tables
from helpers.images import random_image
from helpers.paths import TINY, TINY_CONTEXT

import caecodec
from caecodec.bitstream import autoencoder
from caecodec.codecs import decoding
from caecodec.codecs.autoencoder import codec
from caecodec.codecs.base import Dependencies
from caecodec.engine import Engine, cuda, engine
from caecodec.engine.cuda import CudaLine
from caecodec.images.metrics import psnr
from caecodec.models.factorized import network
from caecodec.weights import Spec

DEVICE = sys.argv[1]


def on_device(batch):
    """Have the CPU's chunks go through a line as a GPU's do; batches of so many."""
    if DEVICE == "cpu":
        cuda.LANES = 1  # Triton's interpreter takes one thread at a time
        line = CudaLine("cpu", engine().load, engine().cpu)
        Engine.line = lambda self, placement: line
        network.in_parts = lambda device: False
    torch.backends.cudnn.allow_tf32 = False  # the symbols of a random network are large, and would be others
    caecodec.settings.configure(device=DEVICE, max_batch=batch, precision="fp32")


def on_cpu(line=Engine.line, in_parts=network.in_parts):
    Engine.line, network.in_parts = line, in_parts
    caecodec.settings.configure(device="cpu", max_batch=None, precision="fp32")


def close(one, other):
    """Equal but for rounding."""
    return np.array_equal(one, other) or psnr(one, other) > 45


def check_chunks(side):
    """Payloads of one side decode on the other, and are of equal size; in both codings, of several dtypes."""
    rgb, planes = random_image(side, side, 3, seed=1), random_image(2, side, side, 3, seed=2)[..., 0]
    cases = [(rgb, -1, {}), (rgb, -1, {"entropy": "static"}), (np.asfortranarray(rgb), -1, {}), (planes, 0, {}),
             ((planes * 9).astype(np.uint16), 0, {}), (planes.astype(np.float32), 0, {})]  # fmt: skip
    for array, axis, options in cases:
        on_cpu()
        expected = caecodec.encode(array, 4, channel_axis=axis, weights=TINY_CONTEXT, **options)
        decoded = caecodec.decode(expected, weights=TINY_CONTEXT)
        on_device(16)
        payload = caecodec.encode(array, 4, channel_axis=axis, weights=TINY_CONTEXT, **options)
        assert abs(len(payload) - len(expected)) <= len(expected) // 100
        assert autoencoder.parse(payload).header == autoencoder.parse(expected).header
        if DEVICE == "cpu":
            assert payload == expected
        found = caecodec.decode(expected, weights=TINY_CONTEXT)
        assert found.dtype == decoded.dtype
        assert found.flags.f_contiguous == decoded.flags.f_contiguous
        assert close(found, decoded)
        on_cpu()
        assert close(caecodec.decode(payload, weights=TINY_CONTEXT), decoded)


def check_damage(side):
    """A payload whose words are damaged is refused as on the CPU, whatever is in its batch."""
    payloads = [caecodec.encode(random_image(side, side, 3, seed=i), 4, weights=TINY_CONTEXT) for i in range(4)]
    parsed = autoencoder.parse(payloads[1])
    words = parsed.streams[0]
    payloads[1] = autoencoder.pack(dataclasses.replace(parsed, streams=(bytes([words[0] ^ 1]) + words[1:],)))
    on_device(4)

    def decode(data):
        try:
            return caecodec.decode(data, weights=TINY_CONTEXT).shape
        except caecodec.CorruptionError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decode, payloads))
    assert "damaged" in found[1]
    assert [found[i] for i in (0, 2, 3)] == [(side, side, 3)] * 3
    on_cpu()
    assert decode(payloads[1]) == found[1]


def check_zarr(side):
    """Many chunks at once, in batches, by way of zarr and as tensors."""
    image = random_image(3 * side, 3 * side, 3, seed=5)
    image[:side, :side] = 3
    options = {"chunks": (side, side, 3), "serializer": caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY_CONTEXT)}
    expected = zarr.create_array({}, data=image, compressors=None, **options)[:]
    sizes = []
    decode = cuda._decode
    cuda._decode = lambda jobs, *rest: sizes.append(len(jobs)) or decode(jobs, *rest)
    on_device(4)
    array = zarr.create_array({}, data=image, compressors=None, **options)
    assert close(array[:], expected)
    assert close(caecodec.torch.read(array, device=DEVICE).cpu().numpy(), expected)
    assert sum(sizes) == 16
    assert 1 < max(sizes) <= 4
    bounded = zarr.create_array(
        {}, data=image, chunks=(side, side, 3), compressors=None,
        serializer=caecodec.zarr.ConvolutionalAutoencoder(max_error=1, weights=TINY_CONTEXT),
    )  # fmt: skip
    assert np.abs(bounded[:].astype(int) - image).max() <= 1
    on_cpu()


def check_targets(side):
    """What is tried at several qualities is tried on the device."""
    image = random_image(side, side, 3, seed=6)
    for target in ({"psnr": 12.0}, {"bpp": 20.0}):
        expected = caecodec.encode(image, weights=TINY, **target)
        on_device(4)
        found = caecodec.encode(image, weights=TINY, **target)
        on_cpu()
        assert autoencoder.parse(found).header == autoencoder.parse(expected).header


def check_tensor(image):
    """A chunk that is on the device already."""
    on_device(4)
    parameters = caecodec.ConvolutionalAutoencoder(4, weights=TINY).parameters
    begun = codec.start_encode(parameters, torch.from_numpy(image).to(DEVICE))
    assert begun.begun is not None
    found = begun.result()
    assert found == caecodec.encode(image, 4, weights=TINY)
    grey = codec.start_encode(parameters, torch.full((20, 17, 3), 9, dtype=torch.uint8, device=DEVICE))
    assert grey.begun is None
    assert grey.result() == caecodec.encode(np.full((20, 17, 3), 9, np.uint8), 4, weights=TINY)
    kept = decoding.start_decode(found, Dependencies(Spec.parse(TINY)), keep=True).tensor()
    assert kept.device.type == DEVICE
    assert close(kept.cpu().numpy(), caecodec.decode(found, weights=TINY))
    on_cpu()


def check_stages(side):
    """The stages of batches are timed, and traced."""
    parts = [random_image(side, side, 3)]
    with tempfile.TemporaryDirectory() as folder:
        rows = list(line_stages.time_all(parts, 4, DEVICE, (1,), Path(folder), 1, TINY_CONTEXT))
        traces = {path.name.split("-")[1]: path.read_text() for path in Path(folder).iterdir()}
    assert [row["direction"] for row in rows] == ["encode", "decode"]
    for row in rows:
        names = {"pixels", "network", "differences", "symbols", "escapes"}
        names |= {"chunks in", "features", "tables", "words out"} if row["direction"] == "encode" else {"words in"}
        assert names <= set(row["stages"])
        assert all(times["device_ms"] > 0 for name, times in row["stages"].items() if name != line_stages.OUTSIDE)
        assert row["first_ms"] > 0 < row["ms"]
        assert all(f'"{name}"' in traces[row["direction"]] for name in names)
    assert len(list(tables.line_stages([{**row, "quality": 4, "chunk": side} for row in rows]))) == 2


def main():
    sides = (16, 250) if DEVICE == "cuda" else (16,)
    for side in sides:
        check_chunks(side + 1)
        check_damage(side)
        check_zarr(side)
        check_targets(side)
    check_tensor(random_image(20, 17, 3))
    check_stages(16)
    print("same chunks")


main()
