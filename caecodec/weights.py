"""(name or path, metric, quality) -> a verified weights file -> the tensors of a plain network and its tables.

A weights file is safetensors: one network, per-quality scales and shifts that fold into its convolutions, and integer
tables (FORMAT.md, 8: Weights files). It is identified by the SHA-256 of its bytes: arrays record the first eight hex
digits of it, payloads the first four bytes. Nothing is unpickled but CompressAI checkpoints, with weights_only=True.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from . import settings
from .bitstream.header import CODING_CONTEXT, CODING_STATIC, FAMILIES, MAX_QUALITY, METRICS
from .entropy.context_tables import ContextTables
from .entropy.tables import Tables
from .errors import CorruptionError, FormatVersionError, WeightsError

FORMAT = 1
DIGEST_BYTES = 4
METADATA_KEY = "caecodec"
DEFAULT = "default"
COMPRESSAI = "compressai"
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".tar", ".ckpt")
CONVOLUTIONS = ("g_a.0", "g_a.2", "g_a.4", "g_a.6", "g_s.0", "g_s.2", "g_s.4", "g_s.6")
NORMALISATIONS = ("g_a.1", "g_a.3", "g_a.5", "g_s.1", "g_s.3", "g_s.5")
CONTEXT_PARTS = {
    "order": np.int16, "difference": np.uint8, "radius": np.uint8, "weight": np.int8,
    "threshold": np.int32, "table": np.uint8, "mass": np.int32,
}  # fmt: skip
Tensors = dict[str, npt.NDArray[Any]]


_NO_CONTEXT = "{} no context tables; run caecodec fit-entropy to add them to a copy, or use entropy='static'"


class Spec(NamedTuple):
    """What `weights=` said: a name or a path, and the digest (8 hex digits) where it is pinned; as text NAME@DIGEST."""

    name: str
    digest: str | None = None

    @classmethod
    def parse(cls, weights: "str | Path | Spec") -> "Spec":
        """The spec in a string or a path; WeightsError for anything else."""
        if isinstance(weights, Spec):
            return weights
        if not isinstance(weights, str | Path) or not str(weights):
            raise WeightsError(f"weights is {weights!r} but must be a name, a path, or NAME@DIGEST; {_choices()}")
        match = re.fullmatch(r"(.+)@([0-9a-f]{8})", str(weights))
        return cls(match[1], match[2]) if match else cls(str(weights))

    @property
    def path(self) -> Path | None:
        """The name as a path, where it looks like that of a weights file or checkpoint."""
        path = Path(self.name)
        return path if path.suffix in (".safetensors", *CHECKPOINT_SUFFIXES) else None

    def __str__(self) -> str:
        name = self.path.name if self.path else self.name
        return f"{name}@{self.digest}" if self.digest else name


@dataclass(frozen=True)
class Source:
    """A weights file that was found: a .safetensors, or a CompressAI checkpoint that is converted when read.

    `location` is the file, or None for CompressAI's own pretrained models.
    """

    name: str
    family: str
    metric: str
    qualities: tuple[int, ...]
    sha256: str
    location: Path | None

    @property
    def digest(self) -> bytes:
        """What a payload records."""
        return bytes.fromhex(self.sha256)[:DIGEST_BYTES]

    @property
    def spec(self) -> Spec:
        """What an array records."""
        return Spec(self.name, self.sha256[: 2 * DIGEST_BYTES])

    def __str__(self) -> str:
        qualities = ", ".join(map(str, self.qualities))
        return f"{self.spec} ({self.metric}, quality {qualities})"


class Network(NamedTuple):
    """One quality, ready to build: a plain network's float32 tensors by state-dict name, and its entropy models' tables."""

    family: str
    tensors: dict[str, npt.NDArray[np.float32]]
    tables: Tables
    context: ContextTables | None = None

    def coding(self, entropy: str | None) -> int:
        """The wire id of the entropy model to write with, None being the best there is; WeightsError when it has no tables."""
        if entropy == "context" and self.context is None:
            raise WeightsError(_NO_CONTEXT.format("these weights have"))
        return CODING_STATIC if entropy == "static" or self.context is None else CODING_CONTEXT

    def entropy_tables(self, coding: int) -> Tables | ContextTables:
        """The tables of the entropy model with this wire id; CorruptionError when a payload names one that is not here."""
        if coding != CODING_CONTEXT:
            return self.tables
        if self.context is None:
            raise CorruptionError("payload is context-coded but its weights have no context tables: it is damaged")
        return self.context

    @property
    def hidden(self) -> int:
        """Channels between the layers, N."""
        return len(self.tensors["g_a.0.bias"])

    @property
    def latent(self) -> int:
        """Channels of the latents, M."""
        return len(self.tensors["g_a.6.bias"])


def installed() -> tuple[Source, ...]:
    """The weights files in the folder of CAECODEC_WEIGHTS, then those shipped with the package."""
    extra = settings.current().weights
    folders = [shipped_folder()] if extra is None else [extra, shipped_folder()]
    return tuple(source for folder in folders for source in _folder_sources(folder))


def shipped_folder() -> Path:
    """Where the package keeps its weights: inside the wheel, or at the top of a source checkout."""
    inside = Path(__file__).parent / "_weights"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "weights"


def resolve(spec: Spec, metric: str, quality: int) -> Source:
    """The weights to encode with.

    Raises
    ------
    WeightsError
        None has this name, metric and quality (the message lists what there is), or a pinned digest differs.
    """
    if spec.name == COMPRESSAI or (spec.path and spec.path.exists()):
        found = [_open(spec, metric, quality)]
    elif spec.path and not spec.digest:
        raise WeightsError(f"weights file {spec.path} does not exist; {_choices()}")
    else:
        wanted = _default_name() if spec.name == DEFAULT else spec
        found = [source for source in installed() if source.name == wanted.name or spec.digest == source.spec.digest]
    fitting = [source for source in found if source.metric == metric and quality in source.qualities]
    if not fitting:
        raise WeightsError(f"weights {str(spec)!r} have none for quality {quality}, metric {metric!r}; {_choices()}")
    pinned = [source for source in fitting if spec.digest in (None, source.spec.digest)]
    if not pinned:
        raise WeightsError(
            f"weights {str(spec)!r} are not here, only {', '.join(map(str, fitting))}; put the file of that digest into "
            f"a folder named by CAECODEC_WEIGHTS, or pass weights={spec.name!r} to use what is here"
        )
    return pinned[0]


def find(digest: bytes, spec: Spec | None, metric: str, quality: int) -> Source:
    """The weights that a payload was written with, by its digest; `spec` says where else to look.

    Raises
    ------
    WeightsError
        They are not here; the message says what is and what to do.
    """
    looked = ""
    for source in installed():
        if source.digest == digest:
            return source
    if spec and (spec.name == COMPRESSAI or (spec.path and spec.path.exists())):
        source = _open(spec, metric, quality)
        if source.digest == digest:
            return source
        looked = f" ({spec.name} has digest {source.spec.digest})"
    raise WeightsError(
        f"payload was written with weights of digest {digest.hex()} (metric {metric!r}, quality {quality}), which are "
        f"not here{looked}; put their file into a folder named by CAECODEC_WEIGHTS, or pass weights=PATH; {_choices()}"
    )


def load(source: Source, quality: int) -> Network:
    """The network and tables of one quality, folded.

    Raises
    ------
    WeightsError
        The file has changed or is damaged, or lacks this quality.
    FormatVersionError
        A weights file of a newer format.
    """
    data = _read(source)
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise WeightsError(f"weights file {source.location} does not have SHA-256 {source.sha256}: restore or reinstall it")
    _parse_metadata(data, str(source.location))
    try:
        tensors = safetensors.numpy.load(data)
        tables = _tables(tensors, quality)
        return Network(source.family, fold(tensors, quality), tables, _context(tensors, quality, len(tables.length)))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"weights file {source.location} lacks or garbles quality {quality}: {error!r}") from error


def open_file(path: Path, metric: str, quality: int) -> Source:
    """The weights file at a path; or the checkpoint there, for the metric and quality that it was trained for."""
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; name a .safetensors file or a CompressAI checkpoint")
    if path.suffix != ".safetensors":
        return _open(Spec(str(path)), metric, quality)
    stat = path.stat()
    return _file_source(path, stat.st_mtime_ns, stat.st_size)


def read_tensors(source: Source) -> Tensors:
    """All tensors of a weights file or checkpoint, of every quality, as they are stored."""
    tensors: Tensors = safetensors.numpy.load(_read(source))
    return tensors


def require_context(source: Source, quality: int) -> None:
    """WeightsError unless these weights have context tables for this quality."""
    if not _has_context(source, quality):
        raise WeightsError(_NO_CONTEXT.format(f"weights {source.spec} have, for quality {quality},"))


@lru_cache
def _has_context(source: Source, quality: int) -> bool:
    return load(source, quality).context is not None


def save(path: Path, tensors: Tensors, *, name: str, family: str, metric: str, qualities: tuple[int, ...]) -> Source:
    """Write a weights file of these tensors, and say what it is."""
    data = serialise(tensors, name=name, family=family, metric=metric, qualities=qualities)
    path.write_bytes(data)
    return Source(name, family, metric, qualities, hashlib.sha256(data).hexdigest(), path)


def serialise(tensors: Tensors, *, name: str, family: str, metric: str, qualities: tuple[int, ...]) -> bytes:
    """The bytes of a weights file; the same tensors always give the same bytes."""
    about = {"format": FORMAT, "name": name, "family": family, "metric": metric, "qualities": list(qualities)}
    contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return safetensors.numpy.save(contiguous, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})


def fold(tensors: Tensors, quality: int) -> dict[str, npt.NDArray[np.float32]]:
    """The plain network: each convolution times its scale plus its shift, and the latents' scale into g_s.0."""
    prefix = f"q{quality}."
    plain = {}
    for layer in CONVOLUTIONS:
        weight, bias = (tensors[f"{layer}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        scale = tensors.get(f"{prefix}{layer}.scale")
        if scale is not None:
            across = scale[:, None, None, None] if layer.startswith("g_a") else scale[:, None, None]
            weight, bias = weight * across, bias * scale + tensors[f"{prefix}{layer}.shift"]
        if layer == "g_s.0" and f"{prefix}latent_scale" in tensors:
            weight = weight * tensors[f"{prefix}latent_scale"][:, None, None, None]
        plain[f"{layer}.weight"], plain[f"{layer}.bias"] = weight, bias
    for layer in NORMALISATIONS:
        plain[f"{layer}.beta"] = tensors[f"{layer}.beta"].astype(np.float32)
        plain[f"{layer}.gamma"] = tensors[f"{layer}.gamma"].astype(np.float32)[:, :, None, None]
    latent = len(plain["g_a.6.bias"])
    plain["medians"] = tensors.get(f"{prefix}medians", np.zeros(latent, np.float32))
    return plain


def _tables(tensors: Tensors, quality: int) -> Tables:
    parts = (tensors[f"q{quality}.static.{part}"].astype(np.int64) for part in ("mass", "length", "offset"))
    return Tables(*parts)


def _context(tensors: Tensors, quality: int, channels: int) -> ContextTables | None:
    prefix = f"q{quality}.context."
    if f"{prefix}order" not in tensors:
        return None
    tables = ContextTables(*(tensors[prefix + part].astype(np.int64) for part in CONTEXT_PARTS))
    if len(tables.order) != channels:
        raise WeightsError(f"context tables have {len(tables.order)} channels but static ones {channels}: the file is damaged")
    return tables


def context_tensors(tables: ContextTables, quality: int) -> Tensors:
    """The tensors of a weights file that hold these tables."""
    return {f"q{quality}.context.{part}": getattr(tables, part).astype(dtype) for part, dtype in CONTEXT_PARTS.items()}


def _read(source: Source) -> bytes:
    """The bytes of a weights file, converted where it is a checkpoint."""
    if source.location and source.location.suffix == ".safetensors":
        try:
            return source.location.read_bytes()
        except OSError as error:
            raise WeightsError(f"weights file {source.location} cannot be read: {error}") from error
    return _convert(source.location, source.metric, source.qualities[0])


def _convert(checkpoint: Path | None, metric: str, quality: int) -> bytes:
    from .models import compressai  # imports torch, which only checkpoints need here

    state = compressai.pretrained(quality, metric) if checkpoint is None else compressai.read(checkpoint)
    name = COMPRESSAI if checkpoint is None else checkpoint.name
    tensors = compressai.from_state_dict(state, quality)
    return serialise(tensors, name=name, family="cae", metric=metric, qualities=(quality,))


def _open(spec: Spec, metric: str, quality: int) -> Source:
    """The weights at a path, or CompressAI's own for this metric and quality."""
    if spec.name == COMPRESSAI or spec.path is None:
        sha256 = _conversion_digest(None, 0, metric, quality)
        return Source(COMPRESSAI, "cae", metric, (quality,), sha256, None)
    path = spec.path
    stat = path.stat()
    if path.suffix == ".safetensors":
        return replace(_file_source(path, stat.st_mtime_ns, stat.st_size), name=str(path))
    sha256 = _conversion_digest(path, stat.st_mtime_ns, metric, quality)
    return Source(str(path), "cae", metric, (quality,), sha256, path)


@lru_cache
def _conversion_digest(path: Path | None, modified: int, metric: str, quality: int) -> str:
    return hashlib.sha256(_convert(path, metric, quality)).hexdigest()


@lru_cache
def _file_source(path: Path, modified: int, size: int) -> Source:
    data = path.read_bytes()
    about = _parse_metadata(data, str(path))
    digest = hashlib.sha256(data).hexdigest()
    return Source(about["name"], about["family"], about["metric"], tuple(about["qualities"]), digest, path)


def _folder_sources(folder: Path) -> tuple[Source, ...]:
    if not folder.is_dir():
        raise WeightsError(f"weights folder {folder} does not exist; correct CAECODEC_WEIGHTS or reinstall caecodec")
    manifest = folder / "manifest.json"
    if manifest.exists():
        return _manifest_sources(folder, manifest.stat().st_mtime_ns)
    stats = ((path, path.stat()) for path in sorted(folder.glob("*.safetensors")))
    return tuple(_file_source(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


@lru_cache
def _manifest_sources(folder: Path, modified: int) -> tuple[Source, ...]:
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["format"] != FORMAT:
        raise FormatVersionError(f"weights manifest in {folder} has format {manifest['format']}; upgrade caecodec")
    return tuple(
        Source(e["name"], e["family"], e["metric"], tuple(e["qualities"]), e["sha256"], folder / e["file"])
        for e in manifest["files"]
    )


def _default_name() -> Spec:
    manifest = json.loads((shipped_folder() / "manifest.json").read_text())
    return Spec(manifest["default"])


def _parse_metadata(data: bytes, where: str) -> dict[str, Any]:
    """What a weights file says of itself; WeightsError unless it is one, FormatVersionError if it is newer."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
        version = int(about["format"])
        known = (
            about["family"] in FAMILIES.values()
            and about["metric"] in METRICS.values()
            and bool(about["qualities"])
            and all(isinstance(q, int) and 1 <= q <= MAX_QUALITY for q in about["qualities"])
        )
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{where} is not a caecodec weights file ({error!r}); pass one, or a CompressAI checkpoint"
        ) from error
    if version != FORMAT:
        raise FormatVersionError(
            f"weights file {where} has format {version} but this caecodec reads {FORMAT}; upgrade caecodec"
        )
    if not known:
        raise WeightsError(f"weights file {where} describes no known network ({about}): upgrade caecodec or replace the file")
    return about


def _choices() -> str:
    """What is installed and how to get more, for error messages."""
    there = ", ".join(map(str, installed())) or "none"
    return (
        f"installed: {there}; choose one of these, give the path of a .safetensors file or a CompressAI checkpoint, "
        "or weights='compressai' (extra compressai)"
    )
