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
from .bitstream.header import CODING_CONSTANT, Header
from .errors import ParameterError


@dataclass(frozen=True)
class Report:
    """What `inspect` finds in one file or array; bytes are of the payloads, chunks those that are stored."""

    path: str
    format_version: int
    family: str
    metric: str
    quality: int
    weights: str
    weights_installed: bool
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    channel_axis: int
    dtype: str
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
            "format version": self.format_version,
            "model": f"{self.family}, quality {self.quality}, {self.metric}",
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
        return [_report(str(path), header.shape, 1, [data], None)]
    try:
        node = zarr.open(str(path), mode="r")
    except (BaseZarrError, OSError, ValueError) as error:
        raise ParameterError(f"{path} is neither a .cae file nor a Zarr array or group: {error}") from error
    arrays = [node] if isinstance(node, zarr.Array) else [member for _, member in sorted(node.members(max_depth=None))]
    reports = []
    for array in arrays:
        if isinstance(array, zarr.Array) and (isinstance(node, zarr.Array) or _is_ours(array)):
            stored = str(payloads.parameters(array).weights)
            count = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
            name = str(path / array.path) if array is not node else str(path)
            reports.append(_report(name, array.shape, count, payloads.payloads(array), stored))
    if not reports:
        raise ParameterError(f"{path} holds no array coded by caecodec")
    return reports


def _is_ours(array: zarr.Array[Any]) -> bool:
    try:
        payloads.parameters(array)
    except ParameterError:
        return False
    return True


def _report(path: str, shape: tuple[int, ...], count: int, stored: Iterable[bytes], spec: str | None) -> Report:
    header: Header | None = None
    chunks = constant = overhead = streams = escapes = 0
    for data in stored:
        payload = container.parse(data)
        header = payload.header
        chunks += 1
        constant += header.coding == CODING_CONSTANT
        overhead += payload.overhead + len(payload.colour)
        streams += sum(map(len, payload.streams))
        escapes += len(payload.escapes)
    if header is None:
        raise ParameterError(f"{path} has no stored chunks, so there is nothing to inspect")
    there = any(source.digest == header.digest for source in weights.installed())
    return Report(
        path, header.version, header.family, header.metric, header.quality, spec or header.digest.hex(), there, shape,
        header.shape, header.channel_axis, header.dtype, chunks, constant, count - chunks, overhead, streams, escapes,
    )  # fmt: skip
