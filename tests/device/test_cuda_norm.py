"""GDN on a GPU; the kernel runs in Triton's interpreter too, where there is no GPU."""

from pathlib import Path

import pytest
import torch
from helpers import processes

from caecodec.models.factorized import fused


@pytest.mark.skipif(not fused.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_kernel():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = processes.environment(**({} if on == "cuda" else {"TRITON_INTERPRET": "1"}))
    script = Path(__file__).with_name("check_norm.py")
    assert processes.run(script, on, env=environment).stdout == "same values\n"
