"""Saves results as they come, in a file of JSON lines, so that an interrupted evaluation can continue where it stopped.

Each line holds the measurements of one image coded at one setting, and its payloads. The key is a digest of everything that
these depend on: the image's pixels, the codec with its parameters and weights, the chunk size, and caecodec's version.
"""

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..errors import ParameterError
from .compared import CodecSetting
from .curves import Measurement

_START = b'{"key": "'


class Cache:
    """The results in a file, which is created if it does not exist.

    Raises ParameterError for a file that cannot be used or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        try:
            with path.open("a+b") as file:
                file.seek(0)
                place = 0
                for line in file:
                    if not line.endswith(b"\n"):
                        if line[: len(_START)] != _START[: len(line)]:
                            raise ValueError("its last line does not end")
                        file.truncate(place)  # the run that wrote it was killed while writing
                        break
                    self._places[json.loads(line)["key"]] = place
                    place += len(line)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ParameterError(
                f"cache {path} cannot be used: {error!r}; name a file that an evaluation made, or a new one"
            ) from error

    def get(self, key: str, image: str) -> tuple[Measurement, list[bytes]] | None:
        """The measurement saved under this key, for an image of this name, and the payloads; None if there is none."""
        if key not in self._places:
            return None
        with self._path.open("rb") as file:
            file.seek(self._places[key])
            found = json.loads(file.readline())
        values = found["values"]
        exact = {"psnr": math.inf} if values["psnr"] is None else {}
        return Measurement(**{**values, **exact, "image": image}), [base64.b64decode(text) for text in found["payloads"]]

    def put(self, key: str, codec: str, setting: str, values: Measurement, payloads: Sequence[bytes]) -> None:
        """Save a measurement and its payloads under this key; the names help people who read the file."""
        content: dict[str, Any] = {"key": key, "codec": codec, "setting": setting, "values": dataclasses.asdict(values)}
        if math.isinf(values.psnr):
            content["values"]["psnr"] = None
        content["payloads"] = [base64.b64encode(payload).decode() for payload in payloads]
        with self._path.open("ab") as file:
            place = file.seek(0, 2)
            file.write(json.dumps(content).encode() + b"\n")
        self._places[key] = place


def key(pixels: npt.NDArray[np.uint8], setting: CodecSetting, chunk: int) -> str:
    """The key of the results of an image (height, width, 3) at this setting, in chunks of this size."""
    image = hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
    return hashlib.sha256(repr((__version__, pixels.shape, image, setting.about, chunk)).encode()).hexdigest()
