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


def run(images: list[Any], devices: list[str], rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Medians in seconds over fresh processes: `import_s`, and `first_s` and `second_s` for decoding 256 x 256 pixels.

    `start_s` is the time from the start of the process to the end of the first decode. On a GPU, `kernels` says whether these
    processes find their kernels in Triton's cache, or compile them.
    """
    from . import compared
    from .images import chunks

    (chunk,) = chunks(images, 256, 1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        found: list[tuple[dict[str, Any], Path, list[dict[str, float]]]] = []
        for name in (compared.CAECODEC, compared.COMPRESSAI):
            payload = Path(folder) / name
            try:
                payload.write_bytes(pickle.dumps(compared.build(name, 4, "cpu", 1).encode(chunk)))
                missing = None
            except compared.MissingError as error:
                missing = str(error)
            for device in devices:
                for kernels in ("cached", "compiled") if device == "cuda" and name == compared.CAECODEC else ("",):
                    rows.append({"codec": name, "device": device, "kernels": kernels, "missing": missing})
                    if missing is None:
                        found.append((rows[-1], payload, []))
        for turn in range(rounds + 1):
            say(f"start-up: round {turn} of {rounds}")
            for row, payload, results in found:
                cache = Path(folder) / (f"compiled-{turn}" if row["kernels"] == "compiled" else "cached")
                start = time.time()
                times = fresh.call(
                    "startup", "child", {"TRITON_CACHE_DIR": str(cache)},
                    name=row["codec"], device=row["device"], payload=str(payload),
                )  # fmt: skip
                results.append({**times, "start_s": times.pop("first_at") - start})
    for row, _, results in found:
        row.update({key: median(result[key] for result in results[1:]) for key in results[0]})  # the first fills caches
    return rows


def child(name: str, device: str, payload: str) -> dict[str, float]:
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
    codec = compared.build(name, 4, device, 1)
    codec.decode(data)
    first, first_at = time.perf_counter(), time.time()
    codec.decode(data)
    again = time.perf_counter()
    return {"import_s": imported - start, "first_s": first - imported, "second_s": again - first, "first_at": first_at}
