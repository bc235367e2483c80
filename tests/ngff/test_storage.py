"""Writes that end in the middle, disks that are full, stores that cannot be written: what was there stays readable."""

import errno
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr
from helpers import processes
from PIL import Image
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore

import caecodec
from caecodec.arrays.inspection import inspect
from caecodec.images.metrics import psnr
from caecodec.ngff import blocks, chunk_runner
from caecodec.storage.partial import complete_file, complete_folder, resumable_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def create(store, **options):
    layout = {"chunks": (64, 64, 3), "fill_value": 7, "shape": (256, 256, 3), "dtype": "uint8"}
    return zarr.create_array(store, **layout, **(options or codecs(3)))


def codecs(zarr_format):
    if zarr_format == 2:
        return {"zarr_format": 2, "compressors": caecodec.ConvolutionalAutoencoder(quality=3)}
    return {"serializer": caecodec.zarr.ConvolutionalAutoencoder(quality=3), "compressors": None}


WRITER = """
import sys, numpy as np, zarr
array, image = zarr.open_array(sys.argv[1], mode="r+"), np.load(sys.argv[2])
while True:
    for y in range(0, 256, 64):
        array[y : y + 64] = image[y : y + 64]
        print(y, flush=True)
"""


@pytest.mark.parametrize("options", [codecs(2), codecs(3), {**codecs(3), "shards": (128, 256, 3)}], ids=["v2", "v3", "shards"])
def test_a_killed_writer(tmp_path, photograph, options):
    """Whatever moment it is killed at, every chunk is the old or the new one, and the array opens."""
    image = np.ascontiguousarray(photograph[:256, 100:356])
    path = tmp_path / "a.zarr"
    array = create(path, **options)
    array[:] = image
    before = array[:]
    np.save(tmp_path / "image.npy", 255 - image)
    with processes.start("-c", WRITER, path, tmp_path / "image.npy", stdout=subprocess.PIPE) as writer:
        for _ in range(6):
            assert writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(processes.PATIENCE) == -signal.SIGKILL
    after = zarr.open_array(path, mode="r+")
    for y, x in np.ndindex(4, 4):
        part = np.s_[64 * y : 64 * y + 64, 64 * x : 64 * x + 64]
        old, new = psnr(after[part], before[part]), psnr(after[part], 255 - image[part])
        assert max(old, new) > 22, (old, new)
    (report,) = inspect(path)
    assert report.chunks == 16
    after[:] = image
    assert psnr(after[:], before) > 45


def test_files_that_a_killed_writer_left(tmp_path, photograph):
    """zarr writes beside a chunk and renames; what remains of that is no payload."""
    for options, chunk in ((codecs(2), "0.1.0"), (codecs(3), "c/0/1/0")):
        path = tmp_path / f"{options.get('zarr_format')}.zarr"
        create(path, **options)[:] = photograph[:256, :256]
        (path / chunk).with_suffix(f".{'0' * 32}.partial").write_bytes(b"\xca\xec half of a chunk")
        (report,) = inspect(path)
        assert report.chunks == 16
        assert psnr(zarr.open_array(path, mode="r")[:], photograph[:256, :256]) > 25


class FullStore(MemoryStore):
    """A store with room for so many bytes."""

    room = 10**6

    async def set(self, key, value, byte_range=None):
        self.room -= len(value)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), key)
        await super().set(key, value, byte_range)


@pytest.mark.parametrize("options", [codecs(2), codecs(3)], ids=["v2", "v3"])
def test_a_full_store(photograph, options):
    image = photograph[:256, 100:356]
    store = FullStore()
    array = create(store, **options)
    array[:128] = image[:128]
    before = array[:]
    store.room = 500
    with pytest.raises(OSError, match="No space left on device"):
        array[:] = image[::-1]
    sync(blocks.settle())  # zarr's other chunks go on after one failed
    store.room = 0
    again = zarr.open_array(store, mode="r")[:]
    changed = [
        part
        for part in (np.s_[64 * y : 64 * y + 64, 64 * x : 64 * x + 64] for y, x in np.ndindex(4, 4))
        if (again[part] != before[part]).any()
    ]
    assert len(changed) < 8
    for part in changed:
        assert psnr(again[part], image[::-1][part]) > 22
    store.room = 10**6
    array[:] = image
    assert psnr(array[:], image) > 25


LIMITED = """
import resource, sys, numpy as np, zarr
array, image = zarr.open_array(sys.argv[1], mode="r+"), np.load(sys.argv[2])
array[:64, :64]  # everything is loaded before files may have 300 bytes at most
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    array[:] = image
except OSError as error:
    print(error.strerror)
"""


