"""The outputs of what makes weights: checked before the work begins, which takes minutes to hours."""

import os
from pathlib import Path

from ..errors import ParameterError
from ..storage.locations import Location, local
from ..storage.partial import refuse_existing


def parse_output(output: Location, overwrite: bool) -> Path:
    """The path of the weights file to write, in a folder that exists from now on.

    Raises ParameterError unless it is NAME.safetensors, for a URL, for a file that exists, unless it may be overwritten, and
    for a folder that cannot be written to.
    """
    path = local(output)
    if path.suffix != ".safetensors":
        raise ParameterError(f"output is {path} but must be named NAME.safetensors")
    refuse_existing(path, overwrite)
    return in_folder(path)


def in_folder(path: Path) -> Path:
    """The path of an output, whose folder is made if there is none; ParameterError if it cannot be, or be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"the folder of {path} cannot be made: {error}; choose another") from error
    if not os.access(path.parent, os.W_OK):
        raise ParameterError(f"{path} cannot be written, because its folder does not permit it; choose another")
    return path
