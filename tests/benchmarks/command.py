"""Speed and memory of the codec and others on photographs: python tests/benchmarks [IMAGES] [--json FILE].

Prints Markdown tables, the last of which compares targets with results, and writes the same as JSON. All codecs take turns in
every round; times are medians of the rounds, and ratios are taken round by round. IMAGES is a folder; the default is
scikit-image's photographs.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import fresh, images, line_stages, scaling, speed, stages, startup, tables, targets, through_zarr

PARTS = ("speed", "stages", "zarr", "startup", "scaling")
DEVICES = ("cpu", "cuda")
PACKAGES = ("caecodec", "torch", "numpy", "zarr", "compressai", "imagecodecs")
MULTIPLE = 16  # CompressAI requires sides to be multiples of this


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, and print the results."""
    options = _parser().parse_args(arguments)
    found = images.load(options.images)
    devices, absent = _devices(options.device)
    results: dict[str, Any] = {"about": about(options, len(found)), "absent": absent}
    print(_introduction(results))
    for part in options.parts:
        results[part] = _measure(part, options, found, devices)
        for text in _show(part, results[part]):
            print(f"\n{text}", flush=True)
    results["targets"] = targets.of(results)
    print(f"\nTargets:\n\n{tables.targets(results['targets'])}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python tests/benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="a folder of photographs")
    parser.add_argument(
        "--parts", type=_choices(PARTS), default=list(PARTS), help="some of " + ",".join(PARTS) + "; default all"
    )
    parser.add_argument("--qualities", type=_numbers(1, 8), default=[4], help="default 4")
    parser.add_argument(
        "--chunks", type=_sides, default=[128, 256, 512, 1024, 2048], help="sides of chunks, default 128,256,...,2048"
    )
    parser.add_argument("--concurrency", type=_numbers(1, 256), default=[1, 8], help="chunks at once, default 1,8")
    parser.add_argument("--device", type=_choices(DEVICES), default=list(DEVICES), help="some of cpu,cuda; default both")
    parser.add_argument("--seconds", type=float, default=5, help="time for each codec, direction and cell, default %(default)s")
    parser.add_argument("--count", type=int, help="chunks per cell; default about two megapixels, at least one per caller")
    parser.add_argument("--across", type=int, default=8, help="chunks along a side of arrays for zarr, default %(default)s")
    parser.add_argument(
        "--batches", type=_numbers(1, 4096), default=[1, 16, 256], help="chunks in a batch of a GPU's stages, default 1,16,256"
    )
    parser.add_argument(
        "--traces", type=Path, metavar="FOLDER", help="write traces of a GPU's stages here, for ui.perfetto.dev"
    )
    parser.add_argument("--rounds", type=int, default=startup.ROUNDS, help="rounds of start-up, default %(default)s")
    parser.add_argument(
        "--up-to", type=int, default=64, help="largest array for scaling, in megapixels, default %(default)s; 1024 takes long"
    )
    parser.add_argument(
        "--regions", type=_numbers(0, 2**15), default=[2048, scaling.WHOLE],
        help="sides of the regions that scaling writes and reads in one call, 0 for the whole array; default 2048,0",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results here")
    return parser


def _choices(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r} must be some of {','.join(known)}, separated by commas")
        return chosen

    return parse


def _numbers(least: int, most: int) -> Callable[[str], list[int]]:
    def parse(text: str) -> list[int]:
        if not all(part.isdecimal() and least <= int(part) <= most for part in text.split(",")):
            raise argparse.ArgumentTypeError(f"{text!r} must be numbers from {least} to {most}, separated by commas")
        return [int(part) for part in text.split(",")]

    return parse


def _sides(text: str) -> list[int]:
    sides = _numbers(64, 8192)(text)
    if any(side % MULTIPLE for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} must be multiples of {MULTIPLE}")
    return sides


def _devices(wanted: list[str]) -> tuple[list[str], list[str]]:
    """The devices that are present, and a line for each one that is missing."""
    import torch

    if "cuda" in wanted and not torch.cuda.is_available():
        return [device for device in wanted if device != "cuda"], ["cuda: not measured, because PyTorch finds no CUDA device"]
    return wanted, []


def about(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """The machine, the packages and the options."""
    import torch

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items() if key != "json"}
    return {
        "machine": f"{_processor()}, {fresh.cores()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "images": count,
        "options": given,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _introduction(results: dict[str, Any]) -> str:
    facts = results["about"]
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in facts["versions"].items())
    place = facts["machine"] + (f", {facts['gpu']}" if facts["gpu"] else "")
    lines = [f"{place}; Python {facts['python']}, {versions}; {facts['images']} images.", *results["absent"]]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(part: str, options: argparse.Namespace, found: list[images.Pixels], devices: list[str]) -> list[dict[str, Any]]:
    if part == "startup":
        return startup.run(found, devices, options.rounds, _say)
    if part == "scaling":
        return scaling.run(found, options.up_to, options.regions, devices, _say)
    common = (found, options.qualities, options.chunks)
    if part == "speed":
        return speed.run(*common, options.concurrency, devices, options.seconds, options.count, _say)
    if part == "stages":
        rows = stages.run(*common, options.seconds, options.count, _say) if "cpu" in devices else []
        if "cuda" in options.device:
            present = "cuda" if "cuda" in devices else None
            rows += line_stages.run(*common, options.batches, present, options.traces, _say)
        return rows
    return through_zarr.run(*common, devices, options.seconds, options.across, _say)


def _show(part: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    if part == "speed":
        yield (
            "Classical codecs use the setting whose PSNR on these chunks is nearest to caecodec's, and the threads that each "
            "caller's share of the cores allows. `caecodec is` compares speeds: 2 x is twice as fast. Peak memory is measured "
            "in a separate process; work is the part above its memory after one small chunk."
        )
        yield from tables.speed(rows)
        yield from tables.summary(rows)
    elif part == "stages":
        shares = [row for row in rows if "shares" in row]
        if shares:
            yield f"Shares of the codec's time, with one chunk after the other:\n\n{tables.stages(shares)}"
        yield from tables.line_stages(rows)
    elif part == "zarr":
        yield f"Arrays in memory, written and read through zarr with its default settings:\n\n{tables.zarr(rows)}"
    elif part == "startup":
        yield f"Fresh processes:\n\n{tables.startup(rows)}"
    else:
        yield f"Arrays in files, quality 4, chunks of 512, by size (MP of 2^20 pixels):\n\n{tables.scaling(rows)}"
