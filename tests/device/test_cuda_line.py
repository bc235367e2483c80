"""Whole chunks on a GPU; where there is none, the same code on the CPU, with its kernels in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.paths import PACKAGE, TESTS

from caecodec.entropy import device


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_line():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(TESTS)])}
    environment.update({} if on == "cuda" else {"TRITON_INTERPRET": "1"})
    script = Path(__file__).with_name("check_line.py")
    result = subprocess.run(
        [sys.executable, script, on], capture_output=True, text=True, timeout=500, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "same chunks\n"
