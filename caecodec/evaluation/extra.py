"""The packages of the extra `eval`, imported only when they are needed."""

import importlib
from typing import Any

from ..errors import ParameterError

MODULES = ("imagecodecs", "matplotlib", "pytorch_msssim", "scipy")


def module(name: str) -> Any:
    """A module of the extra; ParameterError if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ParameterError(
            f"evaluation needs {name}, which cannot be imported ({error}): pip install 'caecodec[eval]'"
        ) from error
