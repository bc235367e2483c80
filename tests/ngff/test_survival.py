"""Conversions whose processes are killed, at random moments, and that end with the bytes of one that was left alone."""

import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import dask
import numpy as np
import pytest
import zarr
from helpers import processes, slides
from helpers.conversions import convert
from helpers.paths import TINY

from caecodec.images.files import open_image
from caecodec.ngff import Options, blocks, cluster, encode_paths
from caecodec.ngff import convert as conversion
from caecodec.ngff.pyramid import Halved
from caecodec.storage.partial import SCRATCH

pytest.importorskip("distributed")  # an extra
psutil = pytest.importorskip("psutil")  # comes with it

if sys.platform == "win32":
    pytest.skip("signals and forks are those of POSIX", allow_module_level=True)

SIDE, CHUNK, SHARD = 768, 32, 64
KILLS, WORKERS = 20, 2
HOW = {"weights": str(TINY), "quality": 4, "chunk_size": CHUNK, "shard_size": SHARD, "background": "white"}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in HOW.items()]


@pytest.fixture(scope="module")
def source(tmp_path_factory, photograph):
    """An array of which a quarter is white, read by windows."""
    pixels = np.tile(photograph, (2, 2, 1))[:SIDE, :SIDE].copy()
    pixels[SIDE // 2 :, SIDE // 2 :] = 255
    path = tmp_path_factory.mktemp("source") / "source.zarr"
    zarr.create_array(path, data=pixels, chunks=(128, 128, 3))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, source):
    """The files of an output that one process wrote, without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, conversion):
            patch.setattr(module, "BLOCK_BYTES", SHARD * SHARD * 3)
        return files(convert(source, tmp_path_factory.mktemp("whole") / "a.zarr", Options(**HOW, resume=True)))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_scratch(found):
    return {name: data for name, data in found.items() if not name.startswith(SCRATCH)}


def shards(folder):
    """The shards below a folder that are written, and when."""
    found = {}
    for path in folder.glob("s*/c/**/*"):
        try:
            if path.suffix != ".partial" and path.is_file():
                found[str(path.relative_to(folder))] = path.stat().st_mtime_ns
        except FileNotFoundError:  # the folder has just got its final name
            continue
    return found


def wait_until(condition):
    deadline = time.monotonic() + processes.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Machines:
    """A scheduler, its workers, and the command, each a process; all are forked from one that has loaded PyTorch."""

    def __init__(self, folder, source, target, failures=KILLS, deadly=False):
        self.folder, self.source, self.target, self.failures, self.deadly = folder, source, target, failures, deadly
        self.context = multiprocessing.get_context("forkserver")
        # Those of tests are not on the path of the process that forks the others, which passes over what it cannot import.
        self.context.set_forkserver_preload(
            ["caecodec.torch", "caecodec.cli.main", "caecodec.ngff", "ome_zarr.writer", "distributed"]
        )
        self.messages = folder / "messages.txt"
        self.scheduler, self.workers, self.command = None, [], None

    def start(self, function, *arguments):
        from helpers import small_blocks

        process = self.context.Process(target=getattr(small_blocks, function), args=arguments)
        process.start()
        return process

    def begin_scheduler(self):
        if self.scheduler is None:
            self.port = free_port()
            self.scheduler = self.start("schedule", self.port, self.failures, self.folder / "scheduler.txt")
        return f"tcp://127.0.0.1:{self.port}"

    def complete(self):
        """Start what is missing."""
        address = self.begin_scheduler()
        while len(self.workers) < WORKERS:
            self.workers.append(self.start("work", address, self.folder, self.folder / "workers.txt", self.deadly))
        if self.command is None:
            self.messages.unlink(missing_ok=True)
            arguments = [str(self.source), "-o", str(self.target), *OPTIONS, "--resume", "--scheduler", address]
            self.command = self.start("encode", arguments, self.messages)

    def kill(self, who, choose):
        process = self.workers.pop(choose.randrange(WORKERS)) if who == "worker" else getattr(self, who)
        process.kill()
        process.join()
        if who != "worker":
            setattr(self, who, None)
        if who == "scheduler":
            self.end_workers()

    @property
    def partial(self):
        return self.target.with_name(f".{self.target.stem}.partial.zarr")

    def end_command(self, expected=0):
        """What a command has printed that ends by itself, if it was not killed."""
        said = self.messages.read_text()
        if self.command is not None:
            self.command.join(processes.PATIENCE)
            assert self.command.exitcode == expected, said
            self.command = None
        return said

    def end_workers(self):
        while self.workers:
            process = self.workers.pop()
            process.kill()
            process.join()

    def end(self):
        self.end_workers()
        for process in (self.command, self.scheduler):
            if process is not None:
                process.kill()
                process.join()


@pytest.mark.slow
def test_twenty_kills(tmp_path, source, whole):
    """Of the command, the workers and the scheduler; what was complete is not written again.

    Where the processes are faster than the kills, an output is complete early, and the next kills are of those of another one.
    """
    choose = random.Random(7)
    whom = [*["command"] * 8, *["worker"] * 8, *["scheduler"] * 4]
    choose.shuffle(whom)
    assert len(whom) == KILLS
    machines = Machines(tmp_path, source, tmp_path / "0.zarr")
    outputs, killed, again, before, complete = 1, 0, 0, {}, False
    try:
        while whom or not complete:
            machines.complete()
            partial = machines.partial
            wanted = len(shards(partial)) + choose.randrange(1, 7)
            if whom:
                wait_until(lambda: len(shards(partial)) >= wanted or not machines.command.is_alive())  # noqa: B023  # is called here
                time.sleep(choose.uniform(0, 0.03))
            else:
                machines.command.join(processes.PATIENCE)
            if machines.command.is_alive():
                killed += 1
                lost = whom.pop()
                machines.kill(lost, choose)
                if lost == "worker":  # the command goes on, and may end at any moment
                    continue
                if lost == "scheduler":
                    machines.command.join(processes.PATIENCE)
            complete = machines.target.exists()
            now = shards(machines.target if complete else partial)
            again += sum(now[path] != when for path, when in before.items())
            before = now
            if complete:
                assert files(machines.target) == whole
                assert not partial.exists()
                machines.end_command()
                before = {}
                if whom:
                    machines.target = tmp_path / f"{outputs}.zarr"
                    outputs += 1
                continue
            if "caecodec_partial" not in zarr.open_group(str(partial), mode="r").attrs:  # it only lacks its final name
                assert without_scratch(files(partial)) == whole
            if machines.scheduler is None:
                said = machines.end_command(expected=1)
                assert re.search("the scheduler at .* (is lost|cannot be reached)", said)  # the latter: before it connected
                assert "what is finished is kept: run the same command again to continue" in said
    finally:
        machines.end()
    assert killed == KILLS
    assert again <= WORKERS * KILLS // 4  # those that a worker still wrote when the next command began to


def test_a_block_of_which_workers_die(tmp_path, source):
    """The scheduler gives up, and says so; here the first time."""
    machines = Machines(tmp_path, source, tmp_path / "a.zarr", failures=0, deadly=True)
    try:
        machines.complete()
        machines.command.join(processes.PATIENCE)
        assert machines.command.exitcode == 1
        said = machines.messages.read_text().splitlines()
        assert "1 times a worker of the scheduler at tcp://127.0.0.1" in said[0], said
        assert "what is finished is kept: run the same command again to continue" in said[0]
    finally:
        machines.end()


def test_a_result_that_is_lost_with_its_worker(tmp_path, monkeypatch):
    """Another worker does the task again; if there is none for a while, that is said."""
    machines = Machines(tmp_path, tmp_path / "a.tif", tmp_path / "a.zarr")
    client = None
    try:
        address = machines.begin_scheduler()
        used = cluster.Cluster(address, 1, None)
        client = used._connected()
        first = machines.start("work", address, tmp_path, tmp_path / "workers.txt")
        machines.workers.append(first)
        future = client.submit(os.getpid, pure=False)
        wait_until(future.done)
        machines.end_workers()
        machines.workers.append(machines.start("work", address, tmp_path, tmp_path / "workers.txt"))
        assert used._result(client, future) == machines.workers[0].pid != first.pid
        machines.end_workers()
        monkeypatch.setattr(cluster, "PATIENCE", 0.1)
        with pytest.raises(ConnectionError, match="has had no workers"):
            used._result(client, future)
    finally:
        if client is not None:
            used.close()
        machines.end()


def test_a_cluster_that_is_not_there(tmp_path, source, monkeypatch):
    """No distributed, no scheduler, no workers: nothing is written, and nothing is called complete."""
    for module in (blocks, conversion):
        monkeypatch.setattr(module, "BLOCK_BYTES", SHARD * SHARD * 3)
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    options = Options(codec="none", chunk_size=CHUNK)

    def error(address):
        _, (failure,) = encode_paths([source], tmp_path / "out" / "a.zarr", options, scheduler=address)
        assert list((tmp_path / "out").iterdir()) == []
        return str(failure.error)

    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
        assert "the scheduler at tcp://127.0.0.1:9 cannot be reached" in error("tcp://127.0.0.1:9")
    command = ["-m", "helpers.small_blocks", source, "-o", tmp_path / "out" / "a.zarr", *OPTIONS, "--scheduler", "nonsense"]
    said = processes.run(*command, expected=1).stderr
    assert "the scheduler at nonsense cannot be reached: missing port number" in said
    assert "Traceback" not in said  # of a client, which takes a minute to end
    machines = Machines(tmp_path, source, None)
    try:
        address = machines.begin_scheduler()
        assert f"the scheduler at {address} has had no workers for 0.1 seconds; with resume (--resume)" in error(address)
    finally:
        machines.end()
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'caecodec[cluster]', or leave workers and scheduler out" in error("tcp://127.0.0.1:9")


def test_processes_of_its_own(tmp_path, source, whole):
    """One is killed, and replaced; an interrupt ends all, and nothing is left behind."""
    target = tmp_path / "a.zarr"
    partial = target.with_name(".a.partial.zarr")
    command = ["-m", "helpers.small_blocks", source, "-o", target, *OPTIONS, "--resume", "--workers", "2"]

    def begun(more):
        process = processes.start(*command, stderr=subprocess.PIPE, start_new_session=True)
        wanted = len(shards(partial)) + more
        wait_until(lambda: len(shards(partial)) >= wanted or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        children = psutil.Process(process.pid).children(recursive=True)
        return process, children, [one for one in children if "spawn_main" in " ".join(one.cmdline())]

    process, children, _ = begun(3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=processes.PATIENCE)
    assert process.returncode == 130, said
    assert said.splitlines()[0].endswith("each unfinished one is kept; run the same command again to continue")
    wait_until(lambda: not any(map(is_running, children)))
    process, _, (worker, _) = begun(3)
    worker.kill()
    _, said = process.communicate(timeout=processes.PATIENCE)
    assert process.returncode == 0, said
    assert "caecodec" not in said
    assert files(target) == whole


def is_running(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_each_process_opens_the_file(tmp_path):
    """Pixels of a file travel as its name and level, not as values."""
    slides.aperio(tmp_path / "slide.svs", slides.tissue(600, 800))
    with open_image(tmp_path / "slide.svs") as image:
        levels = (image.pixels, *image.levels)
        assert len(levels) > 1
        for level in levels:
            sent = pickle.dumps(Halved(level))
            assert len(sent) < 1000
            np.testing.assert_array_equal(pickle.loads(sent)[(slice(None),) * 3], Halved(level)[(slice(None),) * 3])


FULL = """
import json, resource, shutil, subprocess, sys
from pathlib import Path
from caecodec.cli.main import main

