"""State dicts of CompressAI's FactorizedPrior <-> the tensors of a weights file; only downloads need CompressAI itself.

CompressAI stores GDN's parameters as square roots (NonNegativeParametrizer) and 16-bit cumulative tables whose last
entry is the escape. Its releases spell the learned density's parameters in three ways (``matrices.0``, ``_matrix0``,
``_matrices.0``); reading ignores them, because the tables come with the checkpoint.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import ParameterError, WeightsError

PEDESTAL = 2.0**-36
BETA_MINIMUM = 1e-6
CDF_BITS = 16
TABLE_BITS = 24
_GDN = ("g_a.1", "g_a.3", "g_a.5", "g_s.1", "g_s.3", "g_s.5")
_PARTS = ("g_a", "g_s", "entropy_bottleneck")
_CONV = ("g_a.0", "g_a.2", "g_a.4", "g_a.6", "g_s.0", "g_s.2", "g_s.4", "g_s.6")
_FILTERS = (1, 3, 3, 3, 3, 1)
_TAIL_MASS = 1e-9


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, whether bare or under "state_dict", without DataParallel's prefix.

    Raises WeightsError if the file holds no state dict, or anything that PyTorch's weights_only=True refuses.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # torch.load does not document its errors: damaged files raise UnpicklingError, RuntimeError, EOFError and others.
    except Exception as error:
        why = error if isinstance(error, OSError) else type(error).__name__  # PyTorch's texts advise to run what is in the file
        raise WeightsError(
            f"checkpoint {path} cannot be read with weights_only=True: {why}; name one of CompressAI or of caecodec train"
        ) from error
    state = stored.get("state_dict", stored) if isinstance(stored, dict) else None
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_real(value) for key, value in state.items()):
        raise WeightsError(f"checkpoint {path} holds no state dict of tensors; save model.state_dict() with torch.save")
    return {key.removeprefix("module."): value for key, value in state.items()}


def pretrained(quality: int, metric: str) -> dict[str, Tensor]:
    """The state dict of CompressAI's pretrained model, which CompressAI downloads on first use.

    Raises WeightsError if CompressAI is not installed or the download fails.
    """
    try:
        from compressai.zoo import bmshj2018_factorized  # type: ignore[import-not-found,unused-ignore]  # an extra, which mypy may run with or without
    except ImportError as error:
        raise WeightsError(
            "weights='compressai' needs CompressAI, which is not installed: pip install 'caecodec[compressai]' "
            "(Python 3.11 or 3.12)"
        ) from error
    try:
        model = bmshj2018_factorized(quality=quality, metric=metric, pretrained=True)
    except OSError as error:
        raise WeightsError(
            f"CompressAI could not download its weights for quality {quality}, metric {metric!r} ({error}); connect to the "
            "network once, or pass weights=PATH of a checkpoint"
        ) from error
    state: dict[str, Tensor] = model.state_dict()
    return state


def from_state_dict(state: Mapping[str, Tensor], quality: int) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a weights file for one quality, from a FactorizedPrior's state dict.

    Raises WeightsError if parameters or tables are missing, or if there are others. Tables must come with the checkpoint,
    because tables recomputed from floats would differ between machines.
    """
    others = sorted({key.partition(".")[0] for key in state}.difference(_PARTS))
    if others:
        raise WeightsError(
            f"checkpoint has {', '.join(others)}, which bmshj2018-factorized has not: it is of another network, such as a "
            "hyperprior; pass one of CompressAI's FactorizedPrior"
        )
    try:
        return _convert(state, f"q{quality}.")
    except KeyError as error:
        raise WeightsError(f"checkpoint lacks {error}: it is not of a bmshj2018-factorized network") from error
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"checkpoint is not of a bmshj2018-factorized network: a tensor has the wrong shape or dtype ({error})"
        ) from error


def to_state_dict(plain: Mapping[str, npt.NDArray[np.float32]], mass: npt.NDArray[np.int64], length: npt.NDArray[np.int64],
                  offset: npt.NDArray[np.int64]) -> dict[str, Tensor]:  # fmt: skip
    """Make a state dict for CompressAI's FactorizedPrior from a folded network and its static tables.

    CompressAI's compress() and decompress() then give the same symbols and pixels. Its 16-bit tables are rounded from our
    24-bit ones. Its density is a logistic with the spread of each table, so call update() only after further training.
    """
    state: dict[str, Tensor] = {}
    for layer in _CONV:
        for part in ("weight", "bias"):
            state[f"{layer}.{part}"] = torch.from_numpy(plain[f"{layer}.{part}"]).clone()
    for layer in _GDN:
        for part, minimum in (("beta", BETA_MINIMUM), ("gamma", 0.0)):
            value = torch.from_numpy(plain[f"{layer}.{part}"]).double()
            value = value[:, :, 0, 0] if part == "gamma" else value
            state[f"{layer}.{part}"] = (value + PEDESTAL).clamp_min(PEDESTAL).sqrt().float()
            state[f"{layer}.{part}_reparam.pedestal"] = torch.tensor([PEDESTAL])
            state[f"{layer}.{part}_reparam.lower_bound.bound"] = torch.tensor([(minimum + PEDESTAL) ** 0.5])
    state.update(_bottleneck(torch.from_numpy(plain["medians"]), mass, length, offset))
    return state


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_complex()


