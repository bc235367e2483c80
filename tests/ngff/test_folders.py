"""Folders with subfolders: what is converted, where it goes, several files at once, and what is counted."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import zarr
from helpers import processes
from PIL import Image
from zarr.core.sync import _get_loop

import caecodec
from caecodec.cli.main import main
from caecodec.images.files import read_rgb, read_size
from caecodec.ngff import Options, blocks, chunk_runner, decode_paths, encode_paths, read_group

EXACT = Options(codec="blosc", chunk_size=32)
NAMES = ("a.png", "deep/a.jpg", "deep/b.bmp", "deep/er/b.tif", "two.webp")


@pytest.fixture
def tree(tmp_path, photograph):
    """A folder of small photographs, some in subfolders, beside what is none."""
    tree = tmp_path / "tree"
    for i, name in enumerate(NAMES):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[40 * i : 40 * i + 40, 150:214]).save(tree / name)
    for name in ("notes.txt", "deep/._b.bmp", ".git/c.png", "__MACOSX/d.png"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("no image")
    (tree / "empty.png").mkdir()
    (tree / "deep" / "loop").symlink_to(tree)
    return tree


def relative(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("to", "suffix"), [("ngff", ".ome.zarr"), ("cae", ".cae")])
def test_subfolders_and_names_are_kept(tmp_path, tree, workers, to, suffix):
    """Both ways, in the order of names however many files are converted at once."""
    states = []
    options = Options(max_error=0, chunk_size=32, to=to)
    written, failed = encode_paths([tree], tmp_path / "coded", options, states.append, workers=workers)
    assert failed == []
    assert relative(written, tmp_path / "coded") == [name.split(".")[0] + suffix for name in NAMES]
    assert [state.done for state in states] == list(range(6))
    last = states[-1]
    assert (last.files, last.failed, last.pixels, last.nbytes) == (5, 0, 5 * 40 * 64, 5 * 40 * 64 * 3)
    assert last.bytes_in == sum((tree / name).stat().st_size for name in NAMES)
    assert last.bytes_out == sum(path.stat().st_size for path in (tmp_path / "coded").rglob("*") if path.is_file())
    assert last.ratio == last.nbytes / last.bytes_out
    states.clear()
    written, failed = decode_paths([tmp_path / "coded"], tmp_path / "back", ".bmp", progress=states.append, workers=workers)
    assert failed == []
    assert relative(written, tmp_path / "back") == [name.split(".")[0] + ".bmp" for name in NAMES]
    assert (states[-1].bytes_in, states[-1].ratio, states[-1].nbytes) == (last.bytes_out, last.ratio, last.nbytes)
    for path, name in zip(written, NAMES, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(tree / name)))


@pytest.mark.parametrize("workers", [1, 3])
def test_one_bad_file_in_a_subfolder(tmp_path, tree, workers):
    (tree / "deep" / "bad.png").write_text("no image")
    written, failed = encode_paths([tree], tmp_path / "out", EXACT, workers=workers)
    assert len(written) == 5
    assert [failure.path for failure in failed] == [tree / "deep" / "bad.png"]
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("workers", [1, 3])
def test_two_files_of_one_name(tmp_path, tree, photograph, workers):
    """The first by name is converted; the same name in another subfolder is another name."""
    Image.fromarray(photograph[:9, :9]).save(tree / "deep" / "a.png")
    _, (failure,) = encode_paths([tree], tmp_path / "out", EXACT, workers=workers)
    assert failure.path == tree / "deep" / "a.png"
    message = (
        f"would overwrite {tmp_path / 'out/deep/a.ome.zarr'}, made from another file of the same name, {tree / 'deep/a.jpg'}"
    )
    assert message in str(failure.error)
    assert read_group(tmp_path / "out" / "deep" / "a.ome.zarr").pixels.shape == (3, 40, 64)


@pytest.mark.parametrize("name", ["#1", "what?", "50%23", "two\nlines", "a:b", "long " * 48])
@pytest.mark.parametrize("options", [{}, {"zipped": True}, {"resume": True}])
def test_names_that_a_url_could_not_have(tmp_path, photograph, name, options):
    """zarr takes text for URLs, and the names of unfinished outputs are longer than those of the outputs."""
    folder = tmp_path / "scans #2"
    folder.mkdir()
    Image.fromarray(photograph[:40, :48]).save(folder / f"{name}.png")
    written, failed = encode_paths([folder], tmp_path / "coded", replace(EXACT, pyramid="build", **options))
    assert failed == []
    assert relative(written, tmp_path / "coded") == [name + (".ozx" if options.get("zipped") else ".ome.zarr")]
    assert encode_paths(written, folder / f"{name}.ome.zarr", EXACT)[1] == []
    assert decode_paths([folder / f"{name}.ome.zarr"], folder / "again.png") == ([folder / "again.png"], [])
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "again.png")), photograph[:40, :48])
    assert {path.name for path in tmp_path.iterdir()} == {"scans #2", "coded"}


def test_a_line_for_each_failure(tmp_path, capsys):
    """Whatever the names of files and the messages of libraries hold, also what would command a terminal."""
    (tmp_path / "two\nlines \x1b[31m größe.png").write_text("no image")
    assert main(["encode", str(tmp_path), "-o", str(tmp_path / "out"), "-q", "1"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert r"/two\nlines \x1b[31m größe.png cannot be read as an image" in first
    assert second == "caecodec: 1 of 1 failed"


def test_what_is_no_file(tmp_path, tree):
    """Nothing would ever come from a pipe to which nobody writes."""
    names = ("a0.png", "a1.tif", "a2.y4m", "a3.svs")
    for name in names:
        os.mkfifo(tree / name)
    written, failed = encode_paths([tree], tmp_path / "coded", replace(EXACT, codec="cae", quality=1), workers=2)
    assert [one.path.name for one in failed] == list(names)
    assert {str(one.error) for one in failed} == {
        f"{tree / name} is a pipe, a device or a socket but must be a file; write what it gives to a file first"
        for name in names
    }
    assert len(written) == len(NAMES)
    os.mkfifo(tmp_path / "coded" / "b.cae")
    assert [one.path.name for one in decode_paths([tmp_path / "coded"], tmp_path / "back")[1]] == ["b.cae"]
    for read in (read_rgb, read_size):
        with pytest.raises(caecodec.ParameterError, match="is a pipe"):
            read(tree / "a0.png")


def test_outputs_inside_the_input_are_not_converted_again(tmp_path, tree):
    out = tree / "deep" / "out"
    for _ in range(2):
        written, failed = encode_paths([tree], out, Options(codec="blosc", chunk_size=32, overwrite=True))
        assert (len(written), failed) == (5, [])
    assert {path.name for path in out.iterdir()} == {"a.ome.zarr", "deep", "two.ome.zarr"}


def test_groups_are_not_looked_into(tmp_path, tree):
    """Nor are plain arrays; groups in subfolders are converted."""
    encode_paths([tree / "a.png"], tree / "deep" / "group.zarr", EXACT)
    Image.new("RGB", (4, 4)).save(tree / "deep" / "group.zarr" / "s0" / "thumbnail.png")
    zarr.create_array(tree / "deep" / "array", data=np.zeros(3), zarr_format=2)
    Image.new("RGB", (4, 4)).save(tree / "deep" / "array" / "thumbnail.png")
    written, failed = encode_paths([tree], tmp_path / "out", EXACT)
    assert failed == []
    expected = {*(name.split(".")[0] for name in NAMES), "deep/group"}
    assert {path.removesuffix(".ome.zarr") for path in relative(written, tmp_path / "out")} == expected


def test_resume_with_several_workers(tmp_path, tree):
    options, states = Options(codec="blosc", chunk_size=32, resume=True), []
    for _ in range(2):
        written, failed = encode_paths([tree], tmp_path / "out", options, states.append, workers=2)
        assert (len(written), failed) == (5, [])
    assert (states[-1].done, states[-1].pixels, states[-1].ratio) == (5, 0, 0)


@pytest.mark.parametrize(("arguments", "match"), [
    (["--to", "cae", "--codec", "blosc"], "codec 'blosc' cannot write .cae files"),
    (["--to", "cae", "--zipped"], "zipped is for groups of chunks"),
    (["--to", "cae", "--with-weights"], "with_weights is for groups of chunks"),
    (["--workers", "0"], "workers is 0 but must be 1 or more"),
])  # fmt: skip
def test_choices_that_do_not_fit(tmp_path, tree, capsys, arguments, match):
    assert main(["encode", str(tree), "-o", str(tmp_path / "out"), *arguments]) == 1
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_name_of_a_group_for_a_payload(tmp_path, tree):
    with pytest.raises(caecodec.ParameterError, match="a.zarr is a group but to is 'cae'"):
        encode_paths([tree / "a.png"], tmp_path / "a.zarr", Options(to="cae"))
    with pytest.raises(caecodec.ParameterError, match="to is 'png' but must be one of ngff, cae"):
        Options(to="png")
    encode_paths([tree / "a.png"], tree / "a.zarr", EXACT)
    with pytest.raises(caecodec.ParameterError, match="format is 'xyz' but must be png"):
        decode_paths([tree], tmp_path / "out", ".xyz")


def test_the_summary(tmp_path, tree, capsys):
    """Of several files, on the stream of messages; the list of outputs is that of one file and of many."""
    (tree / "bad.png").write_text("no image")
    command = ["encode", str(tree), "-o", str(tmp_path / "out"), "--codec", "none", "--workers", "2"]
    assert main(command) == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 5
    failure, count, summary = output.err.splitlines()
    assert "bad.png cannot be read" in failure
    assert count == "caecodec: 1 of 6 failed"
    assert summary.startswith("caecodec: 5 files, 0.01 MP, 38.4 kB uncompressed, ")
    assert " in, " in summary
    assert " out, ratio 0." in summary
    assert summary.endswith(" s")
    assert main([*command[:4], "--codec", "none", "--overwrite", "--quiet"]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_two_conversions_that_fail_at_once_do_not_wait_for_each_other():
    """Each waits for zarr's other tasks to end, among which is the other's waiting."""

    made, loop = [], _get_loop()
    loop.call_soon_threadsafe(lambda: made.extend(loop.create_task(blocks.settle()) for _ in range(2)))
    deadline = time.monotonic() + processes.PATIENCE
    while len(made) < 2 or not all(task.done() for task in made):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_stopped_ends_between_blocks(tmp_path, tree):
    stop = threading.Event()
    group = zarr.create_group(tmp_path / "a.zarr")
    with chunk_runner.interruptible(stop):
        blocks.store(group, "whole", np.zeros((4, 4), np.uint8), chunks=(4, 4))
        stop.set()
        with pytest.raises(chunk_runner.Interrupted):
            blocks.store(group, "none", np.zeros((4, 4), np.uint8), chunks=(4, 4))


def test_an_interrupt_with_several_workers(tmp_path, photograph):
    """Fits end, nothing half-written is left, and no further file is begun."""
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.fromarray(photograph[:64, :64]).save(tmp_path / "in" / f"{i}.png")
    options = ["--codec", "overfitted", "--preset", "slow", "--workers", "2", "--chunk-size", "32"]
    command = ["-m", "caecodec", "encode", tmp_path / "in", "-o", tmp_path / "out", *options]
    with processes.start(*command, stderr=subprocess.PIPE) as process:
        while not list(tmp_path.glob("out/.*/zarr.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=processes.PATIENCE)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "caecodec: interrupted; finished outputs are complete, each unfinished one was removed"
    assert list((tmp_path / "out").iterdir()) == []
