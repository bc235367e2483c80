"""Speed and memory of the codec beside others, on photographs: python tests/benchmarks [IMAGES] [--json FILE].

Prints Markdown tables, at last what is wished and what was found, and writes the same as JSON. Times are medians of rounds in
which all take turns; ratios are taken round by round. Without IMAGES, a folder, scikit-image's photographs are used.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import fresh, images, scaling, speed, stages, startup, tables, targets, through_zarr

PARTS = ("speed", "stages", "zarr", "startup", "scaling")
DEVICES = ("cpu", "cuda")
PACKAGES = ("caecodec", "torch", "numpy", "zarr", "compressai", "imagecodecs")
MULTIPLE = 16  # CompressAI takes no other sides


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
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
    parser.add_argument("--parts", type=_choices(PARTS), default=list(PARTS), help="of " + ",".join(PARTS) + "; default all")
    parser.add_argument("--qualities", type=_numbers(1, 8), default=[4], help="default 4")
    parser.add_argument("--chunks", type=_sides, default=[128, 256, 512, 1024, 2048], help="sides, default 128,256,...,2048")
    parser.add_argument("--concurrency", type=_numbers(1, 256), default=[1, 8], help="chunks at once, default 1,8")
    parser.add_argument("--device", type=_choices(DEVICES), default=list(DEVICES), help="of cpu,cuda; default both")
    parser.add_argument("--seconds", type=float, default=5, help="for each codec, direction and cell, default %(default)s")
    parser.add_argument("--count", type=int, help="chunks in a cell; default about two megapixels, and one for each caller")
    parser.add_argument("--across", type=int, default=8, help="chunks across an array through zarr, default %(default)s")
    parser.add_argument("--rounds", type=int, default=startup.ROUNDS, help="of start-up, default %(default)s")
    parser.add_argument("--up-to", type=int, default=64, help="megapixels of scaling, default %(default)s; 1024 takes long")
    parser.add_argument(
        "--regions", type=_numbers(0, 2**15), default=[2048, scaling.WHOLE],
        help="sides of what scaling writes and reads in one call, 0 being the whole array; default 2048,0",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results here")
    return parser


def _choices(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r} must be some of {','.join(known)}")
        return chosen

    return parse


def _numbers(least: int, most: int) -> Callable[[str], list[int]]:
    def parse(text: str) -> list[int]:
        if not all(part.isdecimal() and least <= int(part) <= most for part in text.split(",")):
            raise argparse.ArgumentTypeError(f"{text!r} must be numbers from {least} to {most}, with commas between them")
        return [int(part) for part in text.split(",")]

    return parse


def _sides(text: str) -> list[int]:
    sides = _numbers(64, 8192)(text)
    if any(side % MULTIPLE for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} must be multiples of {MULTIPLE}")
    return sides


def _devices(wanted: list[str]) -> tuple[list[str], list[str]]:
    """Those that are there, and a line for each that is not."""
    import torch

    if "cuda" in wanted and not torch.cuda.is_available():
        return [device for device in wanted if device != "cuda"], ["cuda: not measured, PyTorch finds no CUDA device"]
    return wanted, []


def about(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """Machine, packages and options."""
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
        return startup.run(found, options.rounds, _say)
    if part == "scaling":
        return scaling.run(found, options.up_to, options.regions, devices, _say)
    common = (found, options.qualities, options.chunks)
    if part == "speed":
        return speed.run(*common, options.concurrency, devices, options.seconds, options.count, _say)
    if part == "stages":
        return stages.run(*common, devices, options.seconds, options.count, _say)
    return through_zarr.run(*common, devices, options.seconds, options.across, _say)


def _show(part: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    if part == "speed":
        yield (
            "Classical codecs have the setting whose PSNR on these chunks is nearest to caecodec's, and as many threads as "
            "leave each caller a share of the cores. `caecodec is` compares speeds: 2 x is twice as fast. Peak memory is "
            "that of a process of its own; work is above what it had after one small chunk."
        )
        yield from tables.speed(rows)
        yield from tables.summary(rows)
    elif part == "stages":
        yield f"Shares of the codec's time, one chunk after the other:\n\n{tables.stages(rows)}"
    elif part == "zarr":
        yield f"Arrays in memory, through zarr with its default settings:\n\n{tables.zarr(rows)}"
    elif part == "startup":
        yield f"Fresh processes:\n\n{tables.startup(rows)}"
    else:
        yield f"Arrays in files, quality 4, chunks of 512, by size (MP of 2^20 pixels):\n\n{tables.scaling(rows)}"
