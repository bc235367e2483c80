"""Parts of an array as tensors; on a GPU too, where there is one."""

import dataclasses
import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import zarr
from helpers.images import random_image
from helpers.paths import TINY, TINY_CONTEXT
from helpers.processes import PATIENCE
from zarr.codecs import ShardingCodec

import caecodec
from caecodec.arrays import payloads
from caecodec.chunks.pending import Pending
from caecodec.engine import DevicePlacement
from caecodec.images.metrics import psnr

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))]
CHUNK = (32, 48, 3)
V3 = {"serializer": caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY_CONTEXT), "compressors": None, "chunks": CHUNK}
V2 = {"compressors": caecodec.ConvolutionalAutoencoder(4, weights=TINY), "zarr_format": 2, "chunks": CHUNK}
LAYOUTS = {
    "v3": V3,
    "v2": V2,
    "v2-fortran": {**V2, "order": "F"},
    "sharded": {**V3, "shards": (64, 96, 3)},
    "index-first": {
        **V3, "chunks": (64, 96, 3), "serializer": ShardingCodec(
            chunk_shape=CHUNK, codecs=[V3["serializer"]], index_location="start"
        ),
    },
}  # fmt: skip
SELECTIONS = [
    ..., (), np.s_[5:60, 40:100], np.s_[-30:, ..., 1], np.s_[3], np.s_[-1, 2:50:7], np.s_[::33, ::50], np.s_[10:10],
    np.s_[np.int64(7), -2, 0], np.s_[0:1000, 99:],
]  # fmt: skip


def equal(tensor, expected):
    """Whether a tensor has the values of an array: all of them on the CPU, nearly all where a GPU, which rounds otherwise, made
    either of them."""
    expected, found = np.asarray(expected), tensor.cpu().numpy()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if tensor.is_cuda or not DevicePlacement.choose(None).on_cpu:
        return np.array_equal(found, expected) or psnr(expected, found) > 45
    return np.array_equal(found, expected)


@pytest.fixture(params=LAYOUTS)
def array(request):
    """An image whose last chunks are cut off at its edges; some of its chunks are not stored, one is of one colour."""
    layout = LAYOUTS[request.param]
    array = zarr.create_array({}, shape=(100, 110, 3), dtype="uint8", fill_value=9, **layout)
    image = random_image(100, 110, 3)
    image[:32, :48] = 77
    array[:64] = image[:64]
    array[64:96, 96:] = image[64:96, 96:]
    return array


@pytest.mark.parametrize("device", DEVICES)
def test_selections(array, device):
    for selection in SELECTIONS:
        tensor = caecodec.torch.read(array, selection, device=device)
        assert tensor.device.type == device
        assert equal(tensor, array[selection])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "channel_axis", "options"), [
    ("uint16", 0, {"quality": 4}), ("float32", 0, {"quality": 4}), ("int16", None, {"quality": 4}),
    ("uint16", 0, {"max_error": 0}), ("float64", None, {"max_error": 2.0}), ("uint8", 0, {"max_error": 1}),
])  # fmt: skip
def test_dtypes_and_bounds(dtype, channel_axis, options, device):
    data = (random_image(2, 40, 50, 3)[..., 0] * 20.0).astype(dtype)
    codec = caecodec.zarr.ConvolutionalAutoencoder(channel_axis=channel_axis, weights=TINY, **options)
    array = zarr.create_array({}, data=data, chunks=(2, 32, 32), serializer=codec, compressors=None)
    tensor = caecodec.torch.read(array, np.s_[:, 3:39, 10:], device=device)
    expected = array[:, 3:39, 10:]
    if "max_error" in options:
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(tensor.cpu().numpy(), expected)
    elif device == "cpu" and DevicePlacement.choose(None).on_cpu:
        np.testing.assert_array_equal(tensor.numpy(), expected)
    else:
        np.testing.assert_allclose(tensor.cpu().numpy().astype(float), expected.astype(float), atol=2 * 20, rtol=1e-3)


def test_dtype_of_the_tensor(array):
    tensor = caecodec.torch.read(array, np.s_[:40, :40], dtype=torch.float32)
    assert tensor.dtype == torch.float32
    assert equal(tensor, array[:40, :40].astype(np.float32))
    tensor.requires_grad_()
    (tensor * 2).sum().backward()
    assert (tensor.grad == 2).all()


def test_more_chunks_than_are_fetched_at_once(array, monkeypatch):
    monkeypatch.setattr(payloads, "GROUP", 2)
    assert equal(caecodec.torch.read(array), array[:])


def test_decoded_chunks_are_in_memory_as_the_settings_allow(monkeypatch):
    array = zarr.create_array({}, shape=(2048, 8 * 2048, 3), dtype="uint8", **{**V3, "chunks": (2048, 2048, 3)})
    array[:] = np.arange(1, 9, dtype=np.uint8).repeat(2048)[None, :, None]
    alive, counts = [], []
    start = caecodec.torch.start_decode

    def counted(*arguments, **options):
        def count(values):
            alive.append(weakref.ref(values))
            counts.append(sum(reference() is not None for reference in alive))
            return values

        decoding = start(*arguments, **options)
        return dataclasses.replace(decoding, pending=decoding.pending.then(count))

    monkeypatch.setattr(caecodec.torch, "start_decode", counted)
    monkeypatch.setattr(caecodec.torch, "THREADS", 1)
    with caecodec.settings.using(memory="30M"):
        assert equal(caecodec.torch.read(array, np.s_[::64, ::64]), array[::64, ::64])
    assert len(counts) == 8
    assert max(counts) <= 3  # two that wait, and one that is taken


