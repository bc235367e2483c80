"""Blocks: bounded in bytes, decoded once at a time, and put together to any part of a level."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import zarr
from helpers.served import PHOTO
from hypothesis import given
from hypothesis import strategies as st

from caecodec.errors import CaeCodecError, ParameterError
from caecodec.ngff.pyramid import pyramid
from caecodec.serving.blocks import BlockCache, BlockReader
from caecodec.serving.collection import open_collection
from caecodec.serving.picture import window_of
from caecodec.serving.served_store import Cost, adding_to


def block(n):
    return np.zeros(n, np.uint8)


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60)), min_size=1, max_size=4, unique=True), max_size=40))
def test_the_cache_is_bounded_and_keeps_the_latest(asked):
    cache, made = BlockCache(100), []

    def make(keys):
        made.extend(keys)
        return [block(key[1]) for key in keys]

    for keys in asked:
        assert [len(one) for one in cache.get(keys, make)] == [key[1] for key in keys]
        assert cache.bytes <= 100
        cache.get(keys[-1:], make)
        made.clear()
        cache.get(keys[-1:], make)
        assert made == []


def test_what_is_too_large_is_not_kept():
    cache = BlockCache(10)
    assert [len(one) for one in cache.get([("a",), ("b",)], lambda keys: [block(5), block(11)])] == [5, 11]
    assert cache.bytes == 5


def test_one_thread_decodes_and_the_others_wait():
    cache, started, go, calls = BlockCache(100), threading.Event(), threading.Event(), []

    def make(keys):
        calls.append(keys)
        started.set()
        assert go.wait(60)
        return [block(7) for _ in keys]

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.get, [("a",)], make)
        assert started.wait(60)
        others = [pool.submit(cache.get, [("a",)], make) for _ in range(6)]
        more = pool.submit(cache.get, [("b",), ("a",)], make)
        go.set()
        found = [one.result()[-1] for one in (first, *others, more)]
    assert calls == [[("a",)], [("b",)]]
    assert all(one is found[0] for one in found)


def test_an_error_reaches_all_and_is_not_kept():
    cache = BlockCache(100)

    def fail(keys):
        raise ParameterError("damaged")

    for _ in range(2):
        with pytest.raises(ParameterError, match="damaged"):
            cache.get([("a",), ("b",)], fail)
    assert [len(one) for one in cache.get([("b",), ("a",)], lambda keys: [block(3) for _ in keys])] == [3, 3]


@pytest.fixture
def opened(tmp_path):
    with ExitStack() as stack:

        def open_array(data, **options):
            zarr.create_array(tmp_path / "a.zarr", data=data, **options)
            return next(iter(open_collection(tmp_path / "a.zarr", stack).pyramids.values()))

        yield open_array


@pytest.mark.parametrize("chunks", [(700, 1100, 3), (5, 1100, 3), (300, 77, 3), (512, 512, 3), (64, 2000, 1)])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_parts_of_levels(opened, chunks, level, tmp_path):
    """Of whatever chunks, and if nothing is kept."""
    found = opened(PHOTO, chunks=chunks)
    whole = list(pyramid((np.moveaxis(PHOTO, -1, 0),), 400, tmp_path))[level]
    for cache in (BlockCache(2**28), BlockCache(0)):
        reader = BlockReader(cache)
        for rows, columns in [(range(100), range(90)), (range(130, 175), range(250, 275))]:
            part = reader.read(found, level, found.choose(None, None), rows, columns)
            np.testing.assert_array_equal(part, whole[:, rows.start : rows.stop, columns.start : columns.stop])


def test_labels_are_not_averaged(opened):
    labels = np.repeat(np.repeat(np.arange(600, dtype=np.uint32).reshape(20, 30) * 2**20, 40, axis=0), 40, axis=1)
    found = opened(labels, chunks=(256, 256))
    part = BlockReader(BlockCache(2**28)).read(found, 1, found.choose(None, None), range(400), range(600))
    np.testing.assert_array_equal(part[0], labels[::2, ::2])


def test_costs_are_those_of_the_thread_that_reads(opened, tmp_path):
    found = opened(PHOTO, chunks=(100, 1100, 3), compressors=None)
    reader, cost = BlockReader(BlockCache(2**28)), Cost()
    with adding_to(cost):
        reader.read(found, 0, found.choose(None, None), range(100), range(100))
    assert (cost.bytes, cost.pixels) == (500 * 1100 * 3, 500 * 1100)  # a block of five chunks, whole
    reader.read(found, 0, found.choose(None, None), range(600, 700), range(100))
    assert cost.pixels == 500 * 1100


@pytest.mark.parametrize(("chunk", "decoded"), [(256, 512), (512, 512), (1024, 1024), (100, 1000)])
def test_the_first_tile_of_a_gigapixel_decodes_few_chunks(tmp_path, chunk, decoded):
    """Whatever the level, those of one block of full size; of four if tiles and blocks (of 500 pixels) do not fit."""
    zarr.create_array(tmp_path / "a.zarr", shape=(32768, 32768, 3), chunks=(chunk, chunk, 3), dtype="uint8")
    with ExitStack() as stack:
        found = next(iter(open_collection(tmp_path / "a.zarr", stack).pyramids.values()))
        for number, level in enumerate(found.levels):
            cost, middle = Cost(), level.height // 2 // level.tile * level.tile
            tile = range(middle, middle + level.tile)
            with adding_to(cost):
                BlockReader(BlockCache(2**28)).read(found, number, found.choose(None, None), tile, tile)
            print(number, level.tile, cost)
            assert cost.pixels <= decoded**2


@pytest.mark.parametrize(
    ("shape", "chunks", "problem"), [((9000, 9000, 3), (9000, 9000, 3), "64 MiB"), ((600, 600), (4, 4), "4 take 16384")]
)
def test_chunks_that_take_too_much_are_refused(tmp_path, shape, chunks, problem):
    zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype="uint16")
    with ExitStack() as stack, pytest.raises(ParameterError, match="holds no image to show"):
        open_collection(tmp_path / "a.zarr", stack)


def test_damage_is_an_error(opened, tmp_path):
    found = opened(PHOTO, chunks=(350, 550, 3))
    for chunk in (tmp_path / "a.zarr" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    with pytest.raises(CaeCodecError):
        BlockReader(BlockCache(0)).read(found, 0, found.choose(None, None), range(10), range(10))


def test_windows_leave_out_what_is_rare():
    values = np.full((1, 100, 100), 5.0)
    values[0, :50] = 9
    values[0, 0, :3] = (1e9, np.inf, np.nan)
    assert window_of(values) == (5, 9)
    assert window_of(np.full((1, 4, 4), np.nan)) == (0, 1)
