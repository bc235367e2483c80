"""What the kernels write on a device -> the words and escapes of many payloads in the memory of the CPU, in one copy."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.profiler import record_function

from ..chunks.transfers import fetch

SYMBOLS_PER_WORD, SYMBOLS_PER_ESCAPE = 8, 64  # what is fetched at once; few batches hold more words or escapes


class Words(NamedTuple):
    """Words on a device, with gaps between the streams.

    begin, written : (streams,) int64 and int32, the first word of each stream, and how many it has
    """

    words: Tensor
    begin: Tensor
    written: Tensor

    def first(self, room: int) -> Tensor:
        """The words of all streams without the gaps, cut or filled up to `room` words."""
        ends = self.written.cumsum(0)
        at = torch.arange(room, device=ends.device)
        stream = torch.searchsorted(ends, at, right=True).clamp_(max=len(ends) - 1)
        place = at + (self.begin - ends + self.written)[stream]
        return self.words[place.clamp_(max=len(self.words) - 1)]


class Escapes(NamedTuple):
    """Escapes on a device, among the numbers of all symbols in coding order.

    number, rank : (N M P,) int32, the number of each symbol if it escapes, and how many have escaped up to it
    ends : (N,) int32, how many have escaped up to the end of each payload
    """

    number: Tensor
    rank: Tensor
    ends: Tensor

    def first(self, room: int) -> Tensor:
        """The numbers of those that escape, cut or filled up to `room`."""
        which = torch.arange(1, room + 1, dtype=torch.int32, device=self.rank.device)
        return self.number[torch.searchsorted(self.rank, which).clamp_(max=len(self.number) - 1)]


def fetch_coded(coded: Tensor, words: Words, escapes: Escapes) -> list[npt.NDArray[np.int32]]:
    """Fetch what N payloads are made of.

    Returns the coded channels (N,), words of each stream (streams,), ends of escapes (N,), all words, and all escapes.
    """
    sizes = (len(coded), len(words.written), len(escapes.ends))
    total = len(escapes.rank)
    room = (total // SYMBOLS_PER_WORD + 2 * sizes[1], total // SYMBOLS_PER_ESCAPE)
    while True:
        with record_function("words out"):
            parts = torch.cat([coded, words.written, escapes.ends, words.first(room[0]), escapes.first(room[1])])
        (found,) = fetch(parts)
        counts, lengths, ends, values, numbers = np.split(found.numpy(), np.cumsum([*sizes, room[0]]))
        needed = (int(lengths.sum()), int(ends[-1]))
        if needed[0] <= room[0] and needed[1] <= room[1]:
            return [counts, lengths, ends, values[: needed[0]], numbers[: needed[1]]]
        room = needed
