"""Reads parts of a stored array, and of an array in layers no more bytes than the layers that are wanted."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from .torch import read as read_tensor


def read(array: "zarr.Array[Any] | str | Path", selection: Any = ..., layers: int | None = None) -> npt.NDArray[Any]:
    """`array[selection]`, from the first layers alone if so asked.

    Parameters
    ----------
    array
        A Zarr array that caecodec codes, of either format, sharded or not, in any store; or its path or URL.
    selection
        Integers, slices with steps above 0, and an ellipsis, as in ``array[0, 100:200, ...]``.
    layers
        Fetch and decode only so many layers of an array of `ScalableAutoencoder`; None: as many as `caecodec.settings` say.

    Raises
    ------
    ParameterError
        There is no such array, it has other codecs, or no layers although `layers` is given, or the selection is of another
        kind or outside the array.
    CorruptionError, FormatVersionError, WeightsError
        As `caecodec.decode`.
    """
    return read_tensor(array, selection, layers=layers).cpu().numpy()
