"""Copies arrays and groups with fewer layers: payloads are cut, and no pixel is decoded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from ..bitstream import scalable
from ..codecs.scalable.interface import SCALABLE
from ..codecs.scalable.parameters import parse_layers
from ..errors import CaeCodecError, ParameterError
from ..storage import locations
from ..storage.partial import complete_folder, refuse_existing, refuse_nested
from . import layers, payloads

_CHUNKS_AT_ONCE = 1024
_DOCUMENTS = ("zarr.json", ".zarray", ".zmetadata")  # those that name codecs


class Extracted(NamedTuple):
    """What `extract` wrote: how many arrays and chunks have fewer layers, the pixels of these arrays, and their bytes."""

    arrays: int
    chunks: int
    pixels: int
    bytes_before: int
    bytes_after: int


def extract(source: locations.Location, output: Path, count: int, overwrite: bool = False) -> Extracted:
    """Copy an array or a group, local or at a URL, with the first `count` layers of its scalable arrays.

    All else is copied as it is. The result does not need the source, and arrays in it are written with as many layers. Only
    the bytes of those layers are fetched.

    Raises
    ------
    ParameterError
        `output` exists, or lies inside `source` or around it, nothing at `source` has layers, or an array has other codecs as
        well.
    CorruptionError, FormatVersionError
        A payload cannot be read.
    """
    parse_layers(count)
    refuse_existing(output, overwrite)
    if not locations.is_url(source) and output.resolve() == Path(source).resolve():
        raise ParameterError(f"output is {output}, which is the source; name another folder")
    refuse_nested([output], [source])
    node = locations.open_node(source)
    members = [node] if isinstance(node, zarr.Array) else [member for _, member in node.members(max_depth=None)]
    arrays = [one for one in members if isinstance(one, zarr.Array) and _layered(one)]
    if not arrays:
        raise ParameterError(f"{source} holds no array of codec sae, which alone has layers")
    with complete_folder(output) as partial:
        target = LocalStore(partial)
        _copy_others(node, {one.path for one in arrays}, target, count)
        results = [_Copy(one, node.path, target, count).run() for one in arrays]
    return Extracted(len(results), *(sum(column) for column in zip(*results, strict=True)))


class _Copy(NamedTuple):
    """An array whose chunks are copied to a store, below the path of `root`."""

    array: zarr.Array[Any]
    root: str
    target: LocalStore
    layers: int

    def run(self) -> tuple[int, int, int, int]:
        """Chunks, pixels, and bytes before and after; those before are what the directories of the payloads say."""
        array = self.array
        *outer, inner = layers.layers(array)
        grid = [-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True)]
        in_shard = payloads.Shards.of(outer[0], inner, str(array.store_path)) if outer else None
        chunks = before = after = 0
        for places in self._units(grid, in_shard):
            cut = []
            for data in payloads.fetch(array, places, self.layers):
                if data is not None:
                    chunks, before = chunks + 1, before + scalable.whole_size(data)
                    data = scalable.first_layers(data, self.layers)
                    after += len(data)
                cut.append(data)
            self._write(places, cut, in_shard)
        axis = layers.coded_by(array)[1].channel_axis
        channels = 1 if axis is None else layers.as_coded(array, array.shape)[axis]
        return chunks, array.size // channels, before, after

    def _units(self, grid: list[int], in_shard: "payloads.Shards | None") -> Iterator[list[tuple[int, ...]]]:
        """Positions of chunks that are copied at once: those of a shard that are in the array, or some chunks."""
        if in_shard is None:
            places = list(np.ndindex(*grid))
            for start in range(0, len(places), _CHUNKS_AT_ONCE):
                yield places[start : start + _CHUNKS_AT_ONCE]
            return
        shards = [-(-n // inside) for n, inside in zip(grid, in_shard.grid, strict=True)]
        for shard in np.ndindex(*shards):
            inside = (
                tuple(s * n + i for s, n, i in zip(shard, in_shard.grid, place, strict=True))
                for place in np.ndindex(*in_shard.grid)
            )
            yield [place for place in inside if all(i < n for i, n in zip(place, grid, strict=True))]

    def _write(self, places: list[tuple[int, ...]], cut: list[bytes | None], in_shard: "payloads.Shards | None") -> None:
        if in_shard is None:
            for place, data in zip(places, cut, strict=True):
                if data is not None:
                    self._store(place, data)
            return
        shard = tuple(i // n for i, n in zip(places[0], in_shard.grid, strict=True))
        found = {
            tuple(i % n for i, n in zip(place, in_shard.grid, strict=True)): data
            for place, data in zip(places, cut, strict=True)
        }
        if any(data is not None for data in cut):
            self._store(shard, in_shard.pack([found.get(place) for place in np.ndindex(*in_shard.grid)]))

    def _store(self, place: tuple[int, ...], data: bytes) -> None:
        path = _below(self.array.path, self.root)
        key = self.array.metadata.encode_chunk_key(place)
        _set(self.target, f"{path}/{key}" if path else key, data)


def _layered(array: zarr.Array[Any]) -> bool:
    try:
        return layers.coded_by(array)[0] is SCALABLE
    except CaeCodecError:  # an array of others
        return False


def _copy_others(node: "zarr.Group | zarr.Array[Any]", without: set[str], target: LocalStore, count: int) -> None:
    """Copy all documents, and the chunks of all other arrays."""

    async def keys() -> list[str]:
        return [key async for key in node.store.list_prefix(f"{node.path}/" if node.path else "")]

    for key in sync(keys()):
        folder, _, last = key.rpartition("/")
        document = last in _DOCUMENTS
        chunk = any(not path or folder == path or folder.startswith(f"{path}/") for path in without)
        if chunk and not (document or last in (".zattrs", ".zgroup")):
            continue
        buffer = sync(node.store.get(key, default_buffer_prototype()))
        if buffer is not None and last:
            data = buffer.to_bytes()
            _set(
                target, _below(key, node.path), json.dumps(_with_layers(json.loads(data), count)).encode() if document else data
            )


def _with_layers(document: Any, count: int) -> Any:
    """A document of metadata in which the codec of layers writes as many as were kept."""
    if isinstance(document, list):
        return [_with_layers(one, count) for one in document]
    if not isinstance(document, dict):
        return document
    changed = {name: _with_layers(value, count) for name, value in document.items()}
    if document.get("id") == SCALABLE.codec_id:
        return {**changed, "layers": min(count, document.get("layers") or count)}
    if document.get("name") == SCALABLE.zarr_name:
        configuration = changed.get("configuration") or {}
        return {**changed, "configuration": {**configuration, "layers": min(count, configuration.get("layers") or count)}}
    return changed


def _below(path: str, root: str) -> str:
    return path[len(root) :].lstrip("/")


def _set(target: LocalStore, key: str, data: bytes) -> None:
    sync(target.set(key, default_buffer_prototype().buffer.from_bytes(data)))
