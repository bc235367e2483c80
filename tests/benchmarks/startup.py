"""The first decode in a fresh process: imports, weights, network, one chunk."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from . import fresh

ROUNDS = 5


def run(images: list[Any], rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Medians of fresh processes in turn, in seconds: `import_s`, `first_s` and `second_s` decode of 256 x 256 pixels.

    `wall_s` is the whole process, from its start to its end.
    """
    import numpy as np

    from . import contenders
    from .images import chunks

    with tempfile.TemporaryDirectory() as folder:
        (chunk,) = chunks(images, 256, 1)
        np.save(Path(folder) / "chunk.npy", chunk)
        payload = Path(folder) / "chunk.cae"
        payload.write_bytes(contenders.caecodec(contenders.CAECODEC, 4, "cpu").encode(chunk))
        tasks = {
            "caecodec": ("decode_ours", {"payload": str(payload)}),
            contenders.COMPRESSAI: ("decode_theirs", {"chunk": str(Path(folder) / "chunk.npy")}),
        }
        rows: dict[str, dict[str, Any]] = {name: {"contender": name, "missing": None} for name in tasks}
        try:
            contenders.compressai(4, "cpu")
        except contenders.MissingError as missing:
            rows[contenders.COMPRESSAI]["missing"] = str(missing)
            del tasks[contenders.COMPRESSAI]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
        for turn in range(rounds + 1):
            say(f"start-up: round {turn} of {rounds}")
            for name, (function, arguments) in tasks.items():
                found[name].append(fresh.call("startup", function, **arguments))
    for name, results in found.items():
        rows[name].update({key: median(result[key] for result in results[1:]) for key in results[0]})  # the first fills caches
    return list(rows.values())


def decode_ours(payload: str) -> dict[str, float]:
    """Import, first decode and second decode, in seconds."""
    start = time.perf_counter()
    import caecodec

    imported = time.perf_counter()
    data = Path(payload).read_bytes()
    caecodec.decode(data, gpu=False)
    first = time.perf_counter()
    caecodec.decode(data, gpu=False)
    again = time.perf_counter()
    return {"import_s": imported - start, "first_s": first - imported, "second_s": again - first}


def decode_theirs(chunk: str) -> dict[str, float]:
    """The same of CompressAI; its first decode includes making the network, and the process also encodes the chunk."""
    start = time.perf_counter()
    import compressai.models  # noqa: F401  # the import that is timed

    imported = time.perf_counter()
    import numpy as np

    from . import contenders

    out = contenders.compressai(4, "cpu").encode(np.load(chunk))
    ready = time.perf_counter()
    net = contenders.compressai(4, "cpu")
    net.decode(out)
    first = time.perf_counter()
    net.decode(out)
    again = time.perf_counter()
    return {"import_s": imported - start, "first_s": first - ready, "second_s": again - first}
