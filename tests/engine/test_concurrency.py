"""Many threads, tasks and processes at once: each gets its own chunks."""

import asyncio
import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import processes

import caecodec
from caecodec.images.metrics import psnr

CHUNK = 64
BLOCKS = [np.s_[y : y + CHUNK, x : x + CHUNK] for y in range(0, 256, CHUNK) for x in range(0, 256, CHUNK)]


@pytest.fixture(autouse=True)
def two_cores():
    """Several chunks at once, here and in the processes that are started."""
    with caecodec.settings.using(threads=2):
        yield


@pytest.fixture
def image(photograph):
    """Sixteen chunks that differ."""
    return np.ascontiguousarray(photograph[:256, 128:384])


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def options(request):
    """Of create_array, in either format."""
    codec = {2: caecodec.ConvolutionalAutoencoder, 3: caecodec.zarr.ConvolutionalAutoencoder}[request.param](quality=5)
    codecs = {"compressors": codec} if request.param == 2 else {"serializer": codec, "compressors": None}
    return {"chunks": (CHUNK, CHUNK, 3), "zarr_format": request.param, **codecs}


def create(path, image):
    serializer = caecodec.zarr.ConvolutionalAutoencoder(quality=5)
    layout = {"chunks": (CHUNK, CHUNK, 3), "serializer": serializer, "compressors": None}
    return zarr.create_array(path, shape=image.shape, dtype=image.dtype, **layout)


def near(one, other):
    """Whether two decoded arrays are equal but for rounding: batches of another size may tip a value over."""
    return psnr(one, other) > 45


def alone(image):
    """Each chunk coded by itself, one after the other."""
    expected = np.empty_like(image)
    for block in BLOCKS:
        expected[block] = caecodec.decode(caecodec.encode(np.ascontiguousarray(image[block]), quality=5))
    return expected


def test_threads_write_and_read(image, options):
    array = zarr.create_array({}, shape=image.shape, dtype=image.dtype, **options)

    def work(block):
        array[block] = image[block]
        return array[block]

    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(work, BLOCKS, timeout=processes.PATIENCE))
    expected = alone(image)
    for block, part in zip(BLOCKS, parts, strict=True):
        assert near(part, expected[block])
    assert near(array[:], expected)


def test_threads_share_a_codec(image):
    codec = caecodec.ConvolutionalAutoencoder(quality=5)
    expected = alone(image)

    def work(block):
        return codec.decode(codec.encode(np.ascontiguousarray(image[block])))

    with ThreadPoolExecutor(16) as pool:
        for block, part in zip(BLOCKS, pool.map(work, BLOCKS, timeout=processes.PATIENCE), strict=True):
            assert near(part, expected[block])


def test_an_error_in_one_thread_is_its_own(image, tiny):
    """A chunk that the codec refuses does not disturb those that are coded at the same time."""
    codec = caecodec.ConvolutionalAutoencoder(quality=4, weights=tiny)

    def work(i):
        chunk = image[BLOCKS[i]].astype(np.uint8 if i % 2 else np.int64)
        try:
            return codec.decode(codec.encode(chunk)).shape
        except caecodec.ParameterError:
            return None

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16), timeout=processes.PATIENCE)) == [None, (CHUNK, CHUNK, 3)] * 8


def test_tasks_write_and_read(image, options):
    async def work():
        array = await zarr.api.asynchronous.create_array({}, shape=image.shape, dtype=image.dtype, **options)
        await asyncio.gather(*(array.setitem(block, image[block]) for block in BLOCKS))
        return await asyncio.gather(*(array.getitem(block) for block in BLOCKS))

    expected = alone(image)
    for block, part in zip(BLOCKS, asyncio.run(asyncio.wait_for(work(), processes.PATIENCE)), strict=True):
        assert near(part, expected[block])


WORKER = """
import multiprocessing, sys
import numpy as np, zarr

def work(block):
    array = zarr.open_array(sys.argv[2], mode="r+")
    image = np.load(sys.argv[3])
    array[block] = image[block]
    return array[block]

if __name__ == "__main__":
    array = zarr.open_array(sys.argv[2], mode="r+")
    image = np.load(sys.argv[3])
    array[:64] = image[:64]
    array[:64]  # the engine of this process is at work
    blocks = [np.s_[y : y + 64, x : x + 64] for y in range(64, 256, 64) for x in range(0, 256, 64)]
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        parts = pool.map_async(work, blocks).get(timeout=800)
    for block, part in zip(blocks, parts, strict=True):
        assert np.abs(array[block].astype(int) - part).max() <= 1
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("method", ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("spawn", "forkserver"))])
def test_processes_write_and_read(tmp_path, image, method):
    """After the parent used the codec, and without an import of caecodec anywhere."""
    array = create(tmp_path / "a.zarr", image)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "worker.py").write_text(WORKER)
    result = processes.run(tmp_path / "worker.py", method, tmp_path / "a.zarr", tmp_path / "image.npy")
    assert result.stdout == "done\n"
    assert near(array[:], alone(image))


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_dask_writes(tmp_path, image, scheduler):
    """Chunks of dask that hold several of zarr's."""
    array = create(tmp_path / "a.zarr", image)
    da.from_array(image, chunks=(128, 64, 3)).store(array, scheduler=scheduler, num_workers=2, lock=False)
    assert near(array[:], alone(image))


def test_copies_of_a_serializer(image):
    codec = caecodec.zarr.ConvolutionalAutoencoder(quality=5, gpu=False, entropy="static")
    for other in (pickle.loads(pickle.dumps(codec)), copy.copy(codec), copy.deepcopy(codec)):
        assert other == codec
        assert other.gpu is False
        assert other.to_dict() == codec.to_dict()
        assert hash(other) == hash(codec)


def test_copies_of_an_array(tmp_path, image, options):
    array = zarr.create_array(tmp_path / "a.zarr", data=image, **options)
    expected = array[:]
    for other in (pickle.loads(pickle.dumps(array)), copy.copy(array), copy.deepcopy(array)):
        np.testing.assert_array_equal(other[:64, :64], expected[:64, :64])
        assert other.metadata == array.metadata
