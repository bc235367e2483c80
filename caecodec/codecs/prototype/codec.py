"""Reads arrays of the archived prototype of the same name, as the numcodecs codec with the id cae.

A payload is four big-endian 64-bit integers (height, width, and the rows and columns that pad these to whole patches), then a
rANS string of CompressAI (16-bit tables, 32-bit words, a 64-bit state) with the symbols of the padded chunk, channel after
channel. It has neither checksum nor version, but most damage, and other weights, make the string end in a wrong state.

Pixels are those of the prototype, with its tiles. A patch of symbols is decoded with one more symbol on each side, reflected at
the chunk's borders, and 16 pixels on each side of its image are cut off. Values are truncated, not rounded.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numcodecs.abc
import numcodecs.compat
import numpy as np
import numpy.typing as npt

from ... import settings, weights
from ...bitstream.prefix import MAX_SIZE
from ...chunks import planes
from ...chunks.decoded import deliver
from ...entropy.tables import PRECISION, Tables
from ...errors import CorruptionError, ParameterError, WeightsError
from ...models.factorized.family import Factorized
from ..parse import parse_metric, parse_quality

STRIDE = Factorized.stride
HALO = 1  # latent positions; the prototype's value, which is less than the network's receptive field
PATCH_SIZE = 256  # the prototype's default, for metadata without one
_HEADER = struct.Struct(">QQQQ")
_BITS = 16
_FIRST_STATE = 2**31
_BYPASS_BITS = 4
_MOST_NIBBLES = 8
_WRONG = "it is damaged, or was written with other weights"


class PrototypeAutoencoder(numcodecs.abc.Codec):  # type: ignore[misc]  # numcodecs has no type hints: its Codec is Any
    """Reader of chunks (height, width, 3) of uint8 that the prototype's ConvolutionalAutoencoder wrote.

    Parameters
    ----------
    quality, metric
        Those of CompressAI's pretrained bmshj2018-factorized: 1 to 8, and "mse" or "ms-ssim".
    patch_size
        The side of the tiles in pixels, a multiple of 16. Not all arrays store it; it changes pixels next to borders of tiles.
    weights
        A weights file or checkpoint. None: a file in the folder of CAECODEC_WEIGHTS that was converted from a CompressAI
        checkpoint of this quality and metric, or else CompressAI's download (extra compressai).
    ignored
        Other metadata of the prototype: gpu, partial_decompress, bottleneck_channels, downsampling_factor.

    Raises
    ------
    ParameterError
        A parameter is outside its range.
    """

    codec_id: ClassVar[str] = "cae"

    def __init__(
        self,
        quality: int = 8,
        metric: str = "mse",
        patch_size: int | None = None,
        weights: str | Path | None = None,
        **ignored: Any,
    ) -> None:
        self.quality = parse_quality(quality)
        self.metric = parse_metric(metric)
        self.patch_size = PATCH_SIZE if patch_size is None else patch_size
        if (
            isinstance(patch_size, bool)
            or not isinstance(self.patch_size, int)
            or self.patch_size % STRIDE
            or self.patch_size < 1
        ):
            raise ParameterError(f"patch_size is {patch_size!r} but must be a positive multiple of {STRIDE}")
        self.weights = weights

    def encode(self, buf: Any) -> bytes:
        """Raise ParameterError: this format is no longer written."""
        raise ParameterError(
            "codec 'cae' reads arrays of the archived prototype and writes none; copy the array into one with "
            f"caecodec.ConvolutionalAutoencoder(quality={self.quality}), or a lossless codec"
        )

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk (height, width, 3) in a payload; or `out`, an array of its size, with the chunk in it.

        Raises
        ------
        CorruptionError
            The payload is damaged, or was written with other weights.
        WeightsError
            CompressAI's weights are not found; the message says what to install.
        """
        from ...engine import DevicePlacement, PlacedNetwork, engine  # imports torch

        data = bytes(numcodecs.compat.ensure_contiguous_ndarray(buf))
        height, width, rows, columns = _geometry(data)
        source, tables = self._weights()
        symbols = decode_symbols(data[_HEADER.size :], tables, rows, columns)
        side = self.patch_size // STRIDE
        below, right = -rows % side, -columns % side
        padded = np.pad(symbols, ((0, 0), (HALO, HALO + below), (HALO, HALO + right)), mode="reflect")
        corners = [(r, c) for r in range(0, rows, side) for c in range(0, columns, side)]
        reach = side + 2 * HALO
        patches = np.stack([padded[:, r : r + reach, c : c + reach] for r, c in corners])
        images = engine().run(PlacedNetwork(source, self.quality, DevicePlacement.choose(None)), "synthesis", patches)
        if not planes.plausible(images):
            raise CorruptionError(f"payload of the prototype decodes to values that are not pixels: {_WRONG}")
        whole = np.empty(((rows + below) * STRIDE, (columns + right) * STRIDE, 3), np.uint8)
        cut = slice(HALO * STRIDE, HALO * STRIDE + self.patch_size)
        for (r, c), image in zip(corners, images, strict=True):
            levels = np.clip(image[:, cut, cut] * np.float32(255), 0, 255)
            whole[STRIDE * r :, STRIDE * c :][: self.patch_size, : self.patch_size] = levels.transpose(1, 2, 0)
        return deliver(np.ascontiguousarray(whole[:height, :width]), out)

    def get_config(self) -> dict[str, Any]:
        """What array metadata stores."""
        config = {"id": self.codec_id, "quality": self.quality, "metric": self.metric, "patch_size": self.patch_size}
        return config if self.weights is None else {**config, "weights": str(self.weights)}

    def _weights(self) -> tuple[weights.Source, Tables]:
        """The weights that the array's metadata asks for, and their static tables."""
        from ...engine import engine

        folder = settings.current().weights
        for source in weights.installed() if folder and self.weights is None else ():
            here = source.location is not None and source.location.parent == folder
            if here and source.metric == self.metric and self.quality in source.qualities:
                tables: Tables = engine().load(source, self.quality).tables["static"]
                if _is_compressai(tables):
                    return source, tables
        spec = weights.Spec.parse(weights.COMPRESSAI if self.weights is None else self.weights)
        source = weights.resolve(spec, self.metric, self.quality)
        tables = engine().load(source, self.quality).tables["static"]
        if not _is_compressai(tables):
            raise WeightsError(
                f"weights {spec} have tables of {PRECISION} bits but must have CompressAI's of {_BITS}; pass a checkpoint"
            )
        return source, tables


