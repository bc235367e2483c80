"""caecodec encode --codec overfitted: groups and files, shared networks, conversions that are interrupted and resumed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
import zarr
from helpers.images import psnr, random_image
from PIL import Image

import caecodec
from caecodec.arrays import payloads
from caecodec.arrays.inspection import inspect
from caecodec.bitstream import families
from caecodec.bitstream.overfitted import OWN_NETWORK, SHARED_NETWORK
from caecodec.cli.main import main
from caecodec.ngff import Options, blocks, decode_paths, encode_paths, levels, read_group, work
from caecodec.storage.partial import resumable_folder

QUICK = {"codec": "overfitted", "preset": "instant", "quality": 3, "chunk_size": 32}
OPTIONS = Options(**QUICK)
EXACT = {"codec": "blosc", "chunk_size": 32}  # what is resumed may be of any codec


@pytest.fixture
def photo(tmp_path, photograph):
    """A file of 32x50 pixels: two chunks, and one of its next level."""
    path = tmp_path / "photo.png"
    Image.fromarray(photograph[60:124:2, 180:280:2]).save(path)
    return path


def pixels(path):
    return np.asarray(Image.open(path))


def convert(source, target, options=OPTIONS, **others):
    (written,), failed = encode_paths([source], target, options, **others)
    assert not failed, failed[0].error
    return written


def error(source, target, options):
    _, (failure,) = encode_paths([source], target, options)
    return str(failure.error)


def stored(group, path="s0"):
    """The payloads of an array, parsed."""
    return [families.parse(data) for data in payloads.payloads(zarr.open_group(str(group), mode="r")[path])]


def network_of(group):
    """What the chunks of the first level share."""
    return payloads.parameters(zarr.open_group(str(group), mode="r")["s0"]).network


def partial_of(target):
    return target.with_name(f".{target.stem}.partial{target.suffix}")


def chunks(folder):
    """The files of chunks below a folder, and what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".z", "zarr.json")) and path.suffix != ".partial"
    }


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.5", None), ("0.5", 64), ("0.4", None)])
def test_a_photograph_and_back(tmp_path, photo, ngff, shard_size):
    target = convert(photo, tmp_path / "a.ome.zarr", Options(**QUICK, ngff=ngff, shard_size=shard_size, seed=3))
    (report, smaller) = inspect(target)
    assert (report.family, report.chunks, report.shape, smaller.shape) == ("overfitted", 2, (3, 32, 50), (3, 16, 25))
    assert report.asked == "quality 3, preset instant"
    codec = payloads.parameters(zarr.open_group(str(target), mode="r")["s0"])
    assert (codec.channel_axis, codec.seed, codec.network) == (-3, 3, None)
    written, failed = decode_paths([target], tmp_path / "back.png")
    assert not failed
    assert psnr(pixels(written[0]), pixels(photo)) > 22


def test_a_payload_file(tmp_path, photo):
    states = []
    target = convert(photo, tmp_path / "a.cae", tell=states.append)
    payload = families.parse(target.read_bytes())
    assert (payload.header.family, payload.header.body) == ("overfitted", OWN_NETWORK)
    assert (states[-1].done, states[-1].chunks) == (1, 1)
    decode_paths([target], tmp_path / "a.png")
    assert psnr(pixels(tmp_path / "a.png"), pixels(photo)) > 22
    for name, options in (("shared", Options(**QUICK, shared=True)), ("resume", Options(**QUICK, resume=True))):
        with pytest.raises(caecodec.ParameterError, match=f"{name} is for groups of chunks"):
            encode_paths([photo], tmp_path / "b.cae", options)


def test_a_stack(tmp_path, photograph):
    """Each plane in a chunk of its own, and its own range."""
    stack = photograph[60:92, 180:212, :2].transpose(2, 0, 1).astype(np.uint16) * np.array([5, 100], np.uint16)[:, None, None]
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    target = convert(tmp_path / "a.ome.tif", tmp_path / "a.zarr")
    decoded = read_group(target).pixels
    for plane, original, factor in zip(decoded, stack, (5, 100), strict=True):
        assert psnr(plane / factor, original / factor) > 22


def test_a_group_coded_anew(tmp_path, photo):
    source = convert(photo, tmp_path / "a.zarr", Options(codec="blosc", chunk_size=16, ngff="0.4"))
    group = zarr.open_group(str(source), mode="r+")
    group.create_array("tables/areas", data=np.arange(10))
    target = convert(source, tmp_path / "b.zarr", OPTIONS)
    again = zarr.open_group(str(target), mode="r")
    np.testing.assert_array_equal(again["tables/areas"][...], np.arange(10))
    assert [report.family for report in inspect(target)] == ["overfitted"] * 3
    assert psnr(read_group(target).picture(), pixels(photo)) > 22