@pytest.mark.parametrize(("selection", "match"), [
    (np.s_[::-1], "step -1 on axis 0"), (np.s_[0, 0, 0, 0], "more axes"), (np.s_[..., 0, ...], "more axes"),
    (np.s_[100], "100 on axis 0 but the array has 100"), (np.s_[:, -111], "-111 on axis 1"), ([1, 2], "integers, slices"),
    (np.s_[None], "integers, slices"), (True, "integers, slices"), (np.array([0, 1]), "integers, slices"),
    (np.array([5]), "integers, slices"), (torch.tensor([0, 1]), "integers, slices"), (np.s_[0:5:0], "integers, slices"),
    (np.s_[1.0:3], "integers, slices"), (np.ones((100, 110), bool), "integers, slices"),
])  # fmt: skip
def test_selections_that_are_refused(selection, match):
    array = zarr.create_array({}, shape=(100, 110, 3), dtype="uint8", **V3)
    with pytest.raises(caecodec.ParameterError, match=match):
        caecodec.torch.read(array, selection)


def test_paths(tmp_path):
    stored = zarr.create_array(tmp_path / "a.zarr", data=random_image(100, 110, 3), **V3)
    part = np.s_[20:50, :30]
    for path in (tmp_path / "a.zarr", str(tmp_path / "a.zarr"), (tmp_path / "a.zarr").as_uri()):
        np.testing.assert_array_equal(caecodec.torch.read(path, part).numpy(), caecodec.torch.read(stored, part).numpy())
    with pytest.raises(caecodec.ParameterError, match=r"none\.zarr does not exist"):
        caecodec.torch.read(tmp_path / "none.zarr")


def test_arrays_and_devices_that_are_refused():
    plain = zarr.create_array({}, shape=(64, 64, 3), dtype="uint8")
    with pytest.raises(caecodec.ParameterError, match="not coded by caecodec"):
        caecodec.torch.read(plain)
    both = zarr.create_array({}, shape=(64, 64, 3), dtype="uint8", **{**V3, "chunks": (32, 32, 3), "compressors": "auto"})
    with pytest.raises(caecodec.ParameterError, match="other codecs too"):
        caecodec.torch.read(both)
    array = zarr.create_array({}, shape=(64, 64, 3), dtype="uint8", **V3)
    for device in ("gpu", torch.device("meta")):
        with pytest.raises(caecodec.ParameterError, match=f"device is '{device}' but must be"):
            caecodec.torch.read(array, device=device)
    with pytest.raises(caecodec.ParameterError, match="device is 'cuda:99' but PyTorch finds no such device"):
        caecodec.torch.read(array, device="cuda:99")


@pytest.mark.parametrize("layout", ["v3", "sharded"])
def test_damage(layout):
    store = {}
    array = zarr.create_array(store, data=random_image(64, 96, 3), **LAYOUTS[layout])
    key = next(key for key in store if key.startswith("c/"))
    raw = bytearray(store[key].to_bytes())
    raw[40] ^= 1
    store[key] = type(store[key]).from_bytes(bytes(raw))
    with pytest.raises(caecodec.CorruptionError, match="CRC-32"):
        caecodec.torch.read(array)
    store[key] = type(store[key]).from_bytes(bytes(raw[:50]))
    with pytest.raises(caecodec.CorruptionError):
        caecodec.torch.read(array)


def test_a_damaged_index():
    """Entries that changed places would be other pixels."""
    store = {}
    array = zarr.create_array(store, data=random_image(64, 96, 3), **LAYOUTS["sharded"])
    key = next(key for key in store if key.startswith("c/"))
    raw = store[key].to_bytes()
    start = len(raw) - 4 - 4 * 16
    first, second = raw[start : start + 16], raw[start + 16 : start + 32]
    for entries in (second + first, b"\xff" * 16 + second, first[:7] + b"\x80" + first[8:] + second):
        store[key] = type(store[key]).from_bytes(raw[:start] + entries + raw[start + 32 :])
        with pytest.raises(caecodec.CorruptionError, match="CRC-32C"):
            caecodec.torch.read(array)


def test_an_error_does_not_wait_for_other_chunks(monkeypatch):
    """The first of a hundred is damaged; the others are decoded no sooner than the pool is shut down."""
    array = zarr.create_array({}, data=random_image(320, 480, 3), **V3)
    started, begun, closed = itertools.count(), [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closed.set()
            super().shutdown(wait)

    def start(*arguments, **options):
        number = next(started)

        def decode():
            begun.append(number)
            assert number == 0 or closed.wait(PATIENCE)
            raise caecodec.CorruptionError(f"chunk {number} is damaged")

        return caecodec.codecs.decoding.Decoding(Pending(decode), fortran=False)

    monkeypatch.setattr(caecodec.torch, "start_decode", start)
    monkeypatch.setattr(caecodec.torch, "ThreadPoolExecutor", Pool)
    with pytest.raises(caecodec.CorruptionError, match="chunk 0 is damaged"):
        caecodec.torch.read(array)
    assert next(started) == 100
    assert len(begun) <= caecodec.torch.THREADS + 1
