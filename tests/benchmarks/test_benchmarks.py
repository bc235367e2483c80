"""The benchmarks: one small run of every part, and the functions behind its tables."""

import json
import re
import shlex
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import processes
from helpers.paths import ROOT
from PIL import Image

import caecodec
from benchmarks import command, compared, images, memory, stages, targets, timing

TINY = (
    "--chunks 64 --count 2 --concurrency 2 --seconds 0.01 --across 2 --rounds 1 --up-to 1 --regions 512 --batches 1 "
    "--device cpu,cuda"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, photograph):
    """The output and the JSON of the README's command, with tiny inputs."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "photos").mkdir()
    Image.fromarray(photograph).save(folder / "photos" / "astronaut.png")
    found = re.search("(?m)^python (tests/benchmarks) (.*)$", (ROOT / "tests" / "benchmarks" / "README.md").read_text())
    line = [ROOT / found[1], *shlex.split(found[2]), *TINY.split()]
    done = processes.run(*line, cwd=folder)
    return done.stdout, json.loads((folder / "speed.json").read_text())


@pytest.mark.slow
def test_every_codec_is_measured_or_named_as_missing(run):
    printed, results = run
    rows = [row for row in results["speed"] if row["device"] == "cpu"]
    assert [row["codec"] for row in rows] == list(compared.names("cpu"))
    for row in rows:
        assert f"| 2 x 64 | {row['codec']} | {row['missing'] or row['setting']} |" in printed
    for name, package in ((compared.COMPRESSAI, "compressai"), ("JPEG", "imagecodecs")):
        (row,) = [row for row in rows if row["codec"] == name]
        assert bool(row["missing"]) == (results["about"]["versions"][package] is None)
        assert row["codec"] == compared.CAECODEC or f"\n| {row['codec']} | " in printed  # the short table
    cuda = {row["device"] for row in results["speed"]} == {"cpu", "cuda"}
    assert cuda != bool(results["absent"])
    assert cuda or "cuda: not measured" in printed


@pytest.mark.slow
def test_units_and_ratios(run):
    rows = [row for row in run[1]["speed"] if not row["missing"] and row["device"] == "cpu"]
    ours = rows[0]
    assert ours["codec"] == compared.CAECODEC
    assert ours["encode"]["speedup"] == ours["decode"]["speedup"] == 1
    for row in rows:
        for direction in ("encode", "decode"):
            found = row[direction]
            assert found["mb_s"] == pytest.approx(3 * found["mp_s"])
            assert found["mp_s"] == pytest.approx(2 * 64 * 64 / 1e6 / found["seconds"])
            if found["rounds"] == ours[direction]["rounds"] == 1:
                assert found["speedup"] == pytest.approx(ours[direction]["mp_s"] / found["mp_s"])
        assert row["memory"]["peak"] > row["memory"]["work"] >= 0
        assert row["memory"]["peak"] > 2**24


@pytest.mark.slow
def test_classical_codecs_are_compared_at_nearly_the_same_distortion(run):
    rows = {row["codec"]: row for row in run[1]["speed"] if not row["missing"] and row["device"] == "cpu"}
    target = rows[compared.CAECODEC]["psnr"]
    assert 25 < target < 45
    assert rows[compared.NETWORK]["psnr"] is None
    others = [rows[name] for name in compared.CLASSICAL if name in rows]
    assert others
    for row in others:
        assert row["psnr"] == pytest.approx(target, abs=1)
        assert 0 < row["bpp"] < 24


@pytest.mark.slow
def test_shares_of_stages_sum_to_one(run):
    rows = [row for row in run[1]["stages"] if "shares" in row]
    assert {row["direction"] for row in rows} == {"encode", "decode"}
    for row in rows:
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert all(row["shares"][stage] > 0 for stage in stages.STAGES)


@pytest.mark.slow
def test_the_work_of_a_device_is_counted_without_one(run):
    printed, results = run
    rows = [row for row in results["stages"] if "work" in row]
    assert [row["direction"] for row in rows] == ["encode", "decode"]
    for row in rows:
        assert f"Counted, a batch of 1 chunks of 64, quality 4: {row['direction']}; the host waits 1 time(s)" in printed
        network = row["work"]["network"]
        assert 2 * 15e3 * 64**2 < network["operations"] < 2 * 60e3 * 64**2  # multiplications and additions per pixel
        assert network["bytes"] > row["work"]["pixels"]["bytes"] > 0


def test_the_stages_are_the_codec(photograph):
    chunk = np.ascontiguousarray(photograph[:64, :96])
    line = stages.Line(4, "cpu")
    payload = line.encode(chunk)
    assert payload == caecodec.encode(chunk, quality=4, gpu=False)
    np.testing.assert_array_equal(line.decode(payload), caecodec.decode(payload, gpu=False))


@pytest.mark.slow
def test_zarr_startup_and_scaling(run):
    _, results = run
    first, *others = [row for row in results["zarr"] if row["device"] == "cpu"]
    assert first["chunks"] == 4
    assert first["write"]["speedup"] == first["read"]["speedup"] == 1
    assert len(others) == 4
    ours, theirs = [row for row in results["startup"] if row["device"] == "cpu"]
    assert ours["start_s"] > ours["import_s"] + ours["first_s"] > ours["second_s"] > 0
    assert (theirs["missing"] is None) == (results["about"]["versions"]["compressai"] is not None)
    done, *left_out = [row for row in results["scaling"] if row["device"] == "cpu"]
    assert done["size"] == 1
    assert done["psnr"] > 25
    assert 0.1 < done["bpp"] < 3
    assert done["array"] == 512 * 512 * 3
    assert done["peak"] > done["above"] > 0
    assert [row["size"] for row in left_out] == [4, 16, 64, 256, 1024]
    assert all("--up-to" in row["missing"] for row in left_out)


@pytest.mark.slow
def test_targets_of_a_run(run):
    printed, results = run
    rows = {(row["target"], row["where"]): row for row in results["targets"]}
    first = rows["first decode in a fresh process", "cpu, 256"]
    assert first["met"] == (first["measured"] <= 2.5)
    assert rows["speed over CompressAI's", "cpu"]["missing"] == "not measured in this run"  # no chunks of 256 or 512
    assert all(f"| {row['target']} | {row['where']} | {row['required']} |" in printed for row in results["targets"])


def test_targets_compare_in_the_right_direction():
    cell = {"quality": 4, "device": "cpu", "chunk": 256, "concurrency": 1, "missing": None}

    def row(name, encode, decode):
        return {**cell, "codec": name, "encode": {"speedup": encode}, "decode": {"speedup": decode}}

    rows = targets.of({"speed": [row(compared.COMPRESSAI, 9, 7), row(compared.NETWORK, 0.9, 0.5), row("JPEG 2000", 0.6, 0.1)]})
    met = {(r["target"], r["where"].split(",")[0]): (r["measured"], r["met"]) for r in rows if r["met"] is not None}
    assert met == {
        ("speed over CompressAI's", "encode"): (9, True),
        ("speed over CompressAI's", "decode"): (7, False),
        ("time over its network's", "encode"): (pytest.approx(1 / 0.9), True),
        ("time over its network's", "decode"): (2, False),
        ("speed over JPEG 2000's", "encode"): (0.6, True),
    }


def test_packages_that_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "compressai.models", None)
    for name in ("AVIF", compared.COMPRESSAI):
        with pytest.raises(compared.MissingError, match="not installed: pip install"):
            compared.build(name, 4, "cpu", 1, 50)


def test_turns_keep_to_their_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow():
        now[0] += 0.2

    calls = []
    taken = timing.in_turn({"slow": slow, "fast": lambda: calls.append(1)}, 0.1)
    assert taken["slow"] == (pytest.approx(0.2), [pytest.approx(0.2)])
    assert len(taken["fast"].rounds) == len(calls) - 1 == timing.ROUNDS  # the first call warms up
    assert timing.ratio([1, 1, 2, 9], [2, 4, 2]) == 2  # a round without a partner does not count


def test_callers_work_at_once():
    together = threading.Barrier(4)

    def call(i):
        together.wait(processes.PATIENCE)
        return i

    with timing.callers(4) as each:
        assert each(call, range(4)) == [0, 1, 2, 3]


def test_no_more_callers_than_memory_allows():
    alone = {"peak": 2**28, "work": 2**20}
    assert memory.refusal(alone, 8) is None
    assert "GiB" in memory.refusal({"peak": 2**44, "work": 2**43}, 8)


def test_chunks_of_small_images(photograph):
    image = photograph[:100, :150]
    (chunk,) = images.chunks([image], 256, 1)
    np.testing.assert_array_equal(chunk[:100, :150], image)
    np.testing.assert_array_equal(chunk[100:200, :150], image[::-1])
    assert len({part.tobytes() for part in images.chunks([image], 64, 6)}) == 6  # two chunks, and their rotations
    source = images.mosaic([photograph], 600)
    part = images.region(source, slice(1000, 1300), slice(0, 5))
    np.testing.assert_array_equal(part, np.tile(source, (2, 1, 1))[1000:1300, :5])


def test_options_that_make_no_sense(capsys):
    for line in ("--chunks 100", "--parts speed,lunch", "--qualities 9"):
        with pytest.raises(SystemExit):
            command.main(line.split())
        assert "must be" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no folder of images"):
        command.main(["nowhere"])


@pytest.mark.slow
def test_slide(tmp_path):
    found = tmp_path / "found.json"
    script = ROOT / "tests" / "benchmarks" / "slide.py"
    printed = processes.run(script, "--megapixels", "0.6", "--runs", "photo-fast;JPEG", "--json", found, cwd=tmp_path).stdout
    results = json.loads(found.read_text())
    ours, jpeg = results["rows"]
    assert results["size"].startswith("768 x 768, 1 MP")
    assert abs(ours["psnr"] - jpeg["psnr"]) < 1
    assert ours["ratio"] > jpeg["ratio"] > 5
    assert ours["largest"] <= ours["together"]
    assert "| photo-fast | " in printed
