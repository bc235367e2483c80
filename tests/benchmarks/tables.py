"""Formats results as Markdown tables."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from .stages import STAGES


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; short rows are padded."""
    lines = [head, ["---"] * len(head), *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A number with three significant digits, without exponent."""
    if value is None:
        return ""
    text = f"{value:#.{digits}g}"
    return f"{value:.0f}" if "e" in text or abs(value) >= 10**digits else text.rstrip(".")


def mib(value: float | None) -> str:
    """A number of bytes in MiB."""
    return "" if value is None else f"{value / 2**20:.0f}"


def speed(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Speeds and memory, in a table for each quality, device and number of callers."""
    head = [
        "chunk", "codec", "setting", "bpp", "PSNR", "encode MP/s", "MB/s", "caecodec is", "first s", "decode MP/s", "MB/s",
        "caecodec is", "first s", "peak MiB", "of that, work",
    ]  # fmt: skip

    def cell(row: dict[str, Any]) -> tuple[int, str, int]:
        return row["quality"], row["device"], row["concurrency"]

    for (quality, device, concurrency), group in groupby(sorted(rows, key=cell), cell):
        yield f"Quality {quality}, {device}, chunks {_callers(concurrency)}:\n\n" + table(head, map(_speed, group))


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A short table for each quality and device: how many times as fast as each codec caecodec encodes and decodes."""

    def kind(row: dict[str, Any]) -> tuple[int, str]:
        return row["quality"], row["device"]

    def ratios(row: dict[str, Any]) -> str:
        if row["missing"]:
            return str(row["missing"]).split(":")[0]
        return ", ".join(_short(row[direction]["speedup"]) for direction in ("encode", "decode"))

    for (quality, device), group in groupby(sorted(rows, key=kind), kind):
        names: dict[str, dict[tuple[int, int], str]] = {}
        for row in group:
            names.setdefault(row["codec"], {})[row["chunk"], row["concurrency"]] = ratios(row)
        ours, *others = names
        cells = sorted(names[ours])
        head = [f"chunks of {chunk}, {_callers(callers)}" for chunk, callers in cells]
        lines = [[name, *(names[name][cell] for cell in cells)] for name in others]
        yield (
            f"Quality {quality}, {device}: how many times as fast as each codec {ours} encodes, and decodes:\n\n"
            + table(["", *head], lines)
        )


def _times(value: float | None) -> str:
    return "" if value is None else f"{number(value)} x"


def _short(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def _callers(concurrency: int) -> str:
    return "one after the other" if concurrency == 1 else f"{concurrency} at once"


def _speed(row: dict[str, Any]) -> list[str]:
    start = [f"{row['chunks']} x {row['chunk']}", row["codec"]]
    if row["missing"]:
        return [*start, row["missing"]]
    speeds = []
    for direction in ("encode", "decode"):
        found = row[direction]
        speeds += [number(found["mp_s"]), number(found["mb_s"]), _times(found["speedup"]), number(found["first_s"])]
    taken = row["memory"]
    gpu = f" + {mib(taken['gpu'])} GPU" if taken["gpu"] else ""
    quality = [number(row["bpp"]), "" if row["psnr"] is None else f"{row['psnr']:.2f}"]
    return [*start, row["setting"], *quality, *speeds, mib(taken["peak"]) + gpu, mib(taken["work"])]


def stages(rows: list[dict[str, Any]]) -> str:
    """Shares of the time of the whole codec."""
    names = (*STAGES, "other")
    return table(
        ["quality", "device", "chunk", "", *names],
        (
            [str(row["quality"]), row["device"], str(row["chunk"]), row["direction"]]
            + [f"{100 * row['shares'][name]:.1f} %" for name in names]
            for row in rows
        ),
    )


def line_stages(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Two tables for each batch of a CUDA device: what each stage does, and how long it takes."""
    for row in rows:
        batch = f"a batch of {row.get('chunks')} chunks of {row['chunk']}, quality {row['quality']}: {row['direction']}"
        if "work" in row:
            waits = f"the host waits {row['waits']['fetch'] + row['waits']['others']} time(s) for the device"
            head = ["stage", "launches", "MB moved", "MB copied", "10^9 operations"]
            lines = [
                [name, str(work["launches"]), *(number(work[what] / scale) for what, scale in _WORK)]
                for name, work in row["work"].items()
            ]
            total = [sum(work[what] for work in row["work"].values()) / scale for what, scale in (("launches", 1), *_WORK)]
            lines.append(["all", f"{total[0]:.0f}", *map(number, total[1:])])
            yield f"Counted, {batch}; {waits}:\n\n{table(head, lines)}"
        elif "stages" in row:
            lines = [[name, number(times["device_ms"]), number(times["host_ms"])] for name, times in row["stages"].items()]
            yield (
                f"Timed, {batch}: {number(row['ms'])} ms, {number(1000 * row['megabytes'] / row['ms'])} MB/s; the first call "
                f"took {number(row['first_ms'])} ms; {row['pinned']} new allocations of pinned memory:\n\n"
                + table(["stage", "device ms", "host ms"], lines)
            )


_WORK = (("bytes", 1e6), ("copied", 1e6), ("operations", 1e9))


def zarr(rows: list[dict[str, Any]]) -> str:
    """Speeds through zarr."""
    head = [
        "quality", "device", "chunks", "", "write MP/s", "MB/s", "through zarr is", "first s", "read MP/s", "MB/s",
        "through zarr is", "first s",
    ]  # fmt: skip

    def line(row: dict[str, Any]) -> list[str]:
        start = [str(row["quality"]), row["device"], f"{row['chunks']} x {row['chunk']}", row["codec"]]
        if row["missing"]:
            return [*start, row["missing"]]
        speeds = []
        for direction in ("write", "read"):
            found = row[direction]
            speeds += [number(found["mp_s"]), number(found["mb_s"]), _times(found["speedup"]), number(found["first_s"])]
        return [*start, *speeds]

    return table(head, map(line, rows))


def startup(rows: list[dict[str, Any]]) -> str:
    """Seconds of fresh processes."""
    keys = ("import_s", "first_s", "start_s", "second_s")

    def line(row: dict[str, Any]) -> list[str]:
        found = [row["missing"]] if row["missing"] else [number(row[key]) for key in keys]
        return [row["codec"], row["device"], row["kernels"], *found]

    head = ["", "device", "kernels", "import s", "first decode s", "both, and Python's start s", "second decode s"]
    return table(head, map(line, rows))


def scaling(rows: list[dict[str, Any]]) -> str:
    """Speeds and memory by size."""
    head = [
        "MP",
        "device",
        "by",
        "first chunk s",
        "write MP/s",
        "read MP/s",
        "PSNR",
        "peak MiB",
        "array in memory MiB",
        "above it MiB",
    ]

    def line(row: dict[str, Any]) -> list[str]:
        region = f"regions of {row['region']}" if row["region"] else "one call"
        start = [str(row["size"]), row["device"], region]
        if row["missing"]:
            return [*start, row["missing"]]
        speeds = [number(row["first_s"]), number(row["write_mp_s"]), number(row["read_mp_s"]), f"{row['psnr']:.2f}"]
        return [*start, *speeds, mib(row["peak"]), mib(row["array"]), mib(row["above"])]

    return table(head, map(line, rows))


def targets(rows: list[dict[str, Any]]) -> str:
    """Targets and measurements."""
    return table(
        ["target", "where", "required", "measured", ""],
        (
            (
                row["target"],
                row["where"],
                row["required"],
                row["missing"] or number(row["measured"]),
                {None: "", True: "met", False: "missed"}[row["met"]],
            )
            for row in rows
        ),
    )
