"""Entropy coding on a GPU; the kernels run in Triton's interpreter too, where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import PACKAGE, TESTS

from caecodec.entropy import context, device
from caecodec.entropy.context_tables import LEFT, UP


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
def test_kernels():
    on = "cuda" if torch.cuda.is_available() else "cpu"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(TESTS)])}
    environment.update({} if on == "cuda" else {"TRITON_INTERPRET": "1"})
    script = Path(__file__).with_name("check_kernels.py")
    result = subprocess.run(
        [sys.executable, script, on], capture_output=True, text=True, timeout=500, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "same bytes\n"


TYPES = {"index": "*u8", "features": "*i8", "begin": "*i64", "state": "*i64"}
ARRAYS = {
    "words", "left", "rows", "cumulative", "row", "length", "mode", "weight", "threshold", "count", "low", "mass", "written"
}  # fmt: skip
COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from caecodec.entropy import kernels
from test_cuda_entropy import ARRAYS, TYPES

for name in ("decode", "measure", "choose", "encode"):
    for context in (True, False):
        kernel = getattr(kernels, name)
        constants = {"context": context, "padded_classes": 32, "block": 256}
        known = {argument: constants[argument] for argument in kernel.arg_names if argument in constants}
        types = {
            argument: "constexpr" if argument in known else TYPES.get(argument, "*i32" if argument in ARRAYS else "i32")
            for argument in kernel.arg_names
        }
        source = ASTSource(kernel, types, {(kernel.arg_names.index(argument),): value for argument, value in known.items()})
        compiled = compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
        assert len(compiled.asm["cubin"]) > 1000
print("compiled")
"""


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability, tmp_path):
    """For GPUs that need not be here."""
    paths = os.pathsep.join([str(PACKAGE.parent), str(TESTS), str(Path(__file__).parent)])
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths}
    (tmp_path / "compile_kernels.py").write_text(COMPILE)
    command = [sys.executable, tmp_path / "compile_kernels.py", str(capability)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "compiled\n"


@pytest.mark.parametrize("kind", [LEFT, UP])
def test_differences(kind):
    values = np.random.default_rng(0).integers(-99, 99, (2, 3, 5, 7), np.int32)
    expected = context.difference(values, kind)
    found = device.difference(torch.from_numpy(values), kind)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(device.integrate(found.long(), kind), context.integrate(expected, kind))
