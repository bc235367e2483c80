"""The share of each stage in the codec's time, measured by calling the functions of the stages one by one."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import caecodec
from caecodec.bitstream import autoencoder
from caecodec.bitstream.codings import Body
from caecodec.chunks import planes, tiling
from caecodec.chunks.axes import Axes, check_chunk
from caecodec.chunks.planes import Layout
from caecodec.chunks.spec import ChunkSpec
from caecodec.codecs.autoencoder import codec
from caecodec.codecs.autoencoder.parameters import AutoencoderParameters
from caecodec.engine import engine
from caecodec.entropy.streams import CodedSymbols

from . import compared, timing
from .images import Pixels, chunks
from .speed import DIRECTIONS, PIXELS, Say

STAGES = ("pixels", "network", "entropy coding", "container")


class Line:
    """The stages of one quality on a device; `seconds` sums the time of each stage."""

    def __init__(self, quality: int, device: str) -> None:
        self.quality, self.gpu = quality, device == "cuda"
        self.parameters = AutoencoderParameters.parse(quality=quality)
        self.source = self.parameters.sources()[quality]
        self.loaded = engine().load(self.source, quality)
        self.coder = self.loaded.writing_model(None)
        self.tables = self.loaded.tables_of(self.coder)
        self.network = compared.network(quality, device)
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def _timed(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        self.seconds[stage] += time.perf_counter() - start
        return result

    def encode(self, array: Pixels) -> bytes:
        """Encode a chunk as a payload."""
        chunk, images = self._timed("pixels", self._images, array)
        symbols = self._timed("network", self.network.encode, images)
        coded = self._timed("entropy coding", self.coder.encode, symbols, self.tables)
        payload: bytes = self._timed("container", self._pack, chunk, coded)
        return payload

    def decode(self, payload: bytes) -> Pixels:
        """Decode the chunk of a payload."""
        parsed = self._timed("container", autoencoder.parse, payload)
        header = parsed.header
        axes = Axes.of(len(header.shape), header.channel_axis)
        layout = Layout(separate=False)
        height, width = header.shape[:2]
        latents = tiling.latent_size(height, width, self.loaded.family.stride)
        shape = (1, self.loaded.network.latent_channels, *latents)
        coded = CodedSymbols(parsed.streams, parsed.escapes)
        symbols = self._timed("entropy coding", self.coder.decode, coded, self.tables, shape)
        images = self._timed("network", self.network.decode, symbols)[:, :, :height, :width]
        array: Pixels = self._timed("pixels", self._array, images, header.shape, axes, layout)
        return array

    def _images(self, array: Pixels) -> tuple[codec.Chunk, Any]:
        axes = check_chunk(array.shape, array.dtype, -1)
        spec = ChunkSpec(array.shape, array.dtype.name, axes, Layout.of(array, axes))
        chunk = codec.Chunk(array, spec, self.parameters, self.gpu)
        planes.constant(array, axes)
        return chunk, tiling.pad(planes.to_images(array, axes, spec.layout), self.loaded.family.stride)

    def _pack(self, chunk: codec.Chunk, coded: CodedSymbols) -> bytes:
        header = chunk.header(self.source, self.quality, Body.SYMBOLS, self.coder.name)
        return autoencoder.pack(
            autoencoder.AutoencoderPayload(header, coded.streams, coded.escapes, planes=chunk.spec.layout.pack())
        )

    @staticmethod
    def _array(images: Any, shape: tuple[int, ...], axes: Axes, layout: Layout) -> Any:
        planes.plausible(images)
        return planes.to_array(images, shape, np.dtype(np.uint8), axes, layout)


def run(
    images: list[Pixels],
    qualities: list[int],
    sides: list[int],
    seconds: float,
    count: int | None,
    say: Say,
) -> list[dict[str, Any]]:
    """For each quality, side of chunks and direction, the share of each stage in the time of the whole codec on a CPU.

    Chunks run one after the other. `other` is the rest: checks, and what the stages gain or lose by being called separately.
    The stages of a CUDA device are others: see `line_stages`.
    """
    rows = []
    for quality in qualities:
        for side in sides:
            parts = chunks(images, side, count or max(2, min(16, PIXELS // side**2)))
            say(f"stages: quality {quality}, chunks of {side}, cpu")
            cell = {"quality": quality, "chunk": side, "device": "cpu"}
            rows += [{**cell, **row} for row in _cell(parts, quality, "cpu", seconds)]
    return rows


def _cell(parts: list[Pixels], quality: int, device: str, seconds: float) -> list[dict[str, Any]]:
    line, whole = Line(quality, device), compared.caecodec(compared.CAECODEC, quality, device)
    payloads = [caecodec.encode(part, quality=quality) for part in parts]
    rows = []
    for direction in DIRECTIONS:
        inputs: list[Any] = parts if direction == "encode" else payloads
        ours, apart = getattr(whole, direction), getattr(line, direction)
        spent: list[dict[str, float]] = []

        def once(function: Callable[[Any], Any] = ours, inputs: list[Any] = inputs) -> None:
            for one in inputs:
                function(one)

        def stages(function: Callable[[Any], Any] = apart, inputs: list[Any] = inputs, spent: list[Any] = spent) -> None:
            line.seconds = dict.fromkeys(STAGES, 0.0)
            for one in inputs:
                function(one)
            spent.append(line.seconds)

        whole_time = timing.in_turn({"whole": once, "stages": stages}, seconds)["whole"].rounds
        shares = {stage: 1 / timing.ratio([one[stage] for one in spent[1:]], whole_time) for stage in STAGES}
        rows.append({"direction": direction, "shares": {**shares, "other": 1 - sum(shares.values())}})
    return rows
