"""(name or path, metric, quality) -> a verified weights file -> the tensors of a plain network and its tables.

Weights are identified by the SHA-256 of their file: arrays record its first eight hex digits, payloads its first four bytes.
file.py reads the files. Only CompressAI checkpoints are unpickled, with weights_only=True.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import platformdirs

from .. import settings
from ..bitstream.autoencoder import MAX_QUALITY
from ..entropy import registry
from ..errors import FormatVersionError, WeightsError
from ..models.factorized.family import Factorized
from ..models.family import Tensors
from ..storage.partial import complete_file
from . import file as weights_file
from .file import FORMAT, NO_TABLES, QualityWeights, serialise

DIGEST_BYTES = 4
DEFAULT = "default"
COMPRESSAI = "compressai"
SUFFIX = ".safetensors"
CHECKPOINTS = Factorized.stored_name  # the family of CompressAI's checkpoints
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".tar", ".ckpt")
_INSTALL = "caecodec weights install"


class Spec(NamedTuple):
    """The value of `weights=`: a name or a path, and the digest (8 hex digits) if it is pinned; as text NAME@DIGEST."""

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
        """The name as a path, if it has the suffix of a weights file or checkpoint."""
        path = Path(self.name)
        return path if path.suffix in (SUFFIX, *CHECKPOINT_SUFFIXES) else None

    def __str__(self) -> str:
        name = self.path.name if self.path else self.name
        return f"{name}@{self.digest}" if self.digest else name


@dataclass(frozen=True)
class Source:
    """A weights file that was found: a .safetensors, or a CompressAI checkpoint that is converted when read.

    `location` is the file. It is None for CompressAI's own pretrained models, and for a file that a group carries, whose bytes
    are `content`.
    """

    name: str
    family: str
    metric: str
    qualities: tuple[int, ...]
    sha256: str
    location: Path | None
    content: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def where(self) -> str:
        """The file, or the weights' name and digest, for messages."""
        return str(self.location or self.spec)

    @property
    def digest(self) -> bytes:
        """The digest that payloads record."""
        return bytes.fromhex(self.sha256)[:DIGEST_BYTES]

    @property
    def spec(self) -> Spec:
        """The name and digest that arrays record."""
        return Spec(self.name, self.sha256[: 2 * DIGEST_BYTES])

    def __str__(self) -> str:
        qualities = ", ".join(map(str, self.qualities))
        return f"{self.spec} ({self.metric}, quality {qualities})"


class Refused(NamedTuple):
    """Weights that cannot be used: the start of the digest that they are stored under, and the reason."""

    digest: str
    reason: str


class Carried(NamedTuple):
    """The weights that groups carry: those whose digest is verified, and those that are refused."""

    sources: tuple[Source, ...] = ()
    refused: tuple[Refused, ...] = ()


_carried: tuple[Carried, ...] = ()
_lock = threading.Lock()


@contextlib.contextmanager
def found_as_well(carried: Carried) -> Iterator[None]:
    """Let `find` and `resolve` search these weights too, last, during a with block, in all threads."""
    global _carried
    with _lock:
        _carried = (*_carried, carried)
    try:
        yield
    finally:
        with _lock:
            place = next(i for i, one in enumerate(_carried) if one is carried)
            _carried = _carried[:place] + _carried[place + 1 :]


def installed() -> tuple[Source, ...]:
    """The weights files in the folder of CAECODEC_WEIGHTS, those shipped with the package, and those that `install` wrote.

    Encoding uses the first of several with one name, metric and quality. Of those that `install` wrote, the latest come first.
    """
    return tuple(source for sources in by_place().values() for source in sources)


def by_place() -> dict[str, tuple[Source, ...]]:
    """`installed` by place: "CAECODEC_WEIGHTS", "shipped", "installed"."""
    extra = settings.current().weights
    return {
        "CAECODEC_WEIGHTS": () if extra is None else _folder_sources(extra),
        "shipped": _folder_sources(shipped_folder()),
        "installed": _user_sources()[0],
    }


def damaged() -> tuple[Refused, ...]:
    """The files in the folder that `install` writes to that are not weights files, by the start of their names."""
    return _user_sources()[1]


def user_folder() -> Path:
    """The folder that `install` writes to: CAECODEC_USER_WEIGHTS, or one in the user's data, which emptying caches keeps."""
    return settings.current().user_weights or platformdirs.user_data_path("caecodec", appauthor=False) / "weights"


