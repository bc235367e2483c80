"""What is in a .cae file, an array or an OME-NGFF group, read from headers alone: no network runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    qualities: tuple[int, ...]
    asked: str
    entropy: tuple[str, ...]
    weights: str
    weights_installed: bool
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
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
        channels = 1 if self.channel_axis is None else self.shape[self.channel_axis]
        return 8 * self.total_bytes * channels / math.prod(self.shape)

    @property
    def ratio(self) -> float:
        """Bytes of the array by bytes of its payloads."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize / max(1, self.total_bytes)

    def __str__(self) -> str:
        there = (
            "installed" if self.weights_installed else "NOT installed: put their file into the folder CAECODEC_WEIGHTS names"
        )
        stored = f"{self.chunks} stored ({self.chunks_constant} of one colour), {self.chunks_missing} empty"
        parts = f"headers {self.header_bytes}, streams {self.stream_bytes}, escapes {self.escape_bytes}"
        rows = {
            "format version": ", ".join(map(str, self.format_versions)) or "no chunks stored",
            "model": f"cae, quality {', '.join(map(str, self.qualities)) or 'none'}, {self.metric}",
            "asked for": self.asked,
            "entropy coding": ", ".join(self.entropy) or "none",
            "weights": f"{self.weights} ({there})",
            "shape": f"{self.shape} {self.dtype}, channel axis {self.channel_axis}",
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
        return [_report(str(path), parameters, header.shape, header.shape, header.dtype, [data])]
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
            reports.append(_report(name, parameters, array.shape, array.chunks, array.dtype.name, stored))
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
    path: str,
    parameters: Parameters,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    stored: Iterable[bytes],
) -> Report:
    entropy: set[str] = set()
    qualities: set[int] = set()
    digests = {bytes.fromhex(parameters.weights.digest)} if parameters.weights.digest else set[bytes]()
    versions: set[int] = set()
    chunks = constant = overhead = streams = escapes = 0
    for data in stored:
        payload = container.parse(data)
        versions.add(payload.header.version)
        digests.add(payload.header.digest)
        chunks += 1
        if payload.header.coding == CODING_CONSTANT:
            constant += 1
        else:
            entropy.add(ENTROPY_MODELS[payload.header.coding])
            qualities.add(payload.header.quality)
        overhead += payload.overhead + len(payload.colour) + len(payload.planes)
        streams += sum(map(len, payload.streams))
        escapes += len(payload.escapes)
    axis = parameters.channel_axis
    targets = {"quality": parameters.quality, "psnr": parameters.psnr, "bpp": parameters.bpp, "max_error": parameters.max_error}
    there = {source.digest for source in weights.installed()}
    return Report(
        path=path,
        format_versions=tuple(sorted(versions)),
        metric=parameters.metric,
        qualities=tuple(sorted(qualities)),
        asked=", ".join(f"{name} {value:g}" for name, value in targets.items() if value is not None),
        entropy=tuple(sorted(entropy)),
        weights=str(parameters.weights),
        weights_installed=digests <= there,
        shape=shape,
        chunk_shape=chunk,
        dtype=dtype,
        channel_axis=None if axis is None else axis % len(shape),
        chunks=chunks,
        chunks_constant=constant,
        chunks_missing=math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)) - chunks,
        header_bytes=overhead,
        stream_bytes=streams,
        escape_bytes=escapes,
    )
