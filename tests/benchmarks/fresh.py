"""Functions of this package in a process of their own, and what a process has of memory."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parent.parent
_CODE = """\
import sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
import json
result = getattr(import_module("benchmarks." + sys.argv[2]), sys.argv[3])(**json.loads(sys.argv[4]))
print("\\n" + json.dumps(result))
"""


def call(module: str, function: str, **arguments: Any) -> dict[str, Any]:
    """The result of a function of a module of this package, called in a new process with arguments that JSON can hold.

    RuntimeError, with the last line that it wrote, when it fails.
    """
    command = [sys.executable, "-W", "ignore", "-c", _CODE, str(_TESTS), module, function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = "it was killed" if done.returncode < 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{module}.{function} failed ({done.returncode}): {reason}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    # Not ru_maxrss where there is a choice: Linux carries that of the parent into a new process.
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """The memory that this process has resident now (where that is not known, the most it has had)."""
    return _status("VmRSS") or peak_bytes()


def available_bytes() -> int | None:
    """The memory that the machine could still give, or None where that is not known."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _status(field: str) -> int | None:
    return _field(Path("/proc/self/status"), field)


def _field(path: Path, field: str) -> int | None:
    if not path.exists():
        return None
    found = [line.split() for line in path.read_text().splitlines() if line.startswith(field + ":")]
    return int(found[0][1]) * 1024 if found else None
