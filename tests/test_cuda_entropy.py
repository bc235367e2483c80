"""Entropy coding on a GPU; the kernels run in Triton's interpreter too, where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import caecodec
from caecodec.entropy import context, device
from caecodec.entropy.context_tables import LEFT, UP


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_kernels():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = {**os.environ, "PYTHONPATH": str(Path(caecodec.__file__).parents[1])}
    environment.update({} if on == "cuda" else {"TRITON_INTERPRET": "1"})
    script = Path(__file__).with_name("check_kernels.py")
    result = subprocess.run(
        [sys.executable, script, on], capture_output=True, text=True, timeout=500, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "same bytes\n"


@pytest.mark.parametrize("kind", [LEFT, UP])
def test_differences(kind):
    values = np.random.default_rng(0).integers(-99, 99, (2, 3, 5, 7), np.int32)
    expected = context.difference(values, kind)
    found = device.difference(torch.from_numpy(values), kind)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(device.integrate(found.long(), kind), context.integrate(expected, kind))
