"""The line of the CPU: the calling thread converts pixels and codes symbols, and the engine runs networks on any device.

chunk ── tiles ── images ── Engine.run ──▶ symbols ── entropy model ──▶ coded symbols          and back
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..chunks import planes, tiling
from ..chunks.pending import Pending
from ..entropy.streams import CodedSymbols
from ..errors import CorruptionError
from .jobs import Array, Direction
from .line import ChunkTask, Line
from .networks import Load
from .place import PlacedNetwork

Run = Callable[[PlacedNetwork, Direction, Array], Array]


class CpuLine(Line):
    """Encodes and decodes chunks of every kind, in tiles if memory requires it.

    Parameters
    ----------
    load
        Returns the network and tables of a quality.
    run
        Runs a network; see `Engine.run`.
    """

    batches = False

    def __init__(self, load: Load, run: Run) -> None:
        self._load, self._run = load, run

    def encode(self, task: ChunkTask, chunk: Array | Tensor) -> Pending[CodedSymbols]:
        """See `Line.encode`; asking for the result does all of the work."""
        array = chunk.cpu().numpy() if isinstance(chunk, Tensor) else chunk
        return Pending(partial(self._encode, task, array))

    def decode(self, task: ChunkTask, coded: CodedSymbols, keep: bool = False) -> Pending[Array | Tensor]:
        """See `Line.decode`; asking for the result does all of the work."""
        return Pending(partial(self._decode_tensor if keep else self._decode, task, coded))

    def analyse(self, task: ChunkTask, array: Array) -> npt.NDArray[np.int32]:
        """Array of a chunk -> symbols (m, M, rows, columns); m must be above 0."""
        spec, stride = task.spec, self._load(task.network.source, task.network.quality).family.stride
        rows, columns = tiling.latent_size(spec.height, spec.width, stride)
        out = None
        for tile in self._tiles(task.network, rows, columns):
            crop = array[spec.axes.region(*tile.seen(stride))]
            images = tiling.pad(planes.to_images(crop, spec.axes, spec.layout), stride)
            part = self._run(task.network, "analysis", images)
            if part.shape[2:] == (rows, columns):
                return part
            if out is None:
                out = np.empty((*part.shape[:2], rows, columns), part.dtype)
            out[:, :, *tile.place()] = part[:, :, *tile.kept()]
        assert out is not None
        return out

    def symbols(self, task: ChunkTask, coded: CodedSymbols) -> npt.NDArray[np.int32]:
        """Decode symbols (m, M, rows, columns); CorruptionError if they are damaged."""
        loaded = self._load(task.network.source, task.network.quality)
        shape = task.symbols_shape(loaded)
        if shape[0]:
            return task.entropy.decode(coded, loaded.tables_of(task.entropy), shape)
        if coded.streams or coded.escapes:
            raise CorruptionError("payload has streams but all its planes have one value: it is damaged")
        return np.empty(shape, np.int32)

    def exact_levels(self, task: ChunkTask, coded: CodedSymbols) -> npt.NDArray[np.int32]:
        """Coded symbols -> planes (m, 3, height, width) from the exact synthesis, int32 from 0 to EXACT_LEVELS."""
        symbols = self.symbols(task, coded)
        levels: npt.NDArray[np.int32] = self._images(task.network, "exact", symbols)
        return levels[:, :, : task.spec.height, : task.spec.width]

    def _encode(self, task: ChunkTask, array: Array) -> CodedSymbols:
        if not task.spec.images:
            return CodedSymbols((), b"")
        loaded = self._load(task.network.source, task.network.quality)
        return task.entropy.encode(self.analyse(task, array), loaded.tables_of(task.entropy))

    def _decode(self, task: ChunkTask, coded: CodedSymbols) -> Array:
        spec, stride = task.spec, self._load(task.network.source, task.network.quality).family.stride
        symbols = self.symbols(task, coded)
        chunk = np.empty(spec.shape, spec.dtype)
        for tile in self._tiles(task.network, *symbols.shape[2:]):
            region = chunk[spec.axes.region(*tile.place(stride))]
            images = self._images(task.network, "synthesis", symbols[:, :, *tile.seen()])[:, :, *tile.kept(stride)]
            images = images[:, :, : region.shape[spec.axes.height], : region.shape[spec.axes.width]]
            if images.size and not planes.plausible(images):
                raise CorruptionError(
                    "payload holds symbols that decode to no pixels: it is damaged, or was made with other weights"
                )
            region[...] = planes.to_array(images, region.shape, region.dtype, spec.axes, spec.layout)
        return chunk

    def _decode_tensor(self, task: ChunkTask, coded: CodedSymbols) -> Tensor:
        return torch.from_numpy(self._decode(task, coded)).to(task.network.placement.device)

    def _images(self, network: PlacedNetwork, direction: Direction, symbols: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """Symbols (m, M, rows, columns) -> images (m, 3, s rows, s columns); m may be 0."""
        if len(symbols):
            return self._run(network, direction, symbols)
        stride = self._load(network.source, network.quality).family.stride
        height, width = (stride * side for side in symbols.shape[2:])
        return np.empty((0, planes.COLOURS, height, width), np.float32)

    def _tiles(self, network: PlacedNetwork, rows: int, columns: int) -> list[tiling.Tile]:
        """Cut latents of this size into tiles that fit the memory setting."""
        loaded, placement = self._load(network.source, network.quality), network.placement
        family, tensors = loaded.family, loaded.network.tensors
        pixels_at_once = placement.current_settings().memory // family.pixel_bytes(tensors, placement.device)
        halo = family.halo(tensors)
        return tiling.tiles(rows, columns, tiling.tile_positions(pixels_at_once, family.stride, halo), halo)
