"""Training crops -> the symbols that a network makes of them."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from ..engine import Place
from ..models.registry import FAMILIES

CROP = 256
BATCH = 8


def batches(
    family: str, tensors: Mapping[str, npt.NDArray[np.float32]], crops: Iterable[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.int32]]:
    """Symbols (n, M, size / 16, size / 16) of crops (size, size, 3), eight at a time, by the network of these tensors.

    It runs where `caecodec.settings` says, in float32.
    """
    place = Place.choose(None)
    network = FAMILIES[family].build(tensors)
    network = network.to(place.device)
    for batch in _stacked(crops):
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(place.device).permute(0, 3, 1, 2).float() / 255
            yield network.analysis(images).cpu().numpy()


def narrow(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """Symbols in half the memory; those that do not fit are clipped."""
    return np.clip(symbols, -(2**15), 2**15 - 1).astype(np.int16)


def _stacked(crops: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    waiting: list[npt.NDArray[np.uint8]] = []
    for crop in crops:
        waiting.append(crop)
        if len(waiting) == BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