def test_a_file_system_that_takes_no_more(tmp_path, photograph):
    """A real limit of the operating system: chunks of one colour fit, others do not, and the old ones stay."""
    path = tmp_path / "a.zarr"
    array = create(path)
    array[:] = photograph[:256, 100:356]
    before = array[:]
    image = np.full((256, 256, 3), 30, np.uint8)
    image[128:] = np.random.default_rng(0).integers(0, 256, (128, 256, 3))
    np.save(tmp_path / "image.npy", image)
    environment = processes.environment(PYTHONDONTWRITEBYTECODE="1")
    result = processes.run("-c", LIMITED, path, tmp_path / "image.npy", env=environment)
    assert result.stdout.strip() == os.strerror(errno.EFBIG)
    after = zarr.open_array(path, mode="r")[:]
    np.testing.assert_array_equal(after[128:], before[128:])
    for y, x in np.ndindex(2, 4):
        part = np.s_[64 * y : 64 * y + 64, 64 * x : 64 * x + 64]
        assert (after[part] == 30).all() or (after[part] == before[part]).all()
    assert not list(path.rglob("*.partial"))


CONVERSION = """
import resource, sys
from caecodec.cli.main import main
import caecodec.codecs.autoencoder.codec
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("suffix", ["zarr", "cae"])
def test_a_conversion_that_finds_no_room(tmp_path, photograph, suffix):
    """The file is named, and nothing half is left; what was there before is."""
    Image.fromarray(photograph).save(tmp_path / "a.png")
    target = tmp_path / "out" / f"a.{suffix}"
    arguments = ["encode", tmp_path / "a.png", "-o", target, "-q", "5"]
    environment = processes.environment(PYTHONDONTWRITEBYTECODE="1")
    result = processes.run("-c", CONVERSION, *arguments, env=environment, expected=1)
    assert "a.png" in result.stderr
    assert os.strerror(errno.EFBIG) in result.stderr
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("options", [codecs(2), codecs(3)], ids=["v2", "v3"])
def test_a_read_only_store(tmp_path, photograph, options):
    path = tmp_path / "a.zarr"
    create(path, **options)[:] = photograph[:256, :256]
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for array in (zarr.open_array(path, mode="r"), zarr.open_array(LocalStore(path, read_only=True), mode="r")):
        assert psnr(array[:], photograph[:256, :256]) > 25
        with pytest.raises(ValueError, match="read-only|read only"):
            array[:] = 0
    with pytest.raises(ValueError, match="read-only|read only"):
        create(LocalStore(tmp_path / "b.zarr", read_only=True))
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files
    assert not (tmp_path / "b.zarr").exists()


class Read:
    """A source of rows, of which it notes those that were read; one of them can be damaged."""

    shape, dtype, chunks = (5, 4), np.dtype(np.uint8), (1, 4)

    def __init__(self, damaged=None):
        self.rows, self.damaged = [], damaged
        self.changed = threading.Condition()

    def __getitem__(self, region):
        with self.changed:
            self.rows.append(region[0].start)
            self.changed.notify_all()
        if self.rows[-1] == self.damaged:
            raise ValueError("no such row")
        return np.full((1, 4), self.rows[-1], np.uint8)

    def reads(self, count):
        with self.changed:
            return self.changed.wait_for(lambda: len(self.rows) >= count, processes.PATIENCE)


def test_the_next_block_is_read_while_one_is_written(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4)
    source, counts = Read(), []

    def tell(state):
        if state.done > len(counts):
            assert source.reads(min(5, state.done + 1))
            counts.append(len(source.rows))

    group = zarr.create_group(MemoryStore())
    blocks.store(group, "rows", source, chunk_runner.ChunkRunner(tell), chunks=(1, 4))
    assert (group["rows"][:] == np.arange(5)[:, None]).all()
    assert counts == [2, 3, 4, 5, 5]  # and none before there is room for it


def test_blocks_before_one_that_cannot_be_read_are_written(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4)
    group = zarr.create_group(MemoryStore())
    with pytest.raises(caecodec.ParameterError, match="no such row"):
        blocks.store(group, "rows", Read(damaged=3), chunks=(1, 4), fill_value=9)
    assert group["rows"][:, 0].tolist() == [0, 1, 2, 9, 9]


@pytest.mark.parametrize("complete", [complete_file, complete_folder, resumable_folder])
def test_nothing_is_replaced_that_came_meanwhile(tmp_path, complete):
    """Of two processes that write one output at once, the one that ends later changes nothing."""
    target = tmp_path / "a.zarr"

    def write(path):
        if complete is complete_file:
            path.write_text("")
        else:
            path.mkdir(exist_ok=True)

    def convert():
        with complete(target) as partial:
            write(partial)
            write(target)  # as another process would

    with pytest.raises(caecodec.ParameterError, match=r"a\.zarr has been written by another process meanwhile"):
        convert()
    assert target.exists()
    convert()  # to replace what was there at the beginning is the caller's choice
