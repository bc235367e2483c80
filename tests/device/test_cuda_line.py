"""Whole chunks on a GPU; where there is none, the same code on the CPU, with its kernels in Triton's interpreter."""

from pathlib import Path

import pytest
import torch
from helpers import processes

from caecodec.entropy import device


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_line():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = processes.environment(**({} if on == "cuda" else {"TRITON_INTERPRET": "1"}))
    script = Path(__file__).with_name("check_line.py")
    assert processes.run(script, on, env=environment).stdout == "same chunks\n"
