"""Zarr v3 format."""

import json
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import processes
from zarr.codecs import TransposeCodec
from zarr.codecs.numcodecs import AsType, FixedScaleOffset, PackBits

import caecodec
from caecodec import engine
from caecodec.engine import networks
from caecodec.images.metrics import psnr
from caecodec.zarr import ConvolutionalAutoencoder, OverfittedAutoencoder


def create(photograph, serializer=None, **changes):
    serializer = serializer or ConvolutionalAutoencoder(quality=5)
    options = {"data": photograph, "chunks": (256, 256, 3), "serializer": serializer, "compressors": None}
    return zarr.create_array(changes.pop("store", {}), **{**options, **changes})


@pytest.mark.parametrize("serializer", [
    ConvolutionalAutoencoder(quality=5),
    {"name": "caecodec.cae", "configuration": {"quality": 5}},
    {"name": "caecodec.cae", "configuration": {"quality": 5, "metric": "mse", "channel_axis": 2, "weights": "photo"}},
])  # fmt: skip
@pytest.mark.parametrize("shards", [None, (512, 512, 3)])
def test_create_array(photograph, serializer, shards):
    z = create(photograph, serializer, shards=shards)
    assert psnr(z[:], photograph) > 30
    assert z.nbytes_stored() < photograph.nbytes / 8
    assert psnr(z[100:400, 200:300], photograph[100:400, 200:300]) > 30


def test_info_and_metadata(photograph, tmp_path):
    z = create(photograph, store=tmp_path / "a.zarr")
    assert "ConvolutionalAutoencoder(quality=5, metric='mse', channel_axis=-1, weights='photo@" in str(z.info)
    codecs = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["codecs"]
    assert [codec["name"] for codec in codecs] == ["caecodec.cae"]
    assert set(codecs[0]["configuration"]) == {"quality", "metric", "channel_axis", "weights"}


def test_both_surfaces_write_the_same_payload(photograph):
    crop = photograph[:64, :64]
    v2, v3 = {}, {}
    numcodec = caecodec.ConvolutionalAutoencoder(quality=5)
    zarr.create_array(v2, data=crop, chunks=(64, 64, 3), zarr_format=2, compressors=numcodec)
    create(crop, store=v3, chunks=(64, 64, 3))
    assert v2["0.0.0"].to_bytes() == v3["c/0/0/0"].to_bytes() == caecodec.encode(crop, quality=5)


def test_gpu_is_not_stored_nor_compared():
    with_gpu = ConvolutionalAutoencoder(quality=5, gpu=True)
    assert with_gpu == ConvolutionalAutoencoder(quality=5)
    assert "gpu" not in with_gpu.to_dict()["configuration"]
    assert pickle.loads(pickle.dumps(with_gpu)).gpu is True


def test_partial_write(photograph):
    z = create(photograph)
    z[100:140, 300:340] = 0
    assert z[100:140, 300:340].mean() < 12
    assert psnr(z[256:], photograph[256:]) > 29


def test_channels_first_batches_and_edges(photograph):
    a = np.stack([photograph[:150, :100], photograph[100:250, 300:400]]).transpose(0, 3, 1, 2)
    z = create(a, ConvolutionalAutoencoder(quality=5, channel_axis=1), chunks=(2, 3, 64, 64))
    assert psnr(z[:], a) > 27


@pytest.mark.parametrize(("changes", "match"), [
    ({"dtype": "uint32"}, "dtype is uint32"), ({"dtype": "bool"}, "labels and masks"), ({"dtype": "complex64"}, "complex64"),
    ({"shape": (32, 32, 64), "chunks": (32, 32, 64)}, "64 channels"), ({"shape": (64, 64), "chunks": (64, 64)}, "2 axes"),
])  # fmt: skip
def test_arrays_it_cannot_take_are_refused_at_the_first_write(changes, match):
    """Not at creation, when a codec does not learn of filters before it, which may change dtype and shape."""
    options = {"shape": (64, 64, 3), "chunks": (64, 64, 3), "dtype": "uint8", "compressors": None}
    store = {}
    z = zarr.create_array(store, serializer=ConvolutionalAutoencoder(quality=5), **{**options, **changes})
    with pytest.raises(caecodec.ParameterError, match=match):
        z[:] = np.ones(z.shape, z.dtype)
    assert list(store) == ["zarr.json"]


FILTERS = {
    "transposed": [TransposeCodec(order=(2, 0, 1))],
    "twice": [TransposeCodec(order=(1, 0, 2)), TransposeCodec(order=(2, 1, 0))],
    "narrowed": [AsType(encode_dtype="uint8", decode_dtype="uint32"), TransposeCodec(order=(2, 0, 1))],
    "flattened": [TransposeCodec(order=(2, 0, 1)), FixedScaleOffset(offset=100, scale=1, dtype="u4", astype="u1")],
}


@pytest.mark.parametrize("shards", [None, (32, 48, 3)])
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_filters_before_it(photograph, filters, shards):
    """The codec sees the shape and the dtype that the filters leave, in chunks of 16x24 as in shards of them."""
    image = photograph[100:140, 200:250].astype(np.uint32) // 2 + 100
    image = image.astype(np.uint8) if all(isinstance(one, TransposeCodec) for one in filters) else image
    serializer = ConvolutionalAutoencoder(max_error=0, channel_axis=-3)
    store = {}
    z = create(image, serializer, chunks=(16, 24, 3), filters=filters, shards=shards, store=store)
    np.testing.assert_array_equal(z[:], image)
    z[3:20, 5:30] = image[5:22, 7:32]
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[3:20, 5:30], image[5:22, 7:32])


