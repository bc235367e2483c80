"""Reports on .cae files, arrays and OME-NGFF groups, from headers alone: no network runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import zarr

from .. import weights
from ..codecs.base import Codec
from ..codecs.registry import owner
from ..codecs.reports import Report
from ..errors import ParameterError
from ..storage import locations
from . import payloads


class _Coded(NamedTuple):
    """The subject of a report: payloads of a codec, a summary of its parameters, and the array whose chunks they are."""

    path: str
    codec: Codec[Any, Any]
    summary: dict[str, Any]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
    payloads: Iterable[bytes]


@dataclass
class _Sums:
    """Totals over the payloads of an array."""

    codec: Codec[Any, Any]
    versions: set[int] = field(default_factory=set)
    digests: set[bytes] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, set[Any]] = field(default_factory=dict)
    chunks: int = 0
    constant: int = 0
    lossless: int = 0

    def add(self, data: bytes) -> None:
        """Add a payload."""
        codec = owner(data)
        found = codec.describe(codec.parse_payload(data))
        self.versions.add(found.version)
        self.chunks += 1
        if codec is not self.codec:
            self.lossless += 1
            self._count({"lossless_bytes": len(data)})
            return
        self.constant += found.constant
        self.digests |= {found.digest} if found.digest else set()
        self._count(found.parts)
        for name, value in found.facts.items():
            self.facts.setdefault(name, set()).add(value)

    def _count(self, parts: Any) -> None:
        for name, size in parts.items():
            self.parts[name] = self.parts.get(name, 0) + size


def inspect(path: locations.Location) -> list[Report]:
    """A report on a .cae file, or on each caecodec array at or below a Zarr path, in a zipped store (.zip), or at a URL.

    Raises
    ------
    ParameterError
        `path` holds nothing that caecodec wrote.
    CorruptionError, FormatVersionError
        A payload cannot be read.
    """
    if not locations.is_url(path) and Path(path).is_file() and Path(path).suffix != locations.ZIP:
        data = Path(path).read_bytes()
        codec = owner(data)
        payload = codec.parse_payload(data)
        header = payload.header
        summary = codec.payload_summary(payload)
        coded = _Coded(str(path), codec, summary, header.shape, header.shape, header.dtype, header.channel_axis, [data])
        return [_report(coded, weights.Carried())]
    carried = weights.carried(path)
    with weights.found_as_well(carried):
        return [_report(coded, carried) for coded in _arrays(path)]


def _arrays(path: locations.Location) -> list[_Coded]:
    """The arrays at or below a Zarr path; ParameterError if none is coded by caecodec."""
    try:
        node = locations.open_node(path)
        arrays = [node] if isinstance(node, zarr.Array) else [member for _, member in sorted(node.members(max_depth=None))]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(f"{path} is neither a .cae file nor a Zarr array or group: {error}") from error
    found = []
    for array in arrays:
        if isinstance(array, zarr.Array) and (array is node or _is_ours(array)):
            name = str(path) if array is node else f"{str(path).rstrip('/')}/{array.path}"
            codec, parameters = payloads.coded_by(array)
            stored, axis = payloads.payloads(array), parameters.channel_axis
            summary = codec.summary(parameters)
            found.append(_Coded(name, codec, summary, array.shape, array.chunks, array.dtype.name, axis, stored))
    if not found:
        raise ParameterError(f"{path} holds no array coded by caecodec")
    return found


def _is_ours(array: zarr.Array[Any]) -> bool:
    try:
        payloads.coded_by(array)
    except ParameterError:
        return False
    return True


def _report(coded: _Coded, carried: weights.Carried) -> Report:
    sums, shape, axis = _Sums(coded.codec), coded.shape, coded.channel_axis
    for data in coded.payloads:
        sums.add(data)
    spec = coded.summary.get("weights")
    needed = sums.digests | ({bytes.fromhex(spec.digest)} if spec and spec.digest else set())
    grid = (-(-n // c) for n, c in zip(shape, coded.chunk_shape, strict=True))
    about: dict[str, Any] = {
        **coded.summary,
        "weights": str(spec or ""),
        **sums.parts,
        **{name: tuple(sorted(values)) for name, values in sums.facts.items()},
    }
    return coded.codec.report(
        path=coded.path,
        family=coded.codec.name,
        format_versions=tuple(sorted(sums.versions)),
        weights_installed=needed <= {source.digest for source in weights.installed()},
        weights_carried=bool(needed) and needed <= {source.digest for source in carried.sources},
        carried=tuple(map(str, carried.sources)),
        refused=tuple(one.reason for one in carried.refused),
        shape=shape,
        chunk_shape=coded.chunk_shape,
        dtype=coded.dtype,
        channel_axis=None if axis is None else axis % len(shape),
        chunks=sums.chunks,
        chunks_constant=sums.constant,
        chunks_lossless=sums.lossless,
        chunks_missing=math.prod(grid) - sums.chunks,
        **about,
    )
