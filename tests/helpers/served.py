"""What the tests of serving show, and the command that serves it."""

import contextlib
import signal

import numpy as np
import skimage.data

from . import processes
from .stacks import stack

PHOTO = np.ascontiguousarray(np.tile(skimage.data.coffee(), (2, 2, 1))[:700, :1100])
CELLS = stack(2, 3, 60, 90)
SIGNAL = stack(80, 100, dtype="float32")


@contextlib.contextmanager
def running(path, *options):
    """The URL of the command that serves a path at a free port, ended as users end it."""
    process = processes.start("-m", "caecodec", "serve", path, "--port", "0", *options, stdout=-1)
    try:
        lines = iter(process.stdout.readline, "")
        yield next(line for line in lines if line.startswith("http")).split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(processes.PATIENCE) == 0
