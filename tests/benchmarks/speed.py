"""Speed and memory of caecodec, its network, CompressAI and codecs of imagecodecs, which take turns on the same chunks."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from . import compared, memory, timing
from .compared import CAECODEC, CLASSICAL, ComparedCodec, MissingError
from .images import Pixels, chunks, psnr, squared_errors

DIRECTIONS = ("encode", "decode")
PIXELS = 2**21  # pixels per cell
MOST = 64
Say = Callable[[str], None]
Levels = dict[str, float | MissingError]


def run(
    images: list[Pixels], qualities: list[int], sides: list[int], concurrencies: list[int], devices: list[str], seconds: float,
    count: int | None, say: Say,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each codec in each cell; a cell is a quality, side of chunks, device and number of callers.

    In a row, `missing` says why it was not measured, or is None. Then there are `setting`, `psnr` in dB and `bpp` (None for the
    network alone), `encode` and `decode` (speeds and ratios, see `_speed`), and `memory` in bytes (see memory.measure).
    """
    rows = []
    for quality in qualities:
        for side in sides:
            parts = chunks(images, side, count or max(*concurrencies, min(MOST, PIXELS // side**2)))
            levels = _levels(parts, quality) if "cpu" in devices else {}
            for device in devices:
                alone: dict[str, Any] = {}
                for concurrency in sorted(concurrencies):
                    say(f"quality {quality}, chunks of {side}, {concurrency} at once, {device}")
                    cell = {"quality": quality, "chunk": side, "chunks": len(parts), "device": device}
                    found = _cell(parts, quality, device, concurrency, levels, alone, seconds)
                    rows += [{**cell, "concurrency": concurrency, **row} for row in found]
    return rows


def _levels(parts: list[Pixels], quality: int) -> Levels:
    """The level of each classical codec at which its PSNR is nearest to caecodec's at a quality."""
    sample = compared.sample(parts)
    target, _ = compared.quality_of(compared.caecodec(CAECODEC, quality, "cpu"), sample)
    levels: Levels = {}
    for name in CLASSICAL:
        try:
            compared.imagecodecs(name)
            levels[name] = compared.level_for(name, sample, target)
        except MissingError as missing:
            levels[name] = missing
    return levels


def _cell(
    parts: list[Pixels], quality: int, device: str, concurrency: int, levels: Levels, alone: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """The rows of one cell; `alone` keeps the memory that each codec needs for one caller."""
    rows: dict[str, dict[str, Any]] = {}
    ready: dict[str, ComparedCodec] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chunks.npy"
        np.save(path, np.stack(parts[:concurrency]))
        for name in compared.names(device):
            try:
                level = levels.get(name)
                if isinstance(level, MissingError):
                    raise level
                ready[name] = compared.build(name, quality, device, concurrency, level)
                refusal = memory.refusal(alone[name], concurrency) if name in alone else None
                if refusal:
                    raise MissingError(refusal)
                taken = memory.measure(name, quality, device, concurrency, level, path)
                alone.setdefault(name, taken)
                rows[name] = {"codec": name, "missing": None, "setting": ready[name].setting, "memory": taken}
            except (MissingError, RuntimeError) as missing:
                ready.pop(name, None)
                rows[name] = {"codec": name, "missing": str(missing)}
    times = _times(ready, parts, concurrency, seconds, rows)
    megapixels = sum(part.shape[0] * part.shape[1] for part in parts) / 1e6
    for name in ready:
        for direction in DIRECTIONS:
            ours = times.get((CAECODEC, direction))
            rows[name][direction] = _speed(times[name, direction], ours, megapixels)
    return list(rows.values())


def _times(
    ready: dict[str, ComparedCodec], parts: list[Pixels], concurrency: int, seconds: float, rows: dict[str, dict[str, Any]]
) -> dict[tuple[str, str], timing.Turns]:
    """Seconds by codec and direction, taken in turns; adds PSNR and bits per pixel to the rows."""
    stored: dict[str, list[Any]] = {}
    decoded: dict[str, list[Any]] = {}
    with timing.callers(concurrency) as each:

        def tasks() -> Iterator[tuple[tuple[str, str], Callable[[], None]]]:
            for name, codec in ready.items():
                inputs = [codec.prepare(part) for part in parts]

                def encode(name: str = name, codec: ComparedCodec = codec, inputs: list[Any] = inputs) -> None:
                    stored[name] = each(codec.encode, inputs)

                def decode(name: str = name, codec: ComparedCodec = codec) -> None:
                    decoded[name] = each(codec.decode, stored[name])

                yield (name, "encode"), encode
                yield (name, "decode"), decode

        times = timing.in_turn(dict(tasks()), seconds)
    for name, codec in ready.items():
        rows[name].update(psnr=None, bpp=None)
        if codec.size is not None:
            values = sum(part.size for part in parts)
            errors = sum(squared_errors(a, b) for a, b in zip(decoded[name], parts, strict=True))
            rows[name].update(psnr=psnr(errors, values), bpp=8 * sum(map(codec.size, stored[name])) / (values / 3))
    return times


def _speed(times: timing.Turns, ours: timing.Turns | None, megapixels: float) -> dict[str, Any]:
    """Speeds in the median round; an MB is 10^6 bytes of 8-bit RGB. `speedup` says how many times as fast caecodec is.

    `first_s` is the time of the first call, in which a codec loads, compiles or allocates what it keeps.
    """
    typical = median(times.rounds)
    rate = megapixels / typical
    return {
        "first_s": times.first,
        "seconds": typical,
        "rounds": len(times.rounds),
        "mp_s": rate,
        "mb_s": 3 * rate,
        "speedup": timing.ratio(ours.rounds, times.rounds) if ours else None,
    }