@pytest.mark.parametrize(("changes", "match"), [
    ({"metric": "mse"}, "metric is 'mse' but codec is 'overfitted', which has no metric: leave it out, or use codec 'cae'"),
    ({"weights": "default"}, "weights is"), ({"entropy": "static"}, "entropy is"), ({"max_error": 0}, "max_error is 0"),
    ({"psnr": 30.0}, "psnr is 30"), ({"bpp": 1.0}, "bpp is 1"), ({"lmbda": 0.1}, "quality and lmbda"),
    ({"preset": "none"}, "preset is 'none'"), ({"decoder": "big"}, "decoder"),
    ({"codec": "cae"}, "preset is 'instant' but codec is 'cae', which has no preset: leave it out, or use codec 'overfitted'"),
    ({"codec": "cae", "preset": None, "seed": 0}, "seed is 0"), ({"codec": "cae", "preset": None, "lmbda": 1}, "lmbda is 1"),
    ({"codec": "blosc", "preset": None}, "quality is 3 but codec is 'blosc'"),
    ({"codec": "cae", "preset": None, "shared": True}, "shared is True"), ({"depth": 9}, "depth is 9"),
])  # fmt: skip
def test_options_of_other_codecs(changes, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        Options(**{**QUICK, **changes})


# Shared networks


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.4", None), ("0.5", 64)])
def test_shared_networks(tmp_path, photo, ngff, shard_size):
    """One for each array, stored once; chunks at the edge share it too."""
    target = convert(photo, tmp_path / "a.zarr", Options(**QUICK, shared=True, ngff=ngff, shard_size=shard_size))
    reports = inspect(target)
    assert [report.network_bytes for report in reports] == [0, 0]
    assert len({report.shared_network for report in reports} - {""}) == 2
    assert [payload.header.body for payload in stored(target)] == [SHARED_NETWORK] * 2
    assert network_of(target)
    assert psnr(read_group(target).picture(), pixels(photo)) > 22


def test_a_sample():
    """Of whole chunks spread over the array, filled up at the edge; none of one value."""
    values = np.zeros((40, 100), np.uint8)
    assert levels.sample(values, (10, 10)) == []
    values[35:, 97:] = 1
    (chunk,) = levels.sample(values, (16, 16))
    assert chunk.shape == (16, 16)
    assert chunk.sum() == (16 - 3) * (16 - 1)
    numbers = np.arange(1000, dtype=np.uint16).repeat(16).reshape(1000, 16)
    numbers[:, 0] = 0
    chosen = sorted(chunk[0, 1] for chunk in levels.sample(numbers, (1, 16)))
    assert len(chosen) == levels.SAMPLE
    assert max(np.diff([0, *chosen, 1000])) < 3 * 1000 / levels.SAMPLE


def test_nothing_to_share(tmp_path):
    """A picture of one colour needs no network."""
    Image.new("RGB", (32, 32), (9, 8, 7)).save(tmp_path / "plain.png")
    target = convert(tmp_path / "plain.png", tmp_path / "a.zarr", Options(**QUICK, shared=True))
    assert inspect(target)[0].chunks_constant == 1
    assert (read_group(target).picture() == (9, 8, 7)).all()


# Interrupted conversions


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
def test_what_is_finished_is_kept(tmp_path, damaged, how):
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


def test_without_resume_nothing_is_kept(tmp_path, damaged):
    source, _ = damaged
    error(source, tmp_path / "out" / "a.zarr", OPTIONS)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_the_same_is_resumed(tmp_path, damaged):
    source, repair = damaged
    target = tmp_path / "a.zarr"
    error(source, target, Options(**EXACT, resume=True))
    for changes, match in (
        ({"chunk_size": 16}, "was begun with chunk_size 32, which is now 16: give what it was begun with, or remove it"),
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
def test_a_process_that_ends(tmp_path, photograph, how, options):
    """Killed, or interrupted at the keyboard. The network that chunks share is not fitted anew."""
    photo, target = tmp_path / "photo.png", tmp_path / "a.zarr"
    Image.fromarray(photograph[:64, :64]).save(photo)
    arguments = ["encode", str(photo), "-o", str(target), "--codec", "overfitted", "--chunk-size", "32", "--resume", *options]
    command = [sys.executable, "-m", "caecodec", *arguments, "--preset", "instant"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    partial = partial_of(target)
    while not (partial.exists() and chunks(partial)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(how)
    asked = time.monotonic()
    _, said = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    if how == signal.SIGINT:
        assert said.splitlines()[-1].endswith("the one at work is kept; run the same command again to go on")
        assert time.monotonic() - asked < 30
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
    monkeypatch.setattr(work, "GRACE", 0)
    codec = caecodec.OverfittedAutoencoder(preset="faster", quality=3, gpu=False)
    begun, ended, told = threading.Event(), threading.Event(), []

    def fit():
        begun.set()
        try:
            codec.encode(random_image(128, 128, 3))
        except work.Interrupted:
            ended.set()

    def interrupt():
        begun.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.Work().run([fit, interrupt])
    work.Work(told.append).run([lambda: codec.encode(random_image(16, 16, 3))])
    assert told
    assert ended.wait(60)


# Progress


def test_how_far_it_is(tmp_path, photo):
    states = []
    convert(photo, tmp_path / "a.zarr", tell=states.append)
    assert states[0].chunks == states[-1].chunks == states[-1].done == 3
    assert [state.done for state in states] == sorted(state.done for state in states)
    assert 10 < states[-1].psnr < 50  # of all attempts, of which some may fail
    assert 0 < states[-1].bpp < 5


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar(tmp_path, photo, capsys, monkeypatch, quiet):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    command = ["encode", str(photo), "-o", str(tmp_path / "a.zarr"), "--codec", "overfitted", "--preset", "instant", "-q", "2"]
    assert main([*command, "--chunk-size", "32", *(["--quiet"] if quiet else [])]) == 0
    said = capsys.readouterr().err
    assert ("3/3" in said and "dB" in said and "image" in said) is not quiet
