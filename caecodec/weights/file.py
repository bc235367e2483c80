"""A weights file: the bytes of a safetensors file <-> tensors -> one quality's network and tables (FORMAT.md, 8).

It holds one network, what differs between its qualities, which the family folds in, and the tables of the entropy models.
"""

import json
from typing import Any, NamedTuple, TypeVar

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ..bitstream.autoencoder import MAX_QUALITY, METRICS
from ..entropy import registry
from ..entropy.model import EntropyModel
from ..errors import CorruptionError, FormatVersionError, WeightsError
from ..models import registry as families
from ..models.family import Family, FoldedNetwork, Tensors

FORMAT = 1
METADATA_KEY = "caecodec"
_PICKLES = (b"PK\x03\x04", b"\x80")  # the first bytes of files of torch.save, and of pickles
NO_TABLES = "{} have no {} tables; {}"
T = TypeVar("T")


class QualityWeights(NamedTuple):
    """One quality of a weights file, ready to use.

    network : the tensors of which the family builds its network
    tables : the tables of each entropy model that the file has some for, by the model's name
    """

    family: Family
    network: FoldedNetwork
    tables: dict[str, Any]

    def writing_model(self, entropy: str | None) -> EntropyModel[Any]:
        """The entropy model to write with: the one of this name or, for None, the best one that has tables.

        Raises WeightsError if it has no tables.
        """
        if entropy is None:
            written = [model for model in registry.models() if model.preference is not None and model.name in self.tables]
            if not written:
                raise WeightsError("these weights are of layers; use ScalableAutoencoder (--codec sae), which writes layers")
            return written[0]
        model = registry.by_name(entropy)
        if entropy not in self.tables:
            raise WeightsError(NO_TABLES.format("these weights", entropy, model.remedy))
        return model

    def tables_of(self, model: EntropyModel[T]) -> T:
        """The tables of the entropy model that a payload names; CorruptionError if there are none."""
        if model.name not in self.tables:
            raise CorruptionError(f"payload is {model.name}-coded but its weights have no {model.name} tables: it is damaged")
        tables: T = self.tables[model.name]
        return tables


def quality_weights(data: bytes, quality: int, where: str) -> QualityWeights:
    """One quality of a weights file, folded.

    Raises
    ------
    WeightsError
        The file is not a weights file, is damaged, or lacks this quality. The message calls it `where`.
    FormatVersionError
        The weights file has a newer format.
    """
    family = families.by_stored_name(describe(data, where)["family"])
    stored = tensors(data, where)
    try:
        family.check(stored, quality)
        with np.errstate(over="ignore", invalid="ignore"):
            folded = family.fold(stored, quality)
        for name, tensor in folded.tensors.items():
            if not np.isfinite(tensor).all():
                raise ValueError(f"{name} holds values that are not finite")
        parsed = {model.name: model.parse(stored, quality, folded.latent_channels) for model in registry.every()}
    except (KeyError, ValueError) as error:
        raise WeightsError(f"weights file {where} lacks or garbles quality {quality}: {error}") from error
    return QualityWeights(family, folded, {name: tables for name, tables in parsed.items() if tables is not None})


def tensors(data: bytes, where: str) -> Tensors:
    """All tensors of a weights file, of every quality, as they are stored; WeightsError if it is damaged."""
    try:
        stored: Tensors = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # the last three: for dtypes that numpy lacks
        raise WeightsError(f"weights file {where} is damaged: {error}; restore or reinstall it") from error
    return stored


def describe(data: bytes, where: str) -> dict[str, Any]:
    """The metadata of a weights file; WeightsError if it is another kind of file, FormatVersionError for a newer format."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
        version = int(about["format"])
        known = (
            isinstance(about["name"], str)
            and about["family"] in [family.stored_name for family in families.families()]
            and about["metric"] in METRICS.values()
            and bool(about["qualities"])
            and all(isinstance(q, int) and 1 <= q <= MAX_QUALITY for q in about["qualities"])
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if data.startswith(_PICKLES):
            raise WeightsError(
                f"{where} is not a caecodec weights file but a pickle or a PyTorch checkpoint, which can run code; "
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
        raise WeightsError(f"weights file {where} describes no known network ({about}); upgrade caecodec or replace the file")
    return about


def _brief(error: Exception) -> str:
    """The start of an error's text; some of Python's errors quote the whole file."""
    return f"{type(error).__name__}: {error}"[:200]


def notes(data: bytes) -> dict[str, str]:
    """Further metadata, such as a model card, of a weights file that `describe` accepts."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {str(key): str(value) for key, value in header["__metadata__"].items() if key != METADATA_KEY}


def serialise(stored: Tensors, *, name: str, family: str, metric: str, qualities: tuple[int, ...]) -> bytes:
    """The bytes of a weights file; the same tensors always give the same bytes."""
    about = {"format": FORMAT, "name": name, "family": family, "metric": metric, "qualities": list(qualities)}
    contiguous = {key: np.ascontiguousarray(value) for key, value in stored.items()}
    return safetensors.numpy.save(contiguous, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})
