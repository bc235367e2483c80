"""Entropy coding on a GPU; the kernels run in Triton's interpreter too, where there is no GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import processes

from caecodec.entropy import context_numpy, device
from caecodec.entropy.context_tables import LEFT, UP


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
@pytest.mark.parametrize("on", ["cuda"] if torch.cuda.is_available() else [pytest.param("cpu", marks=pytest.mark.slow)])
def test_kernels(on):
    environment = processes.environment(**({} if on == "cuda" else {"TRITON_INTERPRET": "1"}))
    script = Path(__file__).with_name("check_kernels.py")
    assert processes.run(script, on, env=environment).stdout == "same bytes\n"


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability, tmp_path):
    """For GPUs that need not be here."""
    environment = processes.environment(TRITON_CACHE_DIR=str(tmp_path))
    script = Path(__file__).with_name("check_compile.py")
    assert processes.run(script, capability, env=environment).stdout == "compiled\n"


@pytest.mark.parametrize("kind", [LEFT, UP])
def test_differences(kind):
    values = np.random.default_rng(0).integers(-99, 99, (2, 3, 5, 7), np.int32)
    expected = context_numpy.difference(values, kind)
    found = device.difference(torch.from_numpy(values), kind)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(device.integrate(found.long(), kind), context_numpy.integrate(expected, kind))