def shipped_folder() -> Path:
    """The folder of the shipped weights: inside the wheel, or at the top of a source checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_weights"
    return inside if inside.is_dir() else package.parent / "weights"


def resolve(spec: Spec, metric: str, quality: int) -> Source:
    """The weights to encode with.

    Raises
    ------
    WeightsError
        No weights have this name, metric and quality (the message lists those installed), or a pinned digest differs.
    """
    if spec.name == COMPRESSAI or (spec.path and spec.path.exists()):
        found = [_open(spec, metric, quality)]
    elif spec.path and not spec.digest:
        raise WeightsError(f"weights file {spec.path} does not exist; {_choices()}")
    else:
        wanted = _default_name() if spec.name == DEFAULT else spec
        found = [source for source in known() if spec.digest == source.spec.digest] or _named(wanted.name)
    if not found and spec.digest:
        raise WeightsError(f"weights {str(spec)!r} were not found in {_looked()}; {_way_out()}")
    fitting = [source for source in found if source.metric == metric and quality in source.qualities]
    if found and not fitting:
        have = "; ".join(f"metric {one.metric!r}, quality {', '.join(map(str, one.qualities))}" for one in found)
        raise WeightsError(
            f"weights {str(spec)!r} are of {have}, but quality is {quality}, metric {metric!r}; pass one that "
            f"they have; {_choices()}"
        )
    if not fitting:
        raise WeightsError(f"there are no weights {str(spec)!r} for quality {quality}, metric {metric!r}; {_choices()}")
    pinned = [source for source in fitting if spec.digest in (None, source.spec.digest)]
    if not pinned:
        raise WeightsError(
            f"weights {str(spec)!r} were not found, only {', '.join(map(str, fitting))}; {_way_out()}, or pass "
            f"weights={spec.name!r} to use what was found"
        )
    return pinned[0]


def resolve_all(spec: Spec, metric: str) -> dict[int, Source]:
    """The weights of each available quality; WeightsError if there are none of this name and metric."""
    if spec.name == COMPRESSAI or (spec.path and spec.path.suffix in CHECKPOINT_SUFFIXES):
        raise WeightsError(
            f"weights {str(spec)!r} do not say their qualities; pass quality, or a .safetensors file (caecodec export)"
        )
    found: dict[int, Source] = {}
    for quality in range(1, MAX_QUALITY + 1):
        with contextlib.suppress(WeightsError):
            found[quality] = resolve(spec, metric, quality)
    return found or {MAX_QUALITY: resolve(spec, metric, MAX_QUALITY)}


def find(digest: bytes, spec: Spec | None, metric: str, quality: int) -> Source:
    """The weights that a payload was written with, by its digest; `spec` says where else to look.

    Raises
    ------
    WeightsError
        They were not found, or are damaged; the message says which places were searched and what to do.
    """
    looked = ""
    carried = _carried
    for source in installed():
        if source.digest == digest:
            return source
    if spec and (spec.name == COMPRESSAI or (spec.path and spec.path.exists())):
        source = _open(spec, metric, quality)
        if source.digest == digest:
            return source
        looked = f", and {spec.name} has digest {source.spec.digest}"
    for source in (source for one in carried for source in one.sources):
        if source.digest == digest:
            return source
    wanted = f"payload was written with weights of digest {digest.hex()} (metric {metric!r}, quality {quality})"
    for refused in (*damaged(), *(refused for one in carried for refused in one.refused)):
        if refused.digest == digest.hex():
            raise WeightsError(f"{wanted}, which were found but are refused: {refused.reason}")
    raise WeightsError(f"{wanted}, which were not found in {_looked()}{looked}; {_way_out()}, or pass weights=PATH")


def by_digest(text: str) -> Source:
    """The installed weights of a SHA-256, of eight or more of its first digits, or of NAME@DIGEST; WeightsError for none."""
    digest = text.rsplit("@", 1)[-1].lower()
    if not re.fullmatch("[0-9a-f]{8,64}", digest):
        raise WeightsError(
            f"{text!r} is not a digest (eight to 64 hexadecimal digits of a SHA-256); see `caecodec weights list`"
        )
    for source in installed():
        if source.sha256.startswith(digest):
            return source
    for refused in damaged():
        if refused.digest == digest[: 2 * DIGEST_BYTES]:
            raise WeightsError(f"weights of digest {digest} are refused: {refused.reason}")
    raise WeightsError(f"weights of digest {digest} were not found in {_looked()}; {_way_out()}")


def load(source: Source, quality: int) -> QualityWeights:
    """The network and tables of one quality, folded.

    Raises
    ------
    WeightsError
        The file has changed or is damaged, or lacks this quality.
    FormatVersionError
        The weights file has a newer format.
    """
    return weights_file.quality_weights(file_bytes(source), quality, source.where)


def file_bytes(source: Source) -> bytes:
    """The bytes of the safetensors file of these weights; a checkpoint is converted to one.

    Raises WeightsError if the file has changed or cannot be read.
    """
    data = _read(source)
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise WeightsError(f"weights file {source.where} does not have SHA-256 {source.sha256}: restore or reinstall it")
    return data


def open_file(path: Path, metric: str, quality: int) -> Source:
    """The weights file or checkpoint at a path. `metric` and `quality` say what a checkpoint was trained for."""
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; name a .safetensors file or a CompressAI checkpoint")
    if path.suffix != SUFFIX:
        return _open(Spec(str(path)), metric, quality)
    stat = path.stat()
    return _file_source(path, stat.st_mtime_ns, stat.st_size)


def read_tensors(source: Source) -> Tensors:
    """All tensors of a weights file or checkpoint, of every quality, as they are stored."""
    return weights_file.tensors(_read(source), source.where)


def require_tables(source: Source, quality: int, entropy: str) -> None:
    """Raise WeightsError unless these weights have tables of the entropy model of this name for this quality."""
    if entropy not in _models(source, quality):
        remedy = registry.by_name(entropy).remedy
        raise WeightsError(NO_TABLES.format(f"weights {source.spec}, quality {quality},", entropy, remedy))


@lru_cache
def _models(source: Source, quality: int) -> frozenset[str]:
    """The names of the entropy models that weights have tables for."""
    return frozenset(load(source, quality).tables)


def save(path: Path, tensors: Tensors, *, name: str, family: str, metric: str, qualities: tuple[int, ...]) -> Source:
    """Write a weights file of these tensors, and return its source."""
    data = serialise(tensors, name=name, family=family, metric=metric, qualities=qualities)
    with complete_file(path) as partial:
        partial.write_bytes(data)
    return Source(name, family, metric, qualities, hashlib.sha256(data).hexdigest(), path)


def _read(source: Source) -> bytes:
    """The bytes of a weights file; a checkpoint is converted."""
    if source.content is not None:
        return source.content
    if source.location and source.location.suffix == SUFFIX:
        return _bytes(source.location)
    return _convert(source.location, source.metric, source.qualities[0])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights file {path} cannot be read: {error}") from error


def _convert(checkpoint: Path | None, metric: str, quality: int) -> bytes:
    from ..models.factorized import compressai  # imports torch, which only checkpoints need here

    state = compressai.pretrained(quality, metric) if checkpoint is None else compressai.read(checkpoint)
    name = COMPRESSAI if checkpoint is None else checkpoint.name
    tensors = compressai.from_state_dict(state, quality)
    return serialise(tensors, name=name, family=CHECKPOINTS, metric=metric, qualities=(quality,))


def _open(spec: Spec, metric: str, quality: int) -> Source:
    """The weights at a path, or CompressAI's own for this metric and quality."""
    if spec.name == COMPRESSAI or spec.path is None:
        sha256 = _conversion_digest(None, 0, metric, quality)
        return Source(COMPRESSAI, CHECKPOINTS, metric, (quality,), sha256, None)
    path = spec.path
    stat = path.stat()
    if path.suffix == SUFFIX:
        return replace(_file_source(path, stat.st_mtime_ns, stat.st_size), name=str(path))
    sha256 = _conversion_digest(path, stat.st_mtime_ns, metric, quality)
    return Source(str(path), CHECKPOINTS, metric, (quality,), sha256, path)


