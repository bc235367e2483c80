"""Speed of arrays in memory through zarr with its default settings, compared with the same chunks one by one."""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import zarr

import caecodec

from . import compared, fresh, timing
from .compared import CAECODEC, MissingError
from .images import Pixels, chunks, mosaic
from .speed import Say

ACROSS = 8  # makes 64 chunks
MOST_SIDE = 4096  # largest side of an array
ZARR, ALONE, NETWORK, JPEG2K = "caecodec through zarr", "caecodec, one by one", "its network alone", "JPEG 2000 through zarr"
FAST, FAST_WEIGHTS = "photo-fast through zarr", "photo-fast"
DIRECTIONS = ("write", "read")


def run(
    images: list[Pixels], qualities: list[int], sides: list[int], devices: list[str], seconds: float, across: int, say: Say
) -> list[dict[str, Any]]:
    """For each quality, side of chunks and device, rows with the speeds of writing and reading in each way.

    `speedup` says how many times as fast caecodec through zarr is, and `first_s` how long the first call takes, after those of
    the rows above. Arrays have `across` x `across` chunks, or fewer if chunks are large. The network alone takes all chunks at
    once; on a GPU they are there already, and its results stay there.
    """
    rows = []
    for quality in qualities:
        for side in sides:
            used = max(1, min(across, MOST_SIDE // side))
            source = mosaic(images, min(MOST_SIDE, max(512, used * side)))
            array = np.ascontiguousarray(source[: used * side, : used * side])
            for device in devices:
                say(f"through zarr: quality {quality}, {used**2} chunks of {side}, {device}")
                cell = {"quality": quality, "chunk": side, "chunks": used**2, "device": device}
                rows += [{**cell, **row} for row in _cell(array, quality, side, device, seconds)]
    return rows


def _cell(array: Pixels, quality: int, side: int, device: str, seconds: float) -> list[dict[str, Any]]:
    parts = chunks([array], side, (len(array) // side) ** 2)
    gpu = device == "cuda"
    codec = caecodec.zarr.ConvolutionalAutoencoder(quality=quality, gpu=gpu)
    stored = _empty(array, side, {"serializer": codec, "compressors": None})
    faster = caecodec.zarr.ConvolutionalAutoencoder(quality=quality, weights=FAST_WEIGHTS, gpu=gpu)
    fast = _empty(array, side, {"serializer": faster, "compressors": None})
    tasks: dict[tuple[str, str], Callable[[], Any]] = {
        (ZARR, "write"): partial(stored.__setitem__, Ellipsis, array),
        (ZARR, "read"): partial(stored.__getitem__, Ellipsis),
        (FAST, "write"): partial(fast.__setitem__, Ellipsis, array),
        (FAST, "read"): partial(fast.__getitem__, Ellipsis),
    }
    one_by_one = compared.caecodec(CAECODEC, quality, device)
    payloads: list[Any] = []
    tasks[ALONE, "write"] = lambda: payloads.__setitem__(slice(None), [one_by_one.encode(part) for part in parts])
    tasks[ALONE, "read"] = lambda: [one_by_one.decode(payload) for payload in payloads]
    network = compared.network(quality, device)
    batch, symbols = network.prepare(np.stack(parts)), []
    tasks[NETWORK, "write"] = lambda: symbols.__setitem__(slice(None), [network.encode(batch)])
    tasks[NETWORK, "read"] = lambda: network.decode(symbols[0])
    rows: dict[str, dict[str, Any]] = {name: {"codec": name, "missing": None} for name in (ZARR, FAST, ALONE, NETWORK)}
    if device == "cpu":
        try:
            theirs = _empty(array, side, _jpeg2k(parts, quality))
            tasks[JPEG2K, "write"] = partial(theirs.__setitem__, Ellipsis, array)
            tasks[JPEG2K, "read"] = partial(theirs.__getitem__, Ellipsis)
            rows[JPEG2K] = {"codec": JPEG2K, "missing": None}
        except MissingError as missing:
            rows[JPEG2K] = {"codec": JPEG2K, "missing": str(missing)}
    times = timing.in_turn(tasks, seconds)
    for (name, direction), taken in times.items():
        seconds = median(taken.rounds)
        rate = array.size / 3e6 / seconds
        speedup = timing.ratio(times[ZARR, direction].rounds, taken.rounds)
        rows[name][direction] = {
            "first_s": taken.first, "seconds": seconds, "mp_s": rate, "mb_s": 3 * rate, "speedup": speedup
        }  # fmt: skip
    return list(rows.values())


def _empty(array: Pixels, side: int, options: dict[str, Any]) -> zarr.Array[Any]:
    store = zarr.storage.MemoryStore()
    return zarr.create_array(store=store, shape=array.shape, dtype=array.dtype, chunks=(side, side, 3), **options)


def _jpeg2k(parts: list[Pixels], quality: int) -> dict[str, Any]:
    """Options for a Zarr v2 array, because imagecodecs has Zarr v3 codecs only for some versions of Python."""
    compared.imagecodecs("JPEG 2000")
    from imagecodecs import numcodecs

    sample = compared.sample(parts)
    target, _ = compared.quality_of(compared.caecodec(CAECODEC, quality, "cpu"), sample)
    level = compared.level_for("JPEG 2000", sample, target)
    numcodecs.register_codecs(["imagecodecs_jpeg2k"], verbose=False)
    codec = numcodecs.Jpeg2k(level=round(level), codecformat="j2k", reversible=False, numthreads=max(1, fresh.cores() // 8))
    return {"compressors": codec, "zarr_format": 2}
