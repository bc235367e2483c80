"""Conversions that are interrupted and resumed."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.conversions import OPTIONS, QUICK, chunks, convert, network_of
from helpers.images import random_image
from PIL import Image

import caecodec
from caecodec.cli.main import main
from caecodec.ngff import Options, blocks, chunk_runner, encode_paths, read_group
from caecodec.serving.collection import open_collection
from caecodec.storage.partial import resumable_folder

EXACT = {"codec": "blosc", "chunk_size": 32}  # what is resumed may be of any codec


def error(source, target, options):
    _, (failure,) = encode_paths([source], target, options)
    return str(failure.error)


def partial_of(target):
    return target.with_name(f".{target.stem}.partial{target.suffix}")


@pytest.fixture
def damaged(tmp_path, photo, monkeypatch):
    """A group one of whose chunks cannot be read, and what repairs it. It is read chunk by chunk."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    source = convert(photo, tmp_path / "source.zarr", Options(codec="blosc", chunk_size=32))
    (chunk,) = (path for path in (source / "s0").rglob("*") if path.match("s0/c/0/0/1"))
    data, times = chunk.read_bytes(), chunk.stat()

    def put(content):
        chunk.write_bytes(content)
        os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))

    put(bytes(len(data)))
    return source, lambda: put(data)


@pytest.mark.parametrize("how", [QUICK, {**EXACT, "ngff": "0.4"}, {**EXACT, "shard_size": 32}], ids=str)
def test_what_is_finished_is_kept(tmp_path, damaged, by_hand, how):
    """After an error; the next run goes on, and the result is as if nothing had happened."""
    source, repair = damaged
    target, options = tmp_path / "a.ome.zarr", Options(**how, resume=True)
    assert "cannot be read" in error(source, target, options)
    assert not target.exists()
    partial = partial_of(target)
    begun = chunks(partial)
    assert len(begun) == 1
    (partial / "s0" / "left.0123.partial").write_text("half a chunk")
    repair()
    states = []
    assert convert(source, target, options, tell=states.append) == target
    assert not partial.exists()
    found = chunks(target)
    assert len(found) == 3
    assert begun.items() <= found.items()
    assert (states[-1].done, states[-1].chunks) == (3, 3)
    whole = convert(source, tmp_path / "whole.zarr", Options(**how))
    np.testing.assert_array_equal(read_group(target).pixels, read_group(whole).pixels)
    assert chunks(whole) == found


def test_without_resume_nothing_is_kept(tmp_path, damaged, by_hand):
    source, _ = damaged
    error(source, tmp_path / "out" / "a.zarr", OPTIONS)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_the_same_is_resumed(tmp_path, damaged):
    source, repair = damaged
    target = tmp_path / "a.zarr"
    error(source, target, Options(**EXACT, resume=True))
    for changes, match in (
        ({"chunk_size": 16}, "was begun with chunk_size 32, which is now 16; pass what it was begun with, or remove it"),
        ({"ngff": "0.4"}, "ngff '0.5', which is now '0.4'"),
        ({"codec": "overfitted", "shared": True}, "shared None, which is now True"),
        ({"codec": "cae", "quality": 4}, "codec 'blosc', which is now 'cae'"),
    ):
        assert match in error(source, target, Options(**{**EXACT, **changes}, resume=True))
        assert partial_of(target).exists()
    repair()
    (source / "s0" / "more").write_text("!")
    said = error(source, target, Options(**EXACT, resume=True))
    assert "source_bytes" in said
    assert "source_changed" in said
    assert convert(source, target, Options(**EXACT)) == target  # without resume, from the beginning
    shutil.rmtree(partial_of(target))


def test_finished_outputs(tmp_path, photo):
    """Of a folder, those that are finished are not converted again."""
    options = Options(**EXACT, resume=True)
    target = convert(photo, tmp_path / "out", options)
    before = (target / "zarr.json").stat().st_mtime_ns
    assert convert(photo, tmp_path / "out", options) == target
    assert convert(photo, tmp_path / "out", Options(**EXACT, resume=True, overwrite=True, gpu=False)) == target
    assert (target / "zarr.json").stat().st_mtime_ns == before
    other = Options(codec="none", chunk_size=32, resume=True)
    assert "exists already, with codec 'blosc', which is now 'none'; pass overwrite" in error(photo, tmp_path / "out", other)
    assert "exists already; pass overwrite" in error(photo, tmp_path / "out", Options(**EXACT))
    convert(photo, tmp_path / "plain.zarr", Options(**EXACT))
    assert "exists already, with unknown options" in error(photo, tmp_path / "plain.zarr", options)
    again = convert(target, tmp_path / "again.zarr", Options(**EXACT))
    assert "caecodec_conversion" not in zarr.open_group(str(again), mode="r").attrs


def test_readers_of_a_partial_group_are_told(tmp_path, damaged, capsys):
    """Of it, and of what is in it; it says so itself."""
    source, repair = damaged
    target = tmp_path / "a.zarr"
    error(source, target, Options(**EXACT, resume=True))
    partial = partial_of(target)
    match = "is partial, because its conversion has not ended; run the same caecodec encode command with --resume"
    for read in (
        read_group,
        caecodec.inspect,
        lambda place: caecodec.inspect(place / "s0"),
        lambda place: caecodec.read(place / "s0", np.s_[:1]),
        lambda place: open_collection(place, contextlib.ExitStack()),
    ):
        with pytest.raises(caecodec.ParameterError, match=match):
            read(partial)
    other = tmp_path / "b.zarr"
    for command in (["inspect", partial], ["decode", partial, "-o", other / "b.png"], ["encode", partial, "-o", other]):
        assert main([str(part) for part in command]) == 1
        assert match in capsys.readouterr().err
    assert "with --resume" in zarr.open_group(str(partial), mode="r").attrs["caecodec_partial"]
    repair()
    convert(source, target, Options(**EXACT, resume=True))
    assert "caecodec_partial" not in zarr.open_group(str(target), mode="r").attrs
    assert not (target / ".scratch").exists()


