"""Codes indices 0, 1, 2 with a mass of 0 for each, by asymmetric numeral systems (FORMAT.md, 5 and 25).

With mass z of 2^24, index 0 has z, and indices 1 and 2 have half of the rest each; or, with STEADY_FLAG, index 1 has the rest
but 1. It runs in the compiled extension, without Python's lock, or in constriction where the extension is not installed.
"""

import constriction
import numpy as np
import numpy.typing as npt

from . import context_compiled, streams
from .tables import TOTAL

STEADY_FLAG = np.uint32(2**31)
_FAMILY = constriction.stream.model.Categorical(perfect=False)
Masses = npt.NDArray[np.uint32]


def encode(index: npt.NDArray[np.uint8], mass: Masses) -> bytes:
    """The little-endian 32-bit words of indices (n,) with masses (n,)."""
    if context_compiled.available():
        from . import _coder  # here, because it may not be installed

        return _coder.pack(np.ascontiguousarray(index), np.ascontiguousarray(mass))
    coder = constriction.stream.stack.AnsCoder()
    if len(index):
        coder.encode_reverse(index.astype(np.int32), _FAMILY, _rows(mass))
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return words


class LayerDecoder:
    """Decodes words step by step, as the masses become known."""

    def __init__(self, words: bytes) -> None:
        streams.check_words(words)
        self._words, self._state, self._left = words, 0, -1
        self._coder = None if context_compiled.available() else streams.start(words)

    def decode(self, mass: Masses) -> npt.NDArray[np.uint8]:
        """The next indices (n,), whose masses (n,) these are."""
        if self._coder is not None:
            found: npt.NDArray[np.uint8] = self._coder.decode(_FAMILY, _rows(mass)).astype(np.uint8)
            return found
        index = np.empty(len(mass), np.uint8)
        from . import _coder

        self._state, self._left = _coder.unpack(self._words, self._state, self._left, np.ascontiguousarray(mass), index)
        return index

    def finish(self) -> None:
        """Raise CorruptionError unless all words have been decoded."""
        if self._coder is not None:
            streams.finish(self._coder)
        elif self._state or self._left > 0 or (self._left < 0 and self._words):
            raise streams.left_over()


def _rows(mass: Masses) -> npt.NDArray[np.float32]:
    """Masses (n, 3) less 1, as constriction's Categorical takes them."""
    zero = (mass & ~STEADY_FLAG).astype(np.int64)
    steady = mass >= STEADY_FLAG
    half = (TOTAL - zero) // 2
    one, two = np.where(steady, TOTAL - zero - 2, half - 1), np.where(steady, 0, half - 1)
    return np.stack([zero - 1, one, two], axis=1).astype(np.float32)
