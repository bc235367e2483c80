"""Run-time choices that change speed and memory but are never stored with the data.

Each setting is an environment variable, so it reaches threads and child processes (dask workers included) alike:

=====================  ===========================================================  ====================================
variable               meaning                                                      default
=====================  ===========================================================  ====================================
CAECODEC_DEVICE        cpu, cuda, cuda:N, or auto (CUDA if present, else CPU)       cpu
CAECODEC_PRECISION     fp32, bf16 (faster, up to 0.05 dB less), or auto: bf16 if    auto
                       the CPU or GPU has it, where it costs less than 0.02 dB
CAECODEC_THREADS       CPU threads of the network, 0 = PyTorch's own choice          0
CAECODEC_MAX_BATCH     most images in one pass of the network                        16; on CUDA 256
CAECODEC_MEMORY        bytes for all passes (suffixes K, M, G); the rest is tiled   1G; on CUDA a quarter of its memory
CAECODEC_LAYERS        layers of scalable arrays to fetch and decode, 0 = all       0
CAECODEC_MAX_PIXELS    most pixels of an image file other than TIFF                 178956970
CAECODEC_WEIGHTS       a folder of weights files, searched before all others
CAECODEC_USER_WEIGHTS  the folder that `caecodec weights install` writes to          in the user's data folder
=====================  ===========================================================  ====================================
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ParameterError

MAX_PIXELS = 178956970  # Pillow refuses to open files of more
CUDA_BATCH = 256  # a GPU decodes the streams of a batch in parallel, in the time of one
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Settings:
    """The settings in force, parsed."""

    device: str = "cpu"
    precision: str = "auto"
    threads: int = 0
    max_batch: int = 16
    memory: int = 2**30
    layers: int = 0
    max_pixels: int = MAX_PIXELS
    weights: Path | None = None
    user_weights: Path | None = None


def parse_device(text: str, name: str = "CAECODEC_DEVICE") -> str:
    """A PyTorch device or "auto", checked; ParameterError for anything else, whose message calls the setting `name`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ParameterError(f"{name} is {text!r} but must be cpu, cuda, cuda:N or auto")
    return text


def _parse_precision(text: str) -> str:
    if text not in ("auto", "fp32", "bf16"):
        raise ParameterError(f"CAECODEC_PRECISION is {text!r} but must be auto, fp32 or bf16")
    return text


def _parse_count(name: str, text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise ParameterError(f"{name} is {text!r} but must be an integer of at least {minimum}")
    return int(text)


def _parse_memory(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if size < 2**24:
        raise ParameterError(f"CAECODEC_MEMORY is {text!r} but must be a size of at least 16M, such as 512M or 2G")
    return size


def current() -> Settings:
    """The settings in force now, read from the environment.

    Raises
    ------
    ParameterError
        A variable holds a value outside its range.
    """

    def get(name: str, default: str) -> str:
        return os.environ.get(name) or default

    def folder(name: str) -> Path | None:
        text = get(name, "")
        return Path(text) if text else None

    return Settings(
        device=parse_device(get("CAECODEC_DEVICE", "cpu")),
        precision=_parse_precision(get("CAECODEC_PRECISION", "auto")),
        threads=_parse_count("CAECODEC_THREADS", get("CAECODEC_THREADS", "0"), 0),
        max_batch=_parse_count("CAECODEC_MAX_BATCH", get("CAECODEC_MAX_BATCH", "16"), 1),
        memory=_parse_memory(get("CAECODEC_MEMORY", "1G")),
        layers=_parse_count("CAECODEC_LAYERS", get("CAECODEC_LAYERS", "0"), 0),
        max_pixels=_parse_count("CAECODEC_MAX_PIXELS", get("CAECODEC_MAX_PIXELS", str(MAX_PIXELS)), 1),
        weights=folder("CAECODEC_WEIGHTS"),
        user_weights=folder("CAECODEC_USER_WEIGHTS"),
    )


def on_cuda(memory: int) -> Settings:
    """`current` for a CUDA device with this many bytes of memory, whose own defaults replace settings that are not set."""
    defaults = {"max_batch": CUDA_BATCH, "memory": memory // 4}
    unset = {name: value for name, value in defaults.items() if not os.environ.get(_variable(name))}
    return replace(current(), **unset)  # type: ignore[arg-type]  # mypy checks ** of one dict against every field; these two are int


def configure(**values: str | int | Path | None) -> None:
    """Change settings for this process and the processes it starts later; None restores a default.

    Parameters are the fields of `Settings`: ``configure(device="cuda", memory="4G")``.

    Raises
    ------
    ParameterError
        A setting is unknown or a value is outside its range; then nothing is changed.
    """
    unknown = sorted(set(values) - set(Settings.__dataclass_fields__))
    if unknown:
        known = ", ".join(Settings.__dataclass_fields__)
        raise ParameterError(f"unknown setting {unknown[0]!r}; the settings are {known}")
    before = {name: os.environ.get(name) for name in map(_variable, values)}
    _write({_variable(name): None if value is None else str(value) for name, value in values.items()})
    try:
        current()
    except ParameterError:
        _write(before)
        raise


@contextmanager
def using(**values: str | int | Path | None) -> Iterator[None]:
    """`configure` during a with block. It applies to the whole process, not to one thread."""
    before = {name: os.environ.get(name) for name in map(_variable, values)}
    configure(**values)
    try:
        yield
    finally:
        _write(before)


def _variable(name: str) -> str:
    return f"CAECODEC_{name.upper()}"


def _write(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