def test_a_complete_group_that_lacks_its_name(tmp_path, photo):
    """The process ended between its last write and the renaming."""
    options = Options(**EXACT, resume=True)
    target = convert(photo, tmp_path / "a.zarr", options)
    found, written = chunks(target), (target / "s0" / "zarr.json").stat().st_mtime_ns
    target.rename(partial_of(target))
    (partial_of(target) / ".scratch").mkdir()
    assert convert(photo, tmp_path / "a.zarr", options) == target
    assert (chunks(target), (target / "s0" / "zarr.json").stat().st_mtime_ns) == (found, written)
    assert not (target / ".scratch").exists()


@pytest.mark.parametrize("shard", [None, 64])
def test_what_is_not_stored_is_not_done_again(tmp_path, monkeypatch, shard):
    """Background is noted, also where half of a note was written."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    zarr.create_array(tmp_path / "source.zarr", data=np.zeros((128, 64), np.uint8), chunks=(64, 64))
    options = Options(codec="none", chunk_size=32, shard_size=shard, resume=True)
    stop, states = threading.Event(), []

    def tell(state):
        if state.array == "s0" and state.done >= 6:
            stop.set()

    with chunk_runner.interruptible(stop):
        _, (failure,) = encode_paths([tmp_path / "source.zarr"], tmp_path / "a.zarr", options, tell=tell)
    assert isinstance(failure.error.__cause__, chunk_runner.Interrupted)
    assert chunks(tmp_path / ".a.partial.zarr" / "s0") == {}
    (notes,) = (tmp_path / ".a.partial.zarr" / ".scratch" / "complete").iterdir()
    noted = notes.read_text().splitlines()
    with notes.open("a") as file:
        file.write("s0/c/3")
    convert(tmp_path / "source.zarr", tmp_path / "a.zarr", options, tell=states.append)
    assert len(noted) == (6 if shard is None else 2)
    assert (states[-1].done, states[-1].chunks, states[-1].found) == (11, 11, 6 if shard is None else 8)


def test_one_process_at_a_time(tmp_path, photo):
    target = tmp_path / "a.zarr"
    with resumable_folder(target) as partial:
        partial.joinpath("s0").mkdir()
        assert "is being written by another process" in error(photo, target, Options(**QUICK, resume=True))
        partial.joinpath("s0").rmdir()
        partial.joinpath("zarr.json").write_text("whole")
    assert target.joinpath("zarr.json").exists()


def test_what_fails_at_once_leaves_nothing(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    assert "cannot be read" in error(tmp_path / "bad.png", tmp_path / "out" / "a.zarr", Options(**QUICK, resume=True))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("how", "options"), [(signal.SIGKILL, ["--shared"]), (signal.SIGINT, [])], ids=["killed", "interrupted"]
)
def test_a_process_that_ends(tmp_path, photograph, by_hand, how, options):
    """Killed, or interrupted at the keyboard. The network that chunks share is not fitted anew.

    The process fits its chunks; those that it leaves are made by hand.
    """
    photo, target = tmp_path / "photo.png", tmp_path / "a.zarr"
    Image.fromarray(photograph[:64, :64]).save(photo)
    arguments = ["encode", str(photo), "-o", str(target), "--codec", "overfitted", "--chunk-size", "32", "--resume", *options]
    process = processes.start("-m", "helpers.one_fit", *arguments, "--preset", "instant", stderr=subprocess.PIPE)
    partial = partial_of(target)
    while not (partial.exists() and chunks(partial)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=processes.PATIENCE)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    if how == signal.SIGINT:
        assert said.splitlines()[-1].endswith("the unfinished one is kept; run the same command again to continue")
    begun, network = chunks(partial), network_of(partial)
    assert (network is not None) == ("--shared" in options)
    assert 1 <= len(begun) < 5
    assert not target.exists()
    assert main([*arguments, "--preset", "faster"]) == 1  # other options
    assert main([*arguments, "--preset", "instant"]) == 0
    found = chunks(target)
    assert (len(found), network_of(target)) == (5, network)
    assert begun.items() <= found.items()
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".partial"] == []


def test_an_interrupt_ends_the_fits_of_its_conversion_alone(monkeypatch):
    """Fits that outlast it end, those of the next conversion go on."""
    monkeypatch.setattr(chunk_runner, "GRACE", 0)
    codec = caecodec.OverfittedAutoencoder(preset="slow", quality=3, gpu=False)
    short = caecodec.OverfittedAutoencoder(preset="instant", quality=3, gpu=False)
    begun, ended, told = threading.Event(), threading.Event(), []

    def fit():
        begun.set()
        try:
            codec.encode(random_image(64, 64, 3))
        except chunk_runner.Interrupted:
            ended.set()

    def interrupt():
        begun.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chunk_runner.ChunkRunner().run([fit, interrupt])
    chunk_runner.ChunkRunner(told.append).run([lambda: short.encode(random_image(16, 16, 3))])
    assert told
    assert ended.wait(processes.PATIENCE)