how, folder, copy, *arguments = sys.argv[1:]

def limit(size):
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    else:
        options = f"{'remount,' * Path(folder, 'seen').exists()}size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        Path(folder, "seen").touch()

limit(2**19 if how == "mount" else 2**13)
first = main(arguments)
left = [path.name for path in Path(folder).iterdir() if path.name != "seen"]
limit(2**26)
second = main(arguments)
shutil.copytree(Path(folder, "a.zarr"), copy)
print(json.dumps([first, left, second]))
"""


def can_mount(folder):
    """Whether this user may mount disks, in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("resume", [True, False])
def test_a_full_disk(tmp_path, source, resume):
    """A small one, or, where none can be mounted, files that cannot grow; later there is room."""
    folder, copy = tmp_path / "disk", tmp_path / "copy.zarr"
    folder.mkdir()
    before, how = ([sys.executable], "limit") if not can_mount(folder) else (["unshare", "-rm", sys.executable], "mount")
    options = ["--codec=none", "--chunk-size=32", "--shard-size=64", "--quiet", *["--resume"] * resume]
    command = [*before, "-c", FULL, how, folder, copy, "encode", source, "-o", folder / "a.zarr", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=processes.environment(), check=True)
    first, left, second = json.loads(done.stdout)
    assert (first, left, second) == (1, [".a.partial.zarr"] if resume else [], 0)
    assert {"mount": "No space left on device", "limit": "File too large"}[how] in done.stderr.splitlines()[0]
    what = "what is finished is kept: run the same command again to continue" if resume else "with resume (--resume) what is"
    assert what in done.stderr.splitlines()[0]
    plain = convert(source, tmp_path / "plain.zarr", Options(codec="none", chunk_size=32, shard_size=64, resume=resume))
    assert files(copy) == files(plain)
