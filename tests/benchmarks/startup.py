"""The time of the first decode in a fresh process, with imports, weights, network and one chunk."""

import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from . import fresh

ROUNDS = 5


def run(images: list[Any], rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Medians in seconds over fresh processes: `import_s`, and `first_s` and `second_s` for decoding 256 x 256 pixels.

    `start_s` is the time from the start of the process to the end of the first decode.
    """
    from . import compared
    from .images import chunks

    (chunk,) = chunks(images, 256, 1)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tasks: dict[str, Path] = {}
        for name in (compared.CAECODEC, compared.COMPRESSAI):
            try:
                payload = compared.build(name, 4, "cpu", 1).encode(chunk)
                tasks[name] = Path(folder) / name
                tasks[name].write_bytes(pickle.dumps(payload))
                rows[name] = {"codec": name, "missing": None}
            except compared.MissingError as missing:
                rows[name] = {"codec": name, "missing": str(missing)}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
        for turn in range(rounds + 1):
            say(f"start-up: round {turn} of {rounds}")
            for name, payload in tasks.items():
                start = time.time()
                times = fresh.call("startup", "child", name=name, payload=str(payload))
                found[name].append({**times, "start_s": times.pop("first_at") - start})
    for name, results in found.items():
        rows[name].update({key: median(result[key] for result in results[1:]) for key in results[0]})  # the first fills caches
    return list(rows.values())


def child(name: str, payload: str) -> dict[str, float]:
    """The seconds of import, first decode and second decode, and the time at which the first decode ended.

    CompressAI's network is built from caecodec's weights, as a part of its first decode.
    """
    start = time.perf_counter()
    if name == "caecodec":
        import caecodec  # noqa: F401  # only the import is timed
    else:
        import compressai.models  # noqa: F401  # only the import is timed
    imported = time.perf_counter()
    from . import compared

    data = pickle.loads(Path(payload).read_bytes())
    codec = compared.build(name, 4, "cpu", 1)
    codec.decode(data)
    first, first_at = time.perf_counter(), time.time()
    codec.decode(data)
    again = time.perf_counter()
    return {"import_s": imported - start, "first_s": first - imported, "second_s": again - first, "first_at": first_at}
