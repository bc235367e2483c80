"""What is in a .cae file, an array or an OME-NGFF group, read from headers alone: no network runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from .. import weights
from ..bitstream import families
from ..bitstream.autoencoder import AutoencoderPayload
from ..codecs.autoencoder.parameters import Parameters
from ..codecs.overfitted.network import digest
from ..codecs.overfitted.parameters import OverfittedParameters
from ..errors import ParameterError
from ..storage import locations
from ..weights import Spec
from . import payloads

_MISSING = "NOT installed: `caecodec weights install FILE`, or GROUP where a group carries them"


@dataclass(frozen=True)
class Report:
    """What `inspect` finds in one file or array; bytes are of the payloads, chunks those that are stored.

    qualities, entropy, weights, weights_installed, weights_carried : of family "cae"; the last: the group carries all it needs
    carried, refused : what weights the group carries, and why others in it are no use
    decoders, network_bytes, shared_network : of family "overfitted"; sizes of networks, what those of payloads take, and the
        digest of a network in the array's metadata
    chunks_lossless, lossless_bytes : of family "overfitted"; chunks that could not be fitted, stored by family "cae"
    escape_bytes : of values outside of tables; for "overfitted" the low bits of wide values, too
    """

    path: str
    family: str
    format_versions: tuple[int, ...]
    metric: str
    qualities: tuple[int, ...]
    asked: str
    entropy: tuple[str, ...]
    weights: str
    weights_installed: bool
    weights_carried: bool
    carried: tuple[str, ...]
    refused: tuple[str, ...]
    decoders: tuple[str, ...]
    shared_network: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
    chunks: int
    chunks_constant: int
    chunks_lossless: int
    chunks_missing: int
    header_bytes: int
    network_bytes: int
    lossless_bytes: int
    stream_bytes: int
    escape_bytes: int

    @property
    def latent_bytes(self) -> int:
        """Bytes of the coded latents."""
        return self.stream_bytes + self.escape_bytes

    @property
    def total_bytes(self) -> int:
        """All bytes of the payloads."""
        return self.header_bytes + self.network_bytes + self.lossless_bytes + self.latent_bytes

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
        kinds = f"{self.chunks_constant} of one colour" + (
            f", {self.chunks_lossless} that could not be fitted, without loss" if self.chunks_lossless else ""
        )
        stored = f"{self.chunks} stored ({kinds}), {self.chunks_missing} empty"
        model, parts = self._autoencoder() if self.family == "cae" else self._overfitted()
        rows = {
            "format version": ", ".join(map(str, self.format_versions)) or "no chunks stored",
            **model,
            "shape": f"{self.shape} {self.dtype}, channel axis {self.channel_axis}",
            "chunks": f"{self.chunk_shape}: {stored}",
            "bytes": f"{self.total_bytes} ({parts})",
            "bits per pixel": f"{self.bpp:.4f}",
            "ratio": f"{self.ratio:.1f}",
        }
        if self.carried or self.refused:
            rows["group carries"] = "; ".join([*self.carried, *(f"REFUSED: {reason}" for reason in self.refused)])
        return "\n".join([self.path, *(f"  {name:15} {value}" for name, value in rows.items())])

    def _autoencoder(self) -> tuple[dict[str, str], str]:
        """What the family has of rows, and the parts of the bytes."""
        there = "installed" if self.weights_installed else "carried by the group" if self.weights_carried else _MISSING
        rows = {
            "model": f"cae, quality {', '.join(map(str, self.qualities)) or 'none'}, {self.metric}",
            "asked for": self.asked,
            "entropy coding": ", ".join(self.entropy) or "none",
            "weights": f"{self.weights} ({there})",
        }
        return rows, f"headers {self.header_bytes}, streams {self.stream_bytes}, escapes {self.escape_bytes}"

    def _overfitted(self) -> tuple[dict[str, str], str]:
        rows = {
            "model": f"overfitted, decoder {', '.join(self.decoders) or 'none'}, {self.metric}",
            "asked for": self.asked or "not said",
            "network": f"shared, {self.shared_network}" if self.shared_network else "one for each chunk",
        }
        lossless = f", without loss {self.lossless_bytes}" if self.chunks_lossless else ""
        return rows, f"headers {self.header_bytes}, networks {self.network_bytes}, latents {self.latent_bytes}{lossless}"


class _Asked(NamedTuple):
    """What metadata, or a payload, say of the codec."""

    family: str
    metric: str
    text: str
    channel_axis: int | None
    weights: Spec | None = None
    shared: str = ""

    @classmethod
    def of(cls, parameters: Parameters | OverfittedParameters) -> "_Asked":
        """By the parameters in metadata."""
        if isinstance(parameters, Parameters):
            names: tuple[str, ...] = ("quality", "psnr", "bpp", "max_error")
            return cls("cae", parameters.metric, _given(parameters, names), parameters.channel_axis, parameters.weights)
        text = f"{_given(parameters, ('quality', 'lmbda'))}, preset {parameters.preset}"
        shared = "" if parameters.section is None else digest(parameters.section).hex()
        return cls("overfitted", parameters.tune, text, parameters.channel_axis, shared=shared)

    @classmethod
    def by(cls, payload: families.Payload) -> "_Asked":
        """By a payload alone."""
        header = payload.header
        if isinstance(payload, AutoencoderPayload):
            known = (source.spec for source in weights.known() if source.digest == payload.header.digest)
            spec = next(known, Spec(header.digest.hex()))
            return cls.of(Parameters(payload.header.quality, payload.header.metric, header.channel_axis, spec))
        return cls("overfitted", "mse", "", header.channel_axis, shared=header.digest.hex())


def _given(parameters: Any, names: tuple[str, ...]) -> str:
    values = {name: getattr(parameters, name) for name in names}
    return ", ".join(f"{name} {value:g}" for name, value in values.items() if value is not None)


@dataclass
class _Sums:
    """What the payloads of an array of this family have together."""

    family: str
    versions: set[int] = field(default_factory=set)
    digests: set[bytes] = field(default_factory=set)
    entropy: set[str] = field(default_factory=set)
    qualities: set[int] = field(default_factory=set)
    decoders: set[str] = field(default_factory=set)
    chunks: int = 0
    constant: int = 0
    lossless: int = 0
    lossless_bytes: int = 0
    overhead: int = 0
    networks: int = 0
    streams: int = 0
    escapes: int = 0

    def add(self, data: bytes) -> None:
        """Count a payload in."""
        payload = families.parse(data)
        self.versions.add(payload.header.version)
        self.chunks += 1
        if self.family == "overfitted" and isinstance(payload, AutoencoderPayload):
            self.lossless += 1
            self.lossless_bytes += len(data)
            return
        constant = payload.header.constant
        self.constant += constant
        self.escapes += len(payload.escapes)
        if isinstance(payload, AutoencoderPayload):
            self.digests.add(payload.header.digest)
            if not constant:
                self.entropy.add(payload.header.entropy or payload.header.body.value)
                self.qualities.add(payload.header.quality)
            self.overhead += payload.overhead + len(payload.colour) + len(payload.planes)
            self.streams += sum(map(len, payload.streams)) + len(payload.bound)
        else:
            if not constant:
                self.decoders.add(payload.header.decoder)
            self.overhead += payload.overhead
            self.networks += len(payload.network)
            self.streams += len(payload.stream)
            self.escapes += len(payload.raw)


def inspect(path: locations.Location) -> list[Report]:
    """A report on a .cae file, or on each caecodec array at or below a Zarr path, in a zipped store (.zip), or at a URL.

    Raises
    ------
    ParameterError
        There is nothing of caecodec at `path`.
    CorruptionError, FormatVersionError
        A payload that cannot be read.
    """
    if not locations.is_url(path) and Path(path).is_file() and Path(path).suffix != locations.ZIP:
        data = Path(path).read_bytes()
        payload = families.parse(data)
        header = payload.header
        return [_report(str(path), _Asked.by(payload), header.shape, header.shape, header.dtype, [data])]
    carried = weights.carried(path)
    with weights.found_as_well(carried):
        return _reports(path, carried)


def _reports(path: locations.Location, carried: weights.Carried) -> list[Report]:
    """Of the arrays at or below a Zarr path."""
    try:
        node = locations.open_node(path)
        arrays = [node] if isinstance(node, zarr.Array) else [member for _, member in sorted(node.members(max_depth=None))]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(f"{path} is neither a .cae file nor a Zarr array or group: {error}") from error
    reports = []
    for array in arrays:
        if isinstance(array, zarr.Array) and (array is node or _is_ours(array)):
            name = str(path) if array is node else f"{str(path).rstrip('/')}/{array.path}"
            asked, stored = _Asked.of(payloads.parameters(array)), payloads.payloads(array)
            reports.append(_report(name, asked, array.shape, array.chunks, array.dtype.name, stored, carried))
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
    asked: _Asked,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    stored: Iterable[bytes],
    carried: weights.Carried = weights.Carried(),  # noqa: B008  # immutable
) -> Report:
    sums, axis = _Sums(asked.family), asked.channel_axis
    for data in stored:
        sums.add(data)
    needed = sums.digests | ({bytes.fromhex(asked.weights.digest)} if asked.weights and asked.weights.digest else set())
    return Report(
        path=path,
        family=asked.family,
        format_versions=tuple(sorted(sums.versions)),
        metric=asked.metric,
        qualities=tuple(sorted(sums.qualities)),
        asked=asked.text,
        entropy=tuple(sorted(sums.entropy)),
        weights=str(asked.weights or ""),
        weights_installed=needed <= {source.digest for source in weights.installed()},
        weights_carried=bool(needed) and needed <= {source.digest for source in carried.sources},
        carried=tuple(map(str, carried.sources)),
        refused=tuple(one.reason for one in carried.refused),
        decoders=tuple(sorted(sums.decoders)),
        shared_network=asked.shared,
        shape=shape,
        chunk_shape=chunk,
        dtype=dtype,
        channel_axis=None if axis is None else axis % len(shape),
        chunks=sums.chunks,
        chunks_constant=sums.constant,
        chunks_lossless=sums.lossless,
        chunks_missing=math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)) - sums.chunks,
        header_bytes=sums.overhead,
        network_bytes=sums.networks,
        lossless_bytes=sums.lossless_bytes,
        stream_bytes=sums.streams,
        escape_bytes=sums.escapes,
    )
