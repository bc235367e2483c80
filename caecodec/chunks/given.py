"""Arrays as callers give them -> chunks as codecs take them: plain numpy arrays in this machine's byte order."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError


def as_chunk(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values, of any shape and memory order, in this machine's byte order and without a mask.

    Raises ParameterError for a masked array of which a value is masked, because payloads hold no mask.
    """
    if isinstance(array, np.ma.MaskedArray):
        masked = int(np.ma.count_masked(array))
        if masked:
            raise ParameterError(
                f"array has {masked} masked values but a payload holds no mask; fill them with a value of your choice "
                "(array.filled(value)), and store the mask with a lossless codec"
            )
    plain = np.asarray(array)
    return plain.astype(plain.dtype.newbyteorder("="), copy=False)
