"""Whole chunks on a GPU; where there is none, the same code on the CPU, with its kernels in Triton's interpreter."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from benchmarks import line_stages
from helpers import processes
from helpers.images import random_image
from helpers.paths import TINY_CONTEXT

from caecodec.chunks import transfers
from caecodec.engine import cuda
from caecodec.entropy import device, device_lists


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_line():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = processes.environment(**({} if on == "cuda" else {"TRITON_INTERPRET": "1"}))
    script = Path(__file__).with_name("check_line.py")
    assert processes.run(script, on, env=environment).stdout == "same chunks\n"


def test_a_batch_waits_for_the_device_once():
    """On the meta device, what waits without being asked to is counted, or fails for want of values."""
    rows = list(line_stages.count_all([random_image(32, 32, 3)], 4, (1, 3), TINY_CONTEXT))
    assert [(row["direction"], row["chunks"]) for row in rows] == [("encode", 1), ("encode", 3), ("decode", 1), ("decode", 3)]
    for row in rows:
        assert row["waits"] == {"fetch": 1, "others": 0}
        assert {"pixels", "network", "symbols", "escapes", "differences", "hand-over"} <= set(row["work"])
    for one, three in (rows[:2], rows[2:]):
        for stage in ("pixels", "symbols", "hand-over"):
            assert one["work"][stage]["launches"] == three["work"][stage]["launches"]
        assert three["work"]["pixels"]["bytes"] == pytest.approx(3 * one["work"]["pixels"]["bytes"], rel=0.01)


def test_other_waits_are_counted():
    values = torch.zeros(5, device="meta")
    for wait in (values.sum().item, values.tolist, values.cpu, lambda: bool(values.any())):
        count = line_stages.Count()
        with torch.inference_mode(), count:
            wait()
        assert count.waits == {"fetch": 0, "others": 1}


@pytest.mark.skipif(not torch.cuda.is_available() or not device.available(), reason="needs a CUDA device and Triton")
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_a_gpu_is_waited_for_once(direction):
    """The same on a GPU, where PyTorch refuses all other waits."""
    run = line_stages.Batches([random_image(256, 256, 3, seed=seed) for seed in range(4)], 4, "cuda").of(direction, 16)
    run()
    fetches = []

    def fetch(*tensors):
        torch.cuda.set_sync_debug_mode("default")
        fetches.append(transfers.fetch(*tensors))
        torch.cuda.set_sync_debug_mode("error")
        return fetches[-1]

    with mock.patch.object(cuda, "fetch", fetch), mock.patch.object(device_lists, "fetch", fetch):
        torch.cuda.set_sync_debug_mode("error")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(fetches) == 1
