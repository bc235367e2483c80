"""What is in a .cae file, an array or an OME-NGFF group, read from headers alone: no network runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import BaseZarrError

from . import payloads, weights
from .bitstream import container
from .bitstream.header import CODING_CONSTANT, ENTROPY_MODELS
from .errors import ParameterError
from .parameters import Parameters
from .weights import Spec


@dataclass(frozen=True)
class Report:
    """What `inspect` finds in one file or array; bytes are of the payloads, chunks those that are stored."""

    path: str
    format_versions: tuple[int, ...]
    metric: str
    quality: int
    entropy: tuple[str, ...]
    weights: str
    weights_installed: bool
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    channel_axis: int
    chunks: int
    chunks_constant: int
    chunks_missing: int
    header_bytes: int
    stream_bytes: int
    escape_bytes: int

    @property
    def total_bytes(self) -> int:
        """All bytes of the payloads."""
        return self.header_bytes + self.stream_bytes + self.escape_bytes

    @property
    def bpp(self) -> float:
        """Bits per pixel, a pixel being one position with all its channels."""
        return 8 * self.total_bytes / (math.prod(self.shape) / self.shape[self.channel_axis])

    @property
    def ratio(self) -> float:
        """Bytes of the array by bytes of its payloads."""
        return math.prod(self.shape) / max(1, self.total_bytes)

    def __str__(self) -> str:
        there = (
            "installed" if self.weights_installed else "NOT installed: put their file into the folder CAECODEC_WEIGHTS names"
        )
        stored = f"{self.chunks} stored ({self.chunks_constant} of one colour), {self.chunks_missing} empty"
        parts = f"headers {self.header_bytes}, streams {self.stream_bytes}, escapes {self.escape_bytes}"
        rows = {
            "format version": ", ".join(map(str, self.format_versions)) or "no chunks stored",
            "model": f"cae, quality {self.quality}, {self.metric}",
            "entropy coding": ", ".join(self.entropy) or "none",
            "weights": f"{self.weights} ({there})",
            "shape": f"{self.shape} uint8, channel axis {self.channel_axis}",
            "chunks": f"{self.chunk_shape}: {stored}",
            "bytes": f"{self.total_bytes} ({parts})",
            "bits per pixel": f"{self.bpp:.4f}",
            "ratio": f"{self.ratio:.1f}",
        }
        return "\n".join([self.path, *(f"  {name:15} {value}" for name, value in rows.items())])


def inspect(path: Path) -> list[Report]:
    """A report on a .cae file, or on each caecodec array at or below a Zarr path.

    Raises
    ------
    ParameterError
        There is nothing of caecodec at `path`.
    CorruptionError, FormatVersionError
        A payload that cannot be read.
    """
    if path.is_file():
        data = path.read_bytes()
        header = container.parse(data).header
        known = (source.spec for source in weights.installed() if source.digest == header.digest)
        spec = next(known, Spec(header.digest.hex()))
        parameters = Parameters(header.quality, header.metric, header.channel_axis, spec)
        return [_report(str(path), parameters, header.shape, header.shape, [data])]
    try:
        node = zarr.open(str(path), mode="r")
    except (BaseZarrError, OSError, ValueError) as error:
        raise ParameterError(f"{path} is neither a .cae file nor a Zarr array or group: {error}") from error
    arrays = [node] if isinstance(node, zarr.Array) else [member for _, member in sorted(node.members(max_depth=None))]
    reports = []
    for array in arrays:
        if isinstance(array, zarr.Array) and (array is node or _is_ours(array)):
            name = str(path) if array is node else str(path / array.path)
            parameters, stored = payloads.parameters(array), payloads.payloads(array)
            reports.append(_report(name, parameters, array.shape, array.chunks, stored))
    if not reports:
        raise ParameterError(f"{path} holds no array coded by caecodec")
    return reports


def _is_ours(array: zarr.Array[Any]) -> bool:
    try:
        payloads.parameters(array)
    except ParameterError:
        return False
    return True


def _report(
    path: str, parameters: Parameters, shape: tuple[int, ...], chunk: tuple[int, ...], stored: Iterable[bytes]
) -> Report:
    entropy: set[str] = set()
    versions: set[int] = set()
    chunks = constant = overhead = streams = escapes = 0
    for data in stored:
        payload = container.parse(data)
        versions.add(payload.header.version)
        chunks += 1
        if payload.header.coding == CODING_CONSTANT:
            constant += 1
        else:
            entropy.add(ENTROPY_MODELS[payload.header.coding])
        overhead += payload.overhead + len(payload.colour)
        streams += sum(map(len, payload.streams))
        escapes += len(payload.escapes)
    axis = -1 if parameters.channel_axis is None else parameters.channel_axis
    return Report(
        path=path,
        format_versions=tuple(sorted(versions)),
        metric=parameters.metric,
        quality=parameters.quality,
        entropy=tuple(sorted(entropy)),
        weights=str(parameters.weights),
        weights_installed=any(source.spec.digest == parameters.weights.digest for source in weights.installed()),
        shape=shape,
        chunk_shape=chunk,
        channel_axis=axis % len(shape),
        chunks=chunks,
        chunks_constant=constant,
        chunks_missing=math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)) - chunks,
        header_bytes=overhead,
        stream_bytes=streams,
        escape_bytes=escapes,
    )