@lru_cache  # the modification time makes a changed file be read again, here and below
def _conversion_digest(path: Path | None, modified: int, metric: str, quality: int) -> str:
    return hashlib.sha256(_convert(path, metric, quality)).hexdigest()


@lru_cache
def _file_source(path: Path, modified: int, size: int) -> Source:
    return replace(of_bytes(_bytes(path), str(path)), location=path, content=None)


def of_bytes(data: bytes, where: str) -> Source:
    """The weights in the bytes of a file. Raises the errors of `file.describe`."""
    about = weights_file.describe(data, where)
    sha256 = hashlib.sha256(data).hexdigest()
    return Source(about["name"], about["family"], about["metric"], tuple(about["qualities"]), sha256, None, data)


def _folder_sources(folder: Path) -> tuple[Source, ...]:
    if not folder.is_dir():
        raise WeightsError(f"weights folder {folder} does not exist; correct CAECODEC_WEIGHTS or reinstall caecodec")
    manifest = folder / "manifest.json"
    if manifest.exists():
        return _manifest_sources(folder, manifest.stat().st_mtime_ns)
    stats = ((path, path.stat()) for path in sorted(folder.glob(f"*{SUFFIX}")))
    return tuple(_file_source(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


def _user_sources() -> tuple[tuple[Source, ...], tuple[Refused, ...]]:
    """The weights that `install` wrote, the latest first, and the other files in its folder."""
    dated, refused = [], []
    for path in sorted(user_folder().glob(f"*{SUFFIX}")):
        try:
            stat = path.stat()
            dated.append((stat.st_mtime_ns, _user_source(path, stat.st_mtime_ns, stat.st_size)))
        except (WeightsError, FormatVersionError, OSError) as error:
            refused.append(Refused(path.stem[: 2 * DIGEST_BYTES], f"{error}; remove {path}, or install it again"))
    return tuple(source for _, source in sorted(dated, key=lambda one: -one[0])), tuple(refused)


@lru_cache
def _user_source(path: Path, modified: int, size: int) -> Source:
    """The weights in a file named by its SHA-256. Only its header is read; loading the weights verifies the SHA-256."""
    if not re.fullmatch("[0-9a-f]{64}", path.stem):
        raise WeightsError(f"{path} is not named by its SHA-256, as `{_INSTALL} FILE` names files")
    with path.open("rb") as file:
        start = file.read(8)
        header = start + file.read(min(int.from_bytes(start, "little"), size))
    about = weights_file.describe(header, str(path))
    return Source(about["name"], about["family"], about["metric"], tuple(about["qualities"]), path.stem, path)


@lru_cache
def _manifest_sources(folder: Path, modified: int) -> tuple[Source, ...]:
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            raise FormatVersionError(f"weights manifest in {folder} has format {manifest['format']}; upgrade caecodec")
        return tuple(
            Source(e["name"], e["family"], e["metric"], tuple(e["qualities"]), _sha256(e["sha256"]), folder / e["file"])
            for e in manifest["files"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"weights manifest {folder / 'manifest.json'} is damaged ({error!r}); restore it, or remove it so that "
            "the files in the folder are read instead"
        ) from error


def _sha256(text: str) -> str:
    """The SHA-256 in a manifest; ValueError if it is not one."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is not a SHA-256")
    return text


def _default_name() -> Spec:
    manifest = json.loads((shipped_folder() / "manifest.json").read_text())
    return Spec(manifest["default"])


def known() -> tuple[Source, ...]:
    """The installed weights, and those that groups in use carry."""
    return (*installed(), *(source for one in _carried for source in one.sources))


def _named(name: str) -> list[Source]:
    """The weights of a name. Those that come with data, or were installed, never replace shipped ones of that name."""
    places = by_place()
    shipped = name in {source.name for source in places["shipped"]}
    trusted = (*places["CAECODEC_WEIGHTS"], *places["shipped"])
    return [source for source in (trusted if shipped else known()) if source.name == name]


def _looked() -> str:
    """The places that were searched for weights, for error messages."""
    places = f"{shipped_folder()} (shipped weights), {user_folder()} (installed weights)"
    return f"{places} or CAECODEC_WEIGHTS ({settings.current().weights or 'not set'})"


def _way_out() -> str:
    return (
        f"if the group that needs them carries them, run `{_INSTALL} GROUP`, where GROUP is its path or URL; otherwise get "
        f"their file and run `{_INSTALL} FILE`, or put it into a folder named by CAECODEC_WEIGHTS"
    )


def _choices() -> str:
    """The installed weights and how to get more, for error messages."""
    there = ", ".join(map(str, installed())) or "none"
    return (
        f"installed: {there}; choose one of these, give the path of a .safetensors file or a CompressAI checkpoint, "
        f"weights='compressai' (extra compressai), or install others (`{_INSTALL} GROUP`, or FILE)"
    )
