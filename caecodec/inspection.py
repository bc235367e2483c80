"""Scripts that were copied from earlier examples import `inspect` from here; new ones use `caecodec.inspect`."""

from .arrays.inspection import inspect

__all__ = ["inspect"]
