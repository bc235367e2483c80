"""Limits the number of cores that PyTorch uses for the work of a thread."""

import ctypes
from functools import lru_cache
from typing import Any

import torch

from .. import settings


def cores() -> int:
    """The number of cores that all running jobs may use: CAECODEC_THREADS, or PyTorch's number of threads.

    It is 1 if PyTorch does not use OpenMP's threads: then jobs run one after the other, each on all cores.
    """
    return 1 if _openmp() is None else settings.current().threads or torch.get_num_threads()


def limit_cores(count: int) -> None:
    """Limit the cores that PyTorch uses for the calling thread; torch.set_num_threads would also affect the user's threads."""
    openmp = _openmp()
    if openmp is not None:
        torch.get_num_threads()  # a thread's first call sets the number to the default
        openmp.omp_set_num_threads(count)
    elif settings.current().threads:
        torch.set_num_threads(settings.current().threads)


@lru_cache
def _openmp() -> Any:
    """The OpenMP library that PyTorch is linked with, if any."""
    library = ctypes.CDLL(torch._C.__file__)
    return library if hasattr(library, "omp_set_num_threads") else None