def test_a_filter_that_leaves_no_planes():
    with pytest.raises(caecodec.ParameterError, match="1 axes.*filter flattened it"):
        create(np.ones((32, 32, 3), bool), chunks=(32, 32, 3), filters=[PackBits()])


def test_masked_values():
    serializer = ConvolutionalAutoencoder(max_error=0, channel_axis=None)
    z = create(None, serializer, shape=(8, 8), dtype="uint16", chunks=(8, 8))
    values = np.ma.masked_greater(np.arange(64, dtype=np.uint16).reshape(8, 8), 100)
    z[:] = values
    np.testing.assert_array_equal(z[:], values.data)
    with pytest.raises(caecodec.ParameterError, match="24 masked values.*filled"):
        z[:] = np.ma.masked_less(values, 24)


@pytest.mark.parametrize("kind", [ConvolutionalAutoencoder, OverfittedAutoencoder])
def test_a_configuration_of_a_newer_version(kind):
    stored = kind(quality=2).to_dict()
    stored["configuration"] = {**stored["configuration"], "tuning": "grain"}
    with pytest.raises(caecodec.FormatVersionError, match="tuning='grain'.*upgrade caecodec.*channel_axis"):
        create(None, stored, shape=(64, 64, 3), dtype="uint8", chunks=(64, 64, 3))


def test_inner_chunks_it_cannot_take(photograph):
    with pytest.raises(caecodec.ParameterError, match="64 channels"):
        create(photograph[:64, :64, :1].repeat(64, axis=2), chunks=(32, 32, 64), shards=(64, 64, 64))


def test_wrong_configuration():
    with pytest.raises(caecodec.ParameterError, match="quality is 11"):
        create(np.zeros((16, 16, 3), np.uint8), {"name": "caecodec.cae", "configuration": {"quality": 11}})


def test_payload_of_another_geometry(photograph):
    store = {}
    create(photograph, store=store)
    other = {}
    create(photograph, store=other, chunks=(128, 128, 3))
    store["c/0/0/0"] = other["c/0/0/0"]
    z = zarr.open_array(store, mode="r")
    with pytest.raises(caecodec.CorruptionError, match=r"\(128, 128, 3\) but \(256, 256, 3\) is expected"):
        z[:]


def test_missing_weights_are_said_by_name(photograph):
    store = {}
    create(photograph, store=store)
    document = json.loads(store["zarr.json"].to_bytes())
    document["codecs"][0]["configuration"]["weights"] = "slides@00112233"
    store["zarr.json"] = type(store["zarr.json"]).from_bytes(json.dumps(document).encode())
    z = zarr.open_array(store, mode="r")
    assert psnr(z[:], photograph) > 30  # the payloads name weights that are here
    with pytest.raises(caecodec.WeightsError, match="slides@00112233"):
        z[:] = photograph[::-1]


def test_another_process_reads_it_without_importing_caecodec(tmp_path, photograph):
    z = create(photograph, store=tmp_path / "a.zarr", shards=(512, 512, 3))
    np.save(tmp_path / "expected.npy", z[:])
    code = (
        "import sys, zarr, numpy as np; assert 'caecodec' not in sys.modules; "
        f"z = zarr.open_array({str(tmp_path / 'a.zarr')!r}, mode='r'); assert 'torch' not in sys.modules; "
        f"assert (abs(z[:].astype(int) - np.load({str(tmp_path / 'expected.npy')!r})) <= 1).all(); print('same')"
    )
    assert processes.run("-c", code).stdout == "same\n"


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask(tmp_path, photograph, scheduler):
    z = create(photograph, store=tmp_path / "a.zarr")
    lazy = da.from_zarr(str(tmp_path / "a.zarr"))
    result = lazy.compute(scheduler=scheduler, num_workers=2)
    assert np.abs(result.astype(int) - z[:]).max() <= 1


def test_many_threads_and_batches(photograph, monkeypatch):
    """16 threads at once get their own chunks, and the engine makes batches of what waits."""
    z = create(np.tile(photograph, (2, 2, 1)), chunks=(128, 128, 3))
    expected = z[:]
    sizes = []
    run = networks.Networks.run

    def watched(self, job, batch):
        sizes.append(len(batch))
        return run(self, job, batch)

    monkeypatch.setattr(networks.Networks, "run", watched)
    monkeypatch.setattr(engine.engine(), "_pools", {})  # the next pool is made with the line above
    blocks = [(128 * i, 128 * j) for i in range(8) for j in range(8)]
    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(lambda at: z[at[0] : at[0] + 128, at[1] : at[1] + 128], blocks))
    for (y, x), part in zip(blocks, parts, strict=True):
        assert np.abs(part.astype(int) - expected[y : y + 128, x : x + 128]).max() <= 1
    assert sum(sizes) == 64
    assert max(sizes) > 1
    assert max(sizes) <= engine.CPU_BATCH_PIXELS // 128**2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_decodes(photograph):
    z = create(photograph)
    expected = z[:]  # the engine of this process is at work before the fork
    assert threading.active_count() > 1
    child = os.fork()
    if child == 0:
        chunk = caecodec.decode(caecodec.encode(photograph[:256, :256], quality=5))
        os._exit(0 if np.abs(chunk.astype(int) - expected[:256, :256]).max() <= 1 else 1)
    for _ in range(10 * processes.PATIENCE):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child hangs")
    assert status == 0
