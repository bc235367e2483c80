"""What a process of `cluster` loads first: an interrupt at the keyboard reaches it too, but the conversion is what ends it."""

import signal


def dask_setup(worker: object) -> None:
    """Let interrupts pass."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