def effective(stored: Tensor, minimum: float = 0.0) -> Tensor:
    """The non-negative parameter that a trained square root stands for (NonNegativeParametrizer)."""
    return stored.float().clamp_min((minimum + PEDESTAL) ** 0.5) ** 2 - PEDESTAL


def _convert(state: Mapping[str, Tensor], prefix: str) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = {}
    for layer in _CONV:
        for part in ("weight", "bias"):
            tensors[f"{layer}.{part}"] = state[f"{layer}.{part}"].float().numpy()
    for layer in _GDN:
        for part, minimum in (("beta", BETA_MINIMUM), ("gamma", 0.0)):
            tensors[f"{layer}.{part}"] = effective(state[f"{layer}.{part}"], minimum).numpy()
    tensors[f"{prefix}medians"] = state["entropy_bottleneck.quantiles"][:, 0, 1].float().contiguous().numpy()
    cdf = state["entropy_bottleneck._quantized_cdf"].numpy()
    if not cdf.size:
        raise WeightsError("checkpoint has no entropy tables; call model.update() in CompressAI, and save the state dict again")
    entries = state["entropy_bottleneck._cdf_length"].numpy().astype(np.int32) - 1
    masses = [np.diff(row[: n + 1]) for row, n in zip(cdf, entries, strict=True)]
    tensors[f"{prefix}static.mass"] = np.concatenate(masses).astype(np.int32) << (TABLE_BITS - CDF_BITS)
    tensors[f"{prefix}static.length"] = entries
    tensors[f"{prefix}static.offset"] = state["entropy_bottleneck._offset"].numpy().astype(np.int32)
    return tensors


def _bottleneck(medians: Tensor, mass: npt.NDArray[np.int64], length: npt.NDArray[np.int64],
                offset: npt.NDArray[np.int64]) -> dict[str, Tensor]:  # fmt: skip
    """The entropy_bottleneck.* entries: 16-bit tables, and a logistic density of the same spread."""
    channels = len(length)
    cdf = np.zeros((channels, length.max() + 1), np.int32)
    spread = np.empty(channels)
    tables = np.split(mass, np.cumsum(length)[:-1])
    for row, table, first, out in zip(range(channels), tables, offset, spread[:, None], strict=True):
        cdf[row, 1 : len(table) + 1] = np.cumsum(_rescale(table, 2**CDF_BITS))
        share = table[:-1] / table[:-1].sum()
        values = first + np.arange(len(share))
        out[0] = max(0.1, math.sqrt((share * values**2).sum() - (share * values).sum() ** 2)) * math.sqrt(3) / math.pi
    prefix = "entropy_bottleneck."
    state = {
        f"{prefix}_quantized_cdf": torch.from_numpy(cdf),
        f"{prefix}_cdf_length": torch.from_numpy((length + 1).astype(np.int32)),
        f"{prefix}_offset": torch.from_numpy(offset.astype(np.int32)),
        f"{prefix}likelihood_lower_bound.bound": torch.tensor([_TAIL_MASS]),
    }
    # Five layers of equal positive weights without non-linearity make one logistic, with a total gain of 1 / spread.
    layers = len(_FILTERS) - 1
    inner = math.prod(_FILTERS[1:-1])
    weight = torch.from_numpy((1 / spread / inner) ** (1 / layers)).float()
    raw = torch.log(torch.expm1(weight))
    for i in range(layers):
        rows, columns = _FILTERS[i + 1], _FILTERS[i]
        state[f"{prefix}matrices.{i}"] = raw[:, None, None].repeat(1, rows, columns)
        state[f"{prefix}biases.{i}"] = torch.zeros(channels, rows, 1)
        if i < layers - 1:
            state[f"{prefix}factors.{i}"] = torch.zeros(channels, rows, 1)
    gain = weight**layers * inner
    state[f"{prefix}biases.{layers - 1}"] = (-medians * gain)[:, None, None]
    target = math.log(2 / _TAIL_MASS - 1)
    reach = target / gain
    state[f"{prefix}quantiles"] = torch.stack((medians - reach, medians, medians + reach), dim=1)[:, None, :]
    state[f"{prefix}target"] = torch.tensor([-target, 0.0, target])
    return state


def _rescale(table: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """Scale masses to this total, each at least 1."""
    scaled: npt.NDArray[np.int64] = np.maximum(1, table * total // table.sum())
    excess = int(scaled.sum()) - total
    while excess > 0:  # many masses were raised to 1, so take from the largest
        largest = int(scaled.argmax())
        taken = min(excess, int(scaled[largest]) - 1)
        if not taken:
            raise ParameterError(f"a table has {len(table)} entries, too many for {CDF_BITS} bits; export another quality")
        scaled[largest] -= taken
        excess -= taken
    scaled[scaled.argmax()] -= excess
    return scaled
