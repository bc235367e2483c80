"""A decoded chunk that cannot be mistaken for one of another dtype or shape."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptionError


class DecodedChunk(np.ndarray[Any, np.dtype[Any]]):
    """A decoded chunk that can only be viewed and reshaped as its own dtype and shape.

    In the Zarr v2 format a codec learns neither: zarr views what `decode` returns as the dtype of the array's metadata,
    flattens it, and reshapes it to the shape of the metadata. If these differ from the chunk's own, this class raises
    CorruptionError instead of scrambling the pixels; if only the byte order differs, it converts the values. Otherwise it is an
    ordinary array, and so is all that is computed from it.
    """

    coded_shape: tuple[int, ...] | None

    def __array_finalize__(self, source: Any) -> None:
        self.coded_shape = getattr(source, "coded_shape", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def view(self, *arguments: Any, **options: Any) -> Any:
        """`numpy.ndarray.view`, or the same values in another byte order; CorruptionError if the dtype is not the chunk's."""
        wanted = arguments[0] if arguments else options.get("dtype")
        if self.coded_shape is not None and isinstance(wanted, np.dtype) and wanted != self.dtype:
            if wanted.newbyteorder("=") == self.dtype.newbyteorder("="):
                return self.astype(wanted)
            raise CorruptionError(
                f"payload holds a chunk of {self.dtype} but {wanted} is expected here: "
                "it belongs to another array, or the array's metadata was changed"
            )
        return super().view(*arguments, **options)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """`numpy.ndarray.reshape`; CorruptionError if the flattened chunk would get another shape than it had."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        coded = self.coded_shape
        if coded is None or self.ndim != 1 or self.size != math.prod(coded) or len(wanted) == 1 or -1 in wanted:
            return super().reshape(*shape, **options)
        check_fits(coded, wanted)
        return self.view(np.ndarray).reshape(*shape, **options)


def deliver(array: npt.NDArray[Any], out: Any = None) -> Any:
    """A decoded chunk as numcodecs returns it: a `DecodedChunk`, or `out`, which it fits, filled with its values.

    Raises CorruptionError for an `out` of another shape or dtype.
    """
    chunk = array.view(DecodedChunk)
    chunk.coded_shape = array.shape
    if out is None:
        return chunk
    check_out(array.shape, array.dtype, out)
    if isinstance(out, np.ndarray) and out.ndim > 1 and out.dtype.newbyteorder("=") == array.dtype.newbyteorder("="):
        np.copyto(out, array.reshape(out.shape))  # each value to its place; what follows copies in the order of memory
        return out
    from numcodecs.compat import ndarray_copy

    return ndarray_copy(array if _is_bytes(out, array.nbytes) else chunk, out)


def check_out(shape: tuple[int, ...], dtype: np.dtype[Any], out: Any) -> None:
    """Raise CorruptionError unless `out` has the shape of a chunk, as `check_fits`, or is a buffer of as many bytes."""
    if not _is_bytes(out, math.prod(shape) * dtype.itemsize):
        check_fits(shape, np.shape(out))


def _is_bytes(out: Any, count: int) -> bool:
    """Whether `out` is a flat buffer of so many bytes, for the values as they are in memory."""
    if isinstance(out, list | tuple):
        return False
    flat = np.asarray(out)
    fits: bool = flat.shape == (count,) and flat.dtype == np.uint8
    return fits


def check_fits(coded: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise CorruptionError unless `wanted` is the shape `coded` up to axes of length 1, or is flat."""
    if len(wanted) == 1 and wanted[0] == math.prod(coded):
        return
    if [n for n in coded if n != 1] != [n for n in wanted if n != 1]:
        raise CorruptionError(
            f"payload holds a chunk of shape {coded} but {wanted} is expected here: "
            "it belongs to another array, or the array's metadata was changed"
        )
