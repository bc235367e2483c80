"""Overfitted payloads decoded together: batches, memory, interrupts, forks."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import processes
from helpers.images import random_image
from helpers.overfitted import random_latents, random_network
from helpers.surfaces import encode

import caecodec
from caecodec import settings
from caecodec.codecs.overfitted import batches, wavefront
from caecodec.codecs.overfitted.architecture import LOP, MOP
from caecodec.codecs.overfitted.synthesis import synthesise

pytestmark = pytest.mark.usefixtures("by_hand")


def concurrently(functions):
    """The results of functions that start at the same time, each in a thread."""
    ready = threading.Barrier(len(functions))

    def run(function):
        ready.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


@pytest.mark.parametrize("memory", ["1G", "16M"])
def test_batches_equal_single_payloads(monkeypatch, memory):
    """Payloads of several shapes and decoders from many threads; damaged ones fail alone."""
    sizes, decode = [], wavefront.decode

    def counting(networks, coded, *size):
        sizes.append(len(coded))
        return decode(networks, coded, *size)

    monkeypatch.setattr(wavefront, "decode", counting)
    cases = []
    for i, (decoder, *size) in enumerate([(LOP, 1, 40, 50), (MOP, 1, 40, 50), (LOP, 2, 40, 50), (LOP, 1, 50, 40)] * 6):
        network = random_network(decoder, seed=i)
        latents = [level[0] for level in random_latents([network], *size, seed=i)]
        coded = wavefront.encode(network, latents)
        if i % 8 == 4:
            coded = coded._replace(raw=coded.raw + b"\0")
        cases.append((network, synthesise(network, latents), coded, size))
    batch = batches.Batches()

    def read(network, pictures, coded, size):
        try:
            found = batch.decode(network, coded, *size)
        except caecodec.CorruptionError:
            return None
        return bool((found == pictures).all())

    with settings.using(memory=memory):
        results = concurrently([lambda case=case: read(*case) for case in cases])
    assert results == [None if i % 8 == 4 else True for i in range(len(cases))]
    assert max(sizes) > 1


def test_a_batch_is_bounded_by_memory(monkeypatch):
    most = []

    def refuse(networks, coded, *size):
        most.append(len(coded))
        raise caecodec.CorruptionError("no")

    monkeypatch.setattr(wavefront, "decode", refuse)

    def read(batch, network, *size):
        with pytest.raises(caecodec.CorruptionError) as error:
            batch.decode(network, None, *size)
        return str(error.value)

    batch = batches.Batches()
    network = random_network(LOP)
    with settings.using(memory="16M"):
        results = concurrently([lambda: read(batch, network, 1, 300, 300)] * 20)
    assert results == ["no"] * 20
    assert 1 <= max(most) <= 2**24 // (64 * 300 * 300)


def test_an_interrupt_leaves_the_others_their_turn(monkeypatch):
    """The thread that runs a batch is interrupted: it alone fails."""
    decode, started, go = wavefront.decode, threading.Event(), threading.Event()
    network = random_network(LOP)
    latents = [level[0] for level in random_latents([network], 1, 20, 20)]
    coded = wavefront.encode(network, latents)
    calls = []

    def once(*arguments):
        calls.append(len(arguments[1]))
        if len(calls) == 1:
            started.set()
            assert go.wait(processes.PATIENCE)
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(wavefront, "decode", once)
    batch = batches.Batches()

    def read():
        try:
            return batch.decode(network, coded, 1, 20, 20).shape
        except KeyboardInterrupt:
            return "interrupted"

    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(read) for _ in range(12)]
        assert started.wait(processes.PATIENCE)
        go.set()
        results = [future.result(timeout=processes.PATIENCE) for future in futures]
    assert sorted(results, key=str) == [*[(1, 3, 20, 20)] * 11, "interrupted"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_decodes():
    data = encode(random_image(30, 30, 3))
    expected = caecodec.decode(data)
    script = (
        "import os, sys, threading, numpy as np, caecodec\n"
        "data = sys.stdin.buffer.read()\n"
        "caecodec.decode(data)\n"  # imports what it needs
        "threads = [threading.Thread(target=caecodec.decode, args=(data,), daemon=True) for _ in range(20)]\n"
        "[thread.start() for thread in threads]\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(int(caecodec.decode(data).sum()), flush=True)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    result = processes.run("-W", "ignore", "-c", script, input=data, text=False)
    assert int(result.stdout) == int(expected.sum())
