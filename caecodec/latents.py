"""Reads the latents of a stored array, without making pixels: features for learning, at the cost of entropy decoding alone."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zarr

from .arrays import layers, payloads
from .arrays.opening import opened_array
from .arrays.selection import AxisSelection, parse_selection
from .chunks import tiling
from .chunks.axes import Axes
from .chunks.planes import COLOURS
from .codecs.autoencoder.interface import AUTOENCODER
from .codecs.autoencoder.latents import ChunkLatents, chunk_latents, decode_latents
from .codecs.autoencoder.parameters import AutoencoderParameters
from .engine import engine
from .errors import ParameterError
from .weights import Spec

__all__ = ["Latents", "decode_latents", "open_latents"]
THREADS = 16  # that decode symbols at once; they do so without Python's lock

Region = tuple[slice, ...]
Piece = tuple[tuple[int, slice, slice], ...]  # for each axis: the number of the chunk, the slice of it, and that of the result


def open_latents(array: "zarr.Array[Any] | str | Path") -> "Latents":
    """The latents of an array of codec `cae`, any network family, as a lazy array.

    Parameters
    ----------
    array
        A Zarr array of either format, sharded or not, in any store; or its path or URL.

    Raises
    ------
    ParameterError
        There is no such array, another codec codes it, alone or as well, or none of its chunks shows the number of its latent
        channels, which only arrays have that were written with a quality.
    WeightsError
        The weights are not installed (`caecodec.weights.install`).
    """
    return Latents.of(opened_array(array))


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of an array, read where they are indexed; numpy, dask and PyTorch take it for an array.

    The axes are those of the array before its spatial ones; channels, if they are coded one by one; the latent channels, M;
    rows and columns of latent positions. Each chunk is coded alone, so a chunk of h rows has ceil(h / s) rows of latents, s
    being the stride of the network; those of neighbours follow one another. All is 0 where nothing is coded: in chunks that are
    not stored or of one colour, in planes of one value, and in padding.

    array : the coded array
    shape, chunks : those of the latents; a chunk holds all M channels
    stride : pixels a side of a latent position
    """

    array: zarr.Array[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    stride: int
    _axes: Axes
    _joint: bool
    _weights: Spec

    dtype = np.dtype(np.float32)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> "Latents":
        """See `open_latents`."""
        codec, found = payloads.coded_by(array)
        if codec is not AUTOENCODER:
            raise ParameterError(f"array {array.store_path} is coded by {codec.name}, which has no latents of a shared network")
        parameters = cast(AutoencoderParameters, found)
        if not layers.layers(array)[-1].regular:
            raise ParameterError(f"chunks of {array.store_path} have several shapes but latents need one; copy the array")
        axes, whole, chunk = Axes.of(array.ndim, parameters.channel_axis), array.shape, array.chunks
        rgb = array.dtype == np.uint8 and axes.channels(chunk) == COLOURS
        varies = not rgb and axes.channels(chunk) == COLOURS  # three planes that are alike are one image
        if parameters.quality is None or varies:
            example = _example(array, parameters.weights)
            joint, channels, stride = bool(example.joint), example.values.shape[-3], example.stride
        else:
            loaded = engine().load(parameters.sources()[parameters.quality], parameters.quality)
            joint, channels, stride = rgb or axes.channel is None, loaded.network.latent_channels, loaded.family.stride
        rows, columns = tiling.latent_size(chunk[axes.height], chunk[axes.width], stride)

        def spatial(axis: int, of_chunk: int) -> int:
            """Latent positions along an axis of the whole array."""
            full, rest = divmod(whole[axis], chunk[axis])
            return full * of_chunk + -(-rest // stride)

        shape = [whole[axis] for axis in axes.leading]
        chunks = [chunk[axis] for axis in axes.leading]
        if axes.channel is not None and not (joint and whole[axes.channel] == COLOURS):
            per_image = COLOURS if joint else 1
            shape.append(-(-whole[axes.channel] // per_image))
            chunks.append(chunk[axes.channel] // per_image)
        shape += [channels, spatial(axes.height, rows), spatial(axes.width, columns)]
        return cls(array, tuple(shape), (*chunks, channels, rows, columns), stride, axes, joint, parameters.weights)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, selection: Any) -> npt.NDArray[np.float32]:
        """Integers, slices with steps above 0, and an ellipsis. The bytes of each chunk that this touches are read once.

        Raises ParameterError for another selection and for chunks without latents, and otherwise as `caecodec.decode`.
        """
        parts = parse_selection(selection, self.shape)
        out = np.zeros([part.size for part in parts], self.dtype)
        for piece, values in self._pieces(parts):
            if values is not None:
                out[tuple(target for _, _, target in piece)] = values[tuple(taken for _, taken, _ in piece)]
        return out[tuple(slice(None) if part.keep else 0 for part in parts)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def blocks(self) -> Iterator[tuple[Region, npt.NDArray[np.float32]]]:
        """Each chunk's region of the latents, and its values, in order; few chunks are in memory at once."""
        for piece, values in self._pieces(parse_selection(..., self.shape)):
            region = tuple(target for _, _, target in piece)
            taken = tuple(part for _, part, _ in piece)
            yield region, np.zeros([r.stop - r.start for r in region], self.dtype) if values is None else values[taken]

    def pixels(self, region: Region) -> Region:
        """The region of the array whose pixels a region of the latents, with steps of 1, comes from; all channels of it.

        Rows and columns are whole latent positions, so this may reach over the last pixel of a chunk.
        """
        found = [slice(None)] * self.array.ndim
        for axis, part in zip(self._axes.leading, region, strict=False):
            found[axis] = part
        for axis, part, rows in zip((self._axes.height, self._axes.width), region[-2:], self.chunks[-2:], strict=True):
            start, stop, _ = part.indices(self.shape[-2 if axis == self._axes.height else -1])
            chunk = self.array.chunks[axis]
            ends = [n // rows * chunk + min(n % rows * self.stride, chunk) for n in (start, stop)]
            found[axis] = slice(ends[0], min(ends[1], self.array.shape[axis]))
        return tuple(found)

    def _pieces(self, parts: list[AxisSelection]) -> Iterator[tuple[Piece, npt.NDArray[np.float32] | None]]:
        """What a selection takes of each chunk, and the latents of that chunk; None for one that is not stored."""
        each = [list(part.pieces(chunk)) for part, chunk in zip(parts, self.chunks, strict=True)]
        wanted = payloads.fetch_pieces(self.array, itertools.product(*each), self._position)
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                started: list[tuple[Piece, Callable[[], npt.NDArray[np.float32] | None]]] = []
                for piece, data in wanted:
                    started.append((piece, pool.submit(self._decode, piece, data).result))
                    if len(started) > 2 * THREADS:
                        first, result = started.pop(0)
                        yield first, result()
                for first, result in started:
                    yield first, result()
            except BaseException:  # nobody needs the other chunks after an error, an interrupt, or the end of iteration
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _position(self, piece: Piece) -> list[int]:
        """The position of a piece's chunk in the grid of the array's chunks."""
        numbers = [number for number, _, _ in piece]
        position = [0] * self.array.ndim
        for axis, number in zip(self._axes.leading, numbers, strict=False):
            position[axis] = number
        if self._axes.channel is not None and self.ndim == len(self._axes.leading) + 4:
            position[self._axes.channel] = numbers[-4]
        position[self._axes.height], position[self._axes.width] = numbers[-2:]
        return position

    def _decode(self, piece: Piece, data: bytes | None) -> npt.NDArray[np.float32] | None:
        """The latents of a chunk, with as many axes as the view."""
        if data is None:
            return None
        found = chunk_latents(data, self._weights)
        if found.joint is None:
            return None
        values = found.values
        if found.joint != self._joint or values.shape[-3] != self.shape[-3]:
            found_so, so = ("as one image" if joint else "one by one" for joint in (found.joint, self._joint))
            raise ParameterError(
                f"chunk {tuple(self._position(piece))} of {self.array.store_path} codes its channels {found_so}, with "
                f"{values.shape[-3]} latent channels, but {self.shape[-3]} and {so} were expected of this array; write it "
                "with one quality and with channel_axis=None or 8 bits, or read its chunks with decode_latents"
            )
        return values if self.ndim == values.ndim else values[..., 0, :, :, :]


def _example(array: zarr.Array[Any], weights: Spec) -> ChunkLatents:
    """The latents of the first chunk of an array that has some; ParameterError if none has."""
    grid = (-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True))
    for _, data in payloads.fetch_pieces(array, np.ndindex(*grid), lambda position: position):
        found = None if data is None else chunk_latents(data, weights)
        if found is not None and found.joint is not None:
            return found
    raise ParameterError(
        f"array {array.store_path} has no chunk with latents, so it does not show how many latent channels there are"
    )
