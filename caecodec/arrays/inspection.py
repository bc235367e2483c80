"""Reports on .cae files, arrays and OME-NGFF groups, from headers alone: no network runs."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import zarr

from .. import weights
from ..codecs.base import Codec
from ..codecs.registry import owner
from ..codecs.reports import Report
from ..errors import CaeCodecError, CorruptionError, FormatVersionError, ParameterError
from ..storage import locations
from . import arrival, layers, payloads
from .arrival import FoundArray


class _Coded(NamedTuple):
    """The subject of a report: payloads of a codec and where they are, a summary of its parameters, and their array."""

    path: str
    codec: Codec[Any, Any]
    summary: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
    channels: int
    chunk_shape: tuple[int, ...]
    chunk_count: int
    payloads: Iterable[tuple[str, bytes]]
    filters: tuple[str, ...] = ()
    compressors: tuple[str, ...] = ()


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


class Inspection(NamedTuple):
    """What `examine` finds.

    reports : of the arrays of caecodec that can be read
    failed : errors of those that cannot
    strays : a sentence on each array that caecodec did not write, although it should have
    others : a sentence on each other array that caecodec did not write
    """

    reports: list[Report]
    failed: list[CaeCodecError]
    strays: list[str]
    others: list[str]


def inspect(path: locations.Location, expect: str | None = None) -> list[Report]:
    """A report on a .cae file, or on each caecodec array at or below a Zarr path, in a zipped store (.zip, .ozx), or at a URL.

    Parameters
    ----------
    path
        The file, path or URL.
    expect
        The name of a codec, "cae" or "overfitted", or "any" for one of them, that must code the levels of the OME-NGFF images
        at `path`, or, if there are none, all arrays.

    Raises
    ------
    ParameterError
        `path` holds nothing that caecodec wrote, or an array is not coded as expected. Without `expect`, a warning names arrays
        that caecodec did not write although the metadata of their group say that it did.
    CorruptionError, FormatVersionError
        A payload cannot be read.
    """
    found = examine(path, expect)
    if found.failed:
        raise found.failed[0]
    if found.strays and (expect is not None or not found.reports):
        raise ParameterError("; ".join(found.strays))
    for stray in found.strays:
        warnings.warn(stray, stacklevel=2)
    return found.reports


def examine(path: locations.Location, expect: str | None = None) -> Inspection:
    """As `inspect`, but with what is wrong beside what is right. Raises ParameterError if nothing at `path` is of caecodec."""
    arrival.check_expected(expect)
    if not locations.is_url(path) and Path(path).is_file() and not locations.is_zipped(path):
        data = Path(path).read_bytes()
        try:
            codec = owner(data)
            report = _report(_of_payload(str(path), codec, data), weights.Carried())
        except (CorruptionError, FormatVersionError) as error:
            raise type(error)(f"{path}: {error}") from error
        strays = [] if expect in (None, arrival.ANY, codec.name) else [f"{path} is coded by {codec.name}, not by {expect}"]
        return Inspection([report], [], strays, [])
    carried = weights.carried(path)
    with weights.found_as_well(carried):
        node, arrays = _opened(path)
        astray = arrival.strays(node, arrays, expect)
        foreign = {one.name: str(one) for one in arrays if one.codec is None}
        found = Inspection([], [], list(astray.values()), [text for name, text in foreign.items() if name not in astray])
        for one in arrays:
            if one.codec is not None:
                try:
                    found.reports.append(_report(_of_array(one), carried))
                except CaeCodecError as error:
                    found.failed.append(type(error)(f"{one.name}: {error}"))
    if not (found.reports or found.failed or found.strays):
        raise ParameterError(f"{path} holds no array coded by caecodec: {'; '.join(found.others) or 'it has no arrays'}")
    return found


def _opened(path: locations.Location) -> tuple[zarr.Group | zarr.Array[Any], list[FoundArray]]:
    """What is at a Zarr path, and the arrays at or below it, without those that hold weights.

    Raises ParameterError if there is nothing, and for a single array of others.
    """
    try:
        node = locations.open_node(path)
        own = {"": node} if isinstance(node, zarr.Array) else dict(node.members(max_depth=None))
        members = own  # as its consolidated metadata have it, if there are any
        if isinstance(node, zarr.Group) and not locations.is_url(path):
            members = dict(zarr.open_group(node.store, path=node.path, mode="r").members(max_depth=None))
    except ParameterError:
        raise
    except locations.UNREADABLE as error:
        raise ParameterError(f"{path} is neither a .cae file nor a Zarr array or group: {error}") from error
    if isinstance(node, zarr.Array):
        layers.coded_by(node)
    arrays = {
        name: one
        for name, one in sorted({**own, **members}.items())
        if isinstance(one, zarr.Array) and weights.GROUP not in one.path.split("/")
    }
    root = str(path).rstrip("/")
    return node, [
        FoundArray.of(str(path) if one is node else f"{root}/{one.path}", one, one is not node, name in members)
        for name, one in arrays.items()
    ]


def _of_payload(path: str, codec: Codec[Any, Any], data: bytes) -> _Coded:
    payload = codec.parse_payload(data)
    header, axis = payload.header, payload.header.channel_axis
    channels = 1 if axis is None else header.shape[axis]
    summary = codec.payload_summary(payload)
    return _Coded(path, codec, summary, header.shape, header.dtype, axis, channels, header.shape, 1, [("", data)])


def _of_array(found: FoundArray) -> _Coded:
    array, codec, parameters = found.array, found.codec, found.parameters
    assert codec is not None
    assert parameters is not None
    nesting = layers.layers(array)
    seen, axis = layers.as_coded(array, array.shape), parameters.channel_axis
    chunk_shape, count = layers.chunk_grid(array)
    return _Coded(
        found.name,
        codec,
        codec.summary(parameters),
        array.shape,
        array.dtype.name,
        None if axis is None else axis % len(seen),
        1 if axis is None else seen[axis],
        chunk_shape,
        count,
        payloads.placed_payloads(array),
        tuple(layers.name(one) for layer in nesting for one in layer.filters),
        tuple(layers.name(one) for layer in reversed(nesting) for one in layer.compressors),
    )


def _report(coded: _Coded, carried: weights.Carried) -> Report:
    sums = _Sums(coded.codec)
    for where, data in coded.payloads:
        try:
            sums.add(data)
        except (CorruptionError, FormatVersionError) as error:
            raise type(error)(f"{where}: {error}" if where else str(error)) from error
    spec = coded.summary.get("weights")
    needed = sums.digests | ({bytes.fromhex(spec.digest)} if spec and spec.digest else set())
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
        shape=coded.shape,
        chunk_shape=coded.chunk_shape,
        dtype=coded.dtype,
        channel_axis=coded.channel_axis,
        channels=coded.channels,
        filters=coded.filters,
        compressors=coded.compressors,
        chunks=sums.chunks,
        chunks_constant=sums.constant,
        chunks_lossless=sums.lossless,
        chunks_missing=coded.chunk_count - sums.chunks,
        **about,
    )