def decode_symbols(string: bytes, tables: Tables, rows: int, columns: int) -> npt.NDArray[np.int32]:
    """The symbols (M, rows, columns) in a rANS string of CompressAI; CorruptionError unless it holds exactly these."""
    count = rows * columns
    tables_16 = [mass >> (PRECISION - _BITS) for mass in np.split(tables.mass, np.cumsum(tables.length)[:-1])]
    least_bits = count * sum(_BITS - float(np.log2(mass.max())) for mass in tables_16)
    if len(string) % 4 or len(string) < 8 or least_bits > 8 * len(string):
        raise CorruptionError(
            f"payload of the prototype has {len(string)} bytes of symbols, which are too few: it is cut short"
        )
    words = iter(np.frombuffer(string, "<u4").tolist())
    symbols = np.empty((len(tables_16), count), np.int32)
    try:
        state = next(words) | next(words) << 32
        for channel, (mass, offset) in enumerate(zip(tables_16, tables.offset.tolist(), strict=True)):
            state = _decode_channel(state, words, mass, offset, symbols[channel])
    except StopIteration:
        raise CorruptionError(f"payload of the prototype ends before its last symbol: {_WRONG}") from None
    if state != _FIRST_STATE or next(words, None) is not None:
        raise CorruptionError(f"payload of the prototype holds more than its symbols: {_WRONG}")
    return symbols.reshape(-1, rows, columns)


def _decode_channel(
    state: int, words: Iterator[int], mass: npt.NDArray[np.int64], offset: int, out: npt.NDArray[np.int32]
) -> int:
    """Fill `out` with the symbols of one channel, and return the coder's state after them."""
    masses: list[int] = mass.tolist()
    starts: list[int] = (np.cumsum(mass) - mass).tolist()
    escape = len(masses) - 1
    for i in range(len(out)):
        slot = state & 0xFFFF
        entry = bisect_right(starts, slot) - 1
        state = masses[entry] * (state >> _BITS) + slot - starts[entry]
        if state < _FIRST_STATE:
            state = state << 32 | next(words)
        if entry == escape:
            state, entry = _decode_escape(state, words, escape)
        out[i] = entry + offset
    return state


def _decode_escape(state: int, words: Iterator[int], escape: int) -> tuple[int, int]:
    """Decode an entry outside the table: the number of its nibbles, then these, lowest first; odd values lie below."""

    def nibble() -> int:
        nonlocal state
        value = state & 0xF
        state >>= _BYPASS_BITS
        if state < _FIRST_STATE:
            state = state << 32 | next(words)
        return value

    count = nibble()
    if count > _MOST_NIBBLES:
        raise CorruptionError(f"payload of the prototype holds a symbol of more than 32 bits: {_WRONG}")
    value = sum(nibble() << _BYPASS_BITS * i for i in range(count))
    if value >> 1 >= 2**24:
        raise CorruptionError(f"payload of the prototype holds a symbol beyond +-2^24: {_WRONG}")
    return state, -(value >> 1) - 1 if value & 1 else (value >> 1) + escape


def _geometry(data: bytes) -> tuple[int, int, int, int]:
    """Height and width of the chunk, and rows and columns of its latents; CorruptionError if no chunk has these."""
    if len(data) < _HEADER.size:
        raise CorruptionError(
            f"payload of the prototype has {len(data)} bytes but its header alone has {_HEADER.size}: it is cut short"
        )
    height, width, below, right = _HEADER.unpack_from(data)
    padded_height, padded_width = height + below, width + right
    if not (height and width) or padded_height % STRIDE or padded_width % STRIDE or 3 * padded_height * padded_width > MAX_SIZE:
        raise CorruptionError(
            f"payload starts with height {height}, width {width} and padding {below}, {right}, which no chunk has: "
            "it is damaged, or of another format"
        )
    return height, width, padded_height // STRIDE, padded_width // STRIDE


def _is_compressai(tables: Tables) -> bool:
    """Whether these were converted from CompressAI's tables of 16 bits."""
    return not (tables.mass % 2 ** (PRECISION - _BITS)).any()
