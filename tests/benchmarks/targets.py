"""The targets of the codec, mostly as ratios within one run, and the results of a run."""

from collections.abc import Iterator
from typing import Any

from . import compared, through_zarr
from .scaling import WHOLE

Row = dict[str, Any]
QUALITY = 4
SIDES = (256, 512)
GIB = 2**30


def of(results: dict[str, list[Row]]) -> list[Row]:
    """A row for each target and place: `required`, `measured` (None: `missing` says why) and `met`."""
    rows = [*_speed(results.get("speed", [])), *_zarr(results.get("zarr", []))]
    rows += [*_scaling(results.get("scaling", [])), *_startup(results.get("startup", []))]
    return rows


def _row(target: str, where: str, sign: str, bound: float, unit: str, measured: float | None, missing: str = "") -> Row:
    met = None if measured is None else measured >= bound if sign == ">=" else measured <= bound
    required = f"{sign} {bound:g} {unit}".strip()
    why = None if measured is not None else missing or "not measured in this run"
    return {"target": target, "where": where, "required": required, "measured": measured, "met": met, "missing": why}


def _speed(rows: list[Row]) -> Iterator[Row]:
    targets = (
        ("cpu", compared.COMPRESSAI, ("encode", "decode"), "speed over CompressAI's", ">=", 8.0),
        ("cpu", compared.NETWORK, ("encode", "decode"), "time over its network's", "<=", 1.15),
        ("cpu", "JPEG 2000", ("encode",), "speed over JPEG 2000's", ">=", 0.5),
        ("cuda", compared.COMPRESSAI, ("encode", "decode"), "speed over CompressAI's", ">=", 20.0),
    )
    for device, name, directions, target, sign, bound in targets:
        found = [
            row for row in rows
            if (row["quality"], row["device"], row["codec"]) == (QUALITY, device, name) and row["chunk"] in SIDES
        ]  # fmt: skip
        if not found:
            yield _row(target, device, sign, bound, "x", None)
        for row in found:
            for direction in directions:
                where = f"{direction}, {device}, {row['chunk']}, {row['concurrency']} at once"
                speedup = None if row["missing"] else row[direction]["speedup"]
                measured = speedup and (1 / speedup if sign == "<=" else speedup)
                yield _row(target, where, sign, bound, "x", measured, row["missing"] or "")


def _zarr(rows: list[Row]) -> Iterator[Row]:
    for device in ("cpu", "cuda"):
        cells: dict[int, dict[str, Row]] = {}
        for row in rows:
            if (row["quality"], row["device"]) == (QUALITY, device) and row["chunk"] in SIDES:
                cells.setdefault(row["chunk"], {})[row["codec"]] = row
        if not cells:
            yield _row("speed through zarr", device, ">=", 1.3 if device == "cpu" else 1000, "", None)
        for side, cell in cells.items():
            where = f"read, {device}, {cell[through_zarr.ZARR]['chunks']} x {side}"
            yield from _fast(cell, device, side)
            if device == "cpu":
                alone = cell[through_zarr.ALONE]["read"]["speedup"]
                yield _row("speed through zarr over one by one", where, ">=", 1.3, "x", alone)
                continue
            for direction in through_zarr.DIRECTIONS:
                where = f"{direction}, {device}, {cell[through_zarr.ZARR]['chunks']} x {side}"
                yield _row("speed through zarr", where, ">=", 1000, "MB/s", cell[through_zarr.ZARR][direction]["mb_s"])
                share = 100 * cell[through_zarr.NETWORK][direction]["speedup"]
                yield _row("speed through zarr over its network's", where, ">=", 50, "%", share)


def _fast(cell: dict[str, Row], device: str, side: int) -> Iterator[Row]:
    """The faster weights against the default ones and, on a CPU, JPEG 2000 at the PSNR of these."""
    fast = cell[through_zarr.FAST]
    for direction, over_default, over_jpeg2k in (("write", 4, 1.5), ("read", 4, 0.4)):
        where = f"{direction}, {device}, {fast['chunks']} x {side}"
        yield _row("speed of photo-fast over the default's", where, ">=", over_default, "x", 1 / fast[direction]["speedup"])
        theirs = cell.get(through_zarr.JPEG2K)
        if theirs:
            speed = None if theirs["missing"] else theirs[direction]["speedup"] / fast[direction]["speedup"]
            yield _row("speed of photo-fast over JPEG 2000's", where, ">=", over_jpeg2k, "x", speed, theirs["missing"] or "")


def _scaling(rows: list[Row]) -> Iterator[Row]:
    kinds = sorted({(row["device"], row["region"]) for row in rows})
    for device, region in kinds:
        by = "one call" if region == WHOLE else f"regions of {region}"
        kind = [row for row in rows if (row["device"], row["region"]) == (device, region)]
        largest = max(kind, key=lambda row: row["size"])
        memory = None if largest["missing"] else largest["above"] / GIB
        where = f"{largest['size']} MP, {device}, {by}"
        yield _row("peak memory above the array", where, "<=", 2, "GiB", memory, largest["missing"] or "")
        done = [row for row in kind if not row["missing"]]
        if len(done) > 1:
            first, last = (min(done, key=lambda row: row["size"]), max(done, key=lambda row: row["size"]))
            for name in ("write", "read"):
                where = f"{name}, {last['size']} MP over {first['size']} MP, {device}, {by}"
                yield _row("time per pixel", where, "<=", 1.2, "x", first[f"{name}_mp_s"] / last[f"{name}_mp_s"])
    if not kinds:
        yield _row("peak memory above the array", "", "<=", 2, "GiB", None)


def _startup(rows: list[Row]) -> Iterator[Row]:
    ours = [row["start_s"] for row in rows if (row["codec"], row["device"]) == (compared.CAECODEC, "cpu")]
    yield _row("first decode in a fresh process", "cpu, 256", "<=", 2.5, "s", ours[0] if ours else None)
