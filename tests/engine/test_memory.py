"""The memory setting holds for a process: its peak is measured in one of its own."""

import sys

import pytest
from helpers import processes

SCRIPT = """
import sys
import numpy as np
import caecodec

def resident(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

caecodec.settings.configure(memory=sys.argv[1])
rng = np.random.default_rng(0)
coarse = rng.integers(96, 160, (256, 256, 3)).astype(np.uint8)
caecodec.decode(caecodec.encode(coarse, quality=4))  # libraries, weights and threads
array = coarse.repeat(8, axis=0).repeat(8, axis=1)
before = resident("VmRSS")
decoded = caecodec.decode(caecodec.encode(array, quality=4))
print(resident("VmHWM") - before - decoded.nbytes / 2**20)
assert np.abs(decoded.astype(int) - array).mean() < 10
"""


def taken(memory):
    """MiB that coding a chunk of 2048 x 2048 pixels takes at most, besides the chunk."""
    kept = ("PYTHONPATH", "PYTHONPYCACHEPREFIX", "PATH", "OMP_NUM_THREADS")
    environment = {name: value for name, value in processes.environment().items() if name in kept}
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"  # freed arrays go back at once; what malloc would keep depends on timing
    return float(processes.run("-c", SCRIPT, memory, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from Linux's /proc")
@pytest.mark.slow
def test_a_large_chunk_keeps_to_the_memory_setting():
    """The symbols and what the entropy coder makes of them come on top: about 70 MiB. In one pass it takes 300 MiB."""
    assert taken("32M") < 110
    assert taken("1G") > 200
