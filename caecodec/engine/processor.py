"""How many cores of the processor a thread's share of PyTorch's work runs on."""

import ctypes
from functools import lru_cache
from typing import Any

import torch

from .. import settings


def cores() -> int:
    """How many cores all running jobs may use: CAECODEC_THREADS, or as many threads as PyTorch would take.

    1 where PyTorch's threads are not OpenMP's, so that jobs run one after the other, each on all of them.
    """
    return 1 if _openmp() is None else settings.current().threads or torch.get_num_threads()


def limit_cores(count: int) -> None:
    """Let PyTorch take this many cores for what the calling thread does; torch.set_num_threads would affect the user's, too."""
    openmp = _openmp()
    if openmp is not None:
        torch.get_num_threads()  # the first call of a thread sets the number to the default
        openmp.omp_set_num_threads(count)
    elif settings.current().threads:
        torch.set_num_threads(settings.current().threads)


@lru_cache
def _openmp() -> Any:
    """The OpenMP library that PyTorch is linked with, if any."""
    library = ctypes.CDLL(torch._C.__file__)
    return library if hasattr(library, "omp_set_num_threads") else None
