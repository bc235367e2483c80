"""Training crops -> symbols of a network."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from ..engine import DevicePlacement
from ..models.family import Family, FoldedNetwork

CROP = 256
BATCH = 8


def batches(
    family: Family, folded: FoldedNetwork, quality: int, crops: Iterable[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.int32]]:
    """Crops (size, size, 3) -> symbols (n, M, rows, columns) of this network, in batches of eight.

    The network runs on the device and in the precision of `caecodec.settings`, as it does when it encodes.
    """
    place = DevicePlacement.choose(None)
    network = family.build(folded.tensors)
    family.reduce_precision(network, place.precision, quality, place.device)
    network = network.to(place.device)
    for batch in _stacked(crops):
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(place.device).permute(0, 3, 1, 2).float() / 255
            yield network.analysis(images).cpu().numpy()


def _stacked(crops: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    waiting: list[npt.NDArray[np.uint8]] = []
    for crop in crops:
        waiting.append(crop)
        if len(waiting) == BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
