"""A weights file: the bytes of a safetensors file <-> tensors -> one quality's network and tables (FORMAT.md, 8).

It holds one network, per-quality scales and shifts that fold into its convolutions, and the entropy models' integer tables.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from ..bitstream.autoencoder import FAMILIES, MAX_QUALITY, METRICS
from ..entropy.context_tables import ContextTables
from ..entropy.tables import Tables
from ..errors import CorruptionError, FormatVersionError, WeightsError

FORMAT = 1
METADATA_KEY = "caecodec"
CONVOLUTIONS = ("g_a.0", "g_a.2", "g_a.4", "g_a.6", "g_s.0", "g_s.2", "g_s.4", "g_s.6")
NORMALISATIONS = ("g_a.1", "g_a.3", "g_a.5", "g_s.1", "g_s.3", "g_s.5")
STATIC_PARTS = ("mass", "length", "offset")
CONTEXT_PARTS = {
    "order": np.int16, "difference": np.uint8, "radius": np.uint8, "weight": np.int8,
    "threshold": np.int32, "table": np.uint8, "mass": np.int32,
}  # fmt: skip
_PICKLES = (b"PK\x03\x04", b"\x80")  # what files of torch.save begin with, and pickles
NO_CONTEXT = "{} no context tables; run caecodec fit-entropy to add them to a copy, or use entropy='static'"
Tensors = dict[str, npt.NDArray[Any]]


class Network(NamedTuple):
    """One quality, ready to build: a plain network's float32 tensors by state-dict name, and its entropy models' tables."""

    family: str
    tensors: dict[str, npt.NDArray[np.float32]]
    tables: Tables
    context: ContextTables | None = None

    def coding(self, entropy: str | None) -> str:
        """The entropy model to write with, None being the best there is; WeightsError when it has no tables."""
        if entropy == "context" and self.context is None:
            raise WeightsError(NO_CONTEXT.format("these weights have"))
        return "static" if entropy == "static" or self.context is None else "context"

    def entropy_tables(self, coding: str) -> Tables | ContextTables:
        """The tables of the entropy model of this name; CorruptionError when a payload names one that is not here."""
        if coding != "context":
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


def network(data: bytes, quality: int, where: str) -> Network:
    """One quality of a weights file, folded.

    Raises
    ------
    WeightsError
        It is no weights file, or damaged, or lacks this quality; the message says `where`.
    FormatVersionError
        A weights file of a newer format.
    """
    family = describe(data, where)["family"]
    stored = tensors(data, where)
    try:
        _check(stored, quality)
        with np.errstate(over="ignore", invalid="ignore"):
            plain = fold(stored, quality)
        _check_values(plain)
        tables = _tables(stored, quality)
        return Network(family, plain, tables, _context(stored, quality, len(tables.length)))
    except (KeyError, ValueError) as error:
        raise WeightsError(f"weights file {where} lacks or garbles quality {quality}: {error}") from error


def tensors(data: bytes, where: str) -> Tensors:
    """All tensors of a weights file, of every quality, as they are stored; WeightsError when it is damaged."""
    try:
        stored: Tensors = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # the others: of dtypes that numpy lacks
        raise WeightsError(f"weights file {where} is damaged: {error}; restore or reinstall it") from error
    return stored


def describe(data: bytes, where: str) -> dict[str, Any]:
    """What a weights file says of itself; WeightsError unless it is one, FormatVersionError if it is newer."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
        version = int(about["format"])
        known = (
            isinstance(about["name"], str)
            and about["family"] in FAMILIES.values()
            and about["metric"] in METRICS.values()
            and bool(about["qualities"])
            and all(isinstance(q, int) and 1 <= q <= MAX_QUALITY for q in about["qualities"])
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if data.startswith(_PICKLES):
            raise WeightsError(
                f"{where} is not a caecodec weights file but a pickle, or a checkpoint of PyTorch's, which can run code; "
                "convert it with caecodec export"
            ) from error
        raise WeightsError(
            f"{where} is not a caecodec weights file ({_brief(error)}); pass one, or a CompressAI checkpoint"
        ) from error
    if version != FORMAT:
        raise FormatVersionError(
            f"weights file {where} has format {version} but this caecodec reads {FORMAT}; upgrade caecodec"
        )
    if not known:
        raise WeightsError(f"weights file {where} describes no known network ({about}): upgrade caecodec or replace the file")
    return about


def _brief(error: Exception) -> str:
    """What an error says, without the whole file, which some errors of Python's hold."""
    return f"{type(error).__name__}: {error}"[:200]


def notes(data: bytes) -> dict[str, str]:
    """What else the metadata of a weights file say, such as a model card; of one that `describe` takes."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {str(key): str(value) for key, value in header["__metadata__"].items() if key != METADATA_KEY}


def serialise(stored: Tensors, *, name: str, family: str, metric: str, qualities: tuple[int, ...]) -> bytes:
    """The bytes of a weights file; the same tensors always give the same bytes."""
    about = {"format": FORMAT, "name": name, "family": family, "metric": metric, "qualities": list(qualities)}
    contiguous = {key: np.ascontiguousarray(value) for key, value in stored.items()}
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


def _check(tensors: Tensors, quality: int) -> None:
    """KeyError for a tensor that is absent, ValueError for one of another shape or dtype than FORMAT.md says."""
    prefix = f"q{quality}."
    hidden, latent = (tensors[name].size for name in ("g_a.0.bias", "g_a.6.bias"))
    widths = {"g_a": (3, hidden, hidden, hidden, latent), "g_s": (latent, hidden, hidden, hidden, 3)}
    shapes: dict[str, tuple[int, ...]] = {}
    optional: dict[str, tuple[int, ...]] = {f"{prefix}latent_scale": (latent,), f"{prefix}medians": (latent,)}
    for layer in CONVOLUTIONS:
        inputs, outputs = widths[layer[:3]][int(layer[4:]) // 2 :][:2]
        shapes[f"{layer}.weight"] = (outputs, inputs, 5, 5) if layer.startswith("g_a") else (inputs, outputs, 5, 5)
        shapes[f"{layer}.bias"] = (outputs,)
        scaled = shapes if f"{prefix}{layer}.scale" in tensors else optional
        scaled.update({f"{prefix}{layer}.{part}": (outputs,) for part in ("scale", "shift")})
    for layer in NORMALISATIONS:
        shapes.update({f"{layer}.beta": (hidden,), f"{layer}.gamma": (hidden, hidden)})
    shapes.update({name: shape for name, shape in optional.items() if name in tensors})
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or 0 in shape or tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} but must be float16 or float32 {shape}")
    dtypes: dict[str, Any] = {f"static.{part}": np.int32 for part in STATIC_PARTS}
    if f"{prefix}context.order" in tensors:
        dtypes.update({f"context.{part}": dtype for part, dtype in CONTEXT_PARTS.items()})
    for part, dtype in dtypes.items():
        if tensors[prefix + part].dtype != dtype:
            raise ValueError(f"{prefix}{part} is {tensors[prefix + part].dtype} but must be {np.dtype(dtype)}")
    if tensors[f"{prefix}static.length"].shape != (latent,):
        raise ValueError(f"{prefix}static.length has shape {tensors[f'{prefix}static.length'].shape} but must have ({latent},)")


def _check_values(plain: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """ValueError for parameters that are not finite, or that divide by zero."""
    for name, tensor in plain.items():
        if not np.isfinite(tensor).all() or (name.endswith(".beta") and tensor.min() <= 0):
            raise ValueError(f"{name} holds values that no network has")


def _tables(tensors: Tensors, quality: int) -> Tables:
    parts = (tensors[f"q{quality}.static.{part}"].astype(np.int64) for part in STATIC_PARTS)
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
