"""Calls functions of this package in a new process, and measures the memory of a process."""

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


def call(module: str, function: str, environment: dict[str, str] | None = None, /, **arguments: Any) -> dict[str, Any]:
    """Call a function of a module of this package in a new process, with arguments that JSON can hold.

    The process has these variables besides those of this one.

    Raises RuntimeError, with the last line of its error output, if it fails.
    """
    command = [sys.executable, "-W", "ignore", "-c", _CODE, str(_TESTS), module, function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})})
    if done.returncode:
        reason = "it was killed" if done.returncode < 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{module}.{function} failed ({done.returncode}): {reason}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_bytes() -> int:
    """The peak of this process's resident memory."""
    # Avoid ru_maxrss if possible: on Linux a new process inherits that of its parent.
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """The resident memory of this process now, or its peak if that is not known."""
    return _status("VmRSS") or peak_bytes()


def available_bytes() -> int | None:
    """The memory that is still available, or None if that is not known."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _status(field: str) -> int | None:
    return _field(Path("/proc/self/status"), field)


def _field(path: Path, field: str) -> int | None:
    if not path.exists():
        return None
    found = [line.split() for line in path.read_text().splitlines() if line.startswith(field + ":")]
    return int(found[0][1]) * 1024 if found else None
