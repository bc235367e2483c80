"""Folders and files, to OME-NGFF groups or .cae files, and back: each output whole or not there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CaeCodecError, ParameterError
from .files import SUFFIXES, Photograph, read_image, writable, write_image
from .groups import read_group, write_group
from .options import Options
from .partial import complete_file, complete_folder, refuse_existing

PAYLOAD_SUFFIX = ".cae"
GROUP_SUFFIX = ".ome.zarr"
Progress = Callable[[list[tuple[Path, Path]]], Iterable[tuple[Path, Path]]]


class Failure(NamedTuple):
    """A file that was not converted, and why."""

    path: Path
    error: Exception


def encode_paths(
    inputs: list[Path], output: Path, options: Options, progress: Progress = lambda jobs: jobs
) -> tuple[list[Path], list[Failure]]:
    """Convert image files, and the image files in folders, each to an OME-NGFF group or to one .cae file.

    Parameters
    ----------
    inputs
        Files that Pillow reads, and folders of them (without their subfolders).
    output
        With one file: NAME.zarr for a group, NAME.cae for a payload. Otherwise a folder, made if need be, for groups named
        as the files.
    options
        The codec and layout.
    progress
        Wraps the list of (file, output) pairs as it is worked through, as tqdm does.

    Returns
    -------
    The outputs written, and the files that failed; one that fails leaves nothing behind and does not stop the others.

    Raises
    ------
    ParameterError
        There is nothing to convert, or the output's name does not fit the inputs.
    """
    files = list(_expand(inputs, lambda p: p.suffix.lower() in SUFFIXES, "image files (" + ", ".join(SUFFIXES) + ")"))
    single = output.suffix in (".zarr", PAYLOAD_SUFFIX)
    if single and len(files) != 1:
        raise ParameterError(f"{output} names one output but there are {len(files)} images; name a folder instead")
    if output.suffix == PAYLOAD_SUFFIX and options.codec != "cae":
        raise ParameterError(f"{output} is a caecodec file, which codec {options.codec!r} cannot write; name a .zarr group")
    jobs = [(file, output if single else output / (file.stem + GROUP_SUFFIX)) for file in files]
    return _convert(jobs, lambda file, target: _encode(file, target, options), progress, options.overwrite)


def decode_paths(
    inputs: list[Path],
    output: Path,
    suffix: str = ".png",
    overwrite: bool = False,
    gpu: bool | None = None,
    progress: Progress = lambda jobs: jobs,
) -> tuple[list[Path], list[Failure]]:
    """Convert OME-NGFF groups and .cae files, and those in folders, each to an image file; otherwise as `encode_paths`.

    `output` is an image file where there is one input and it has such a suffix, else a folder for files of this `suffix`.
    """
    sources = list(_expand(inputs, _is_coded, "OME-NGFF groups (.zarr) or .cae files"))
    single = not output.is_dir() and (writable(output) or (output.suffix != "" and len(sources) == 1))
    if single and len(sources) != 1:
        raise ParameterError(f"{output} names one output but there are {len(sources)} inputs; name a folder instead")
    jobs = [(source, output if single else output / (_stem(source) + suffix)) for source in sources]
    return _convert(jobs, lambda source, target: write_image(target, _decode(source, gpu)), progress, overwrite)


def _encode(file: Path, target: Path, options: Options) -> None:
    photograph = read_image(file)
    if target.suffix == PAYLOAD_SUFFIX:
        from .. import codec  # torch

        parameters = replace(options.parameters, channel_axis=-1)
        payload = codec.encode_with(parameters, photograph.pixels, options.gpu)
        with complete_file(target) as partial:
            partial.write_bytes(payload)
    else:
        with complete_folder(target) as partial:
            write_group(partial, photograph, file.stem, options)


def _decode(source: Path, gpu: bool | None) -> Photograph:
    if source.suffix != PAYLOAD_SUFFIX:
        return read_group(source)
    from .. import codec

    pixels = codec.decode(source.read_bytes(), gpu=gpu)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ParameterError(f"{source} holds an array of shape {pixels.shape} but an image file holds (height, width, 3)")
    return Photograph(np.ascontiguousarray(pixels))


def _convert(
    jobs: list[tuple[Path, Path]], convert: Callable[[Path, Path], None], progress: Progress, overwrite: bool
) -> tuple[list[Path], list[Failure]]:
    written: list[Path] = []
    failed: list[Failure] = []
    for source, target in progress(jobs):
        try:
            if target in written:
                raise ParameterError(f"{source} would overwrite {target}, made from another file of the same name; rename it")
            refuse_existing(target, overwrite)
            convert(source, target)
        except (CaeCodecError, OSError, MemoryError) as error:
            failed.append(Failure(source, error))
        else:
            written.append(target)
    return written, failed


def _expand(inputs: list[Path], wanted: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """The inputs, folders replaced by what is wanted of their content."""
    for path in inputs:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; check its name")
        if path.is_dir() and not _is_coded(path):
            found = sorted(child for child in path.iterdir() if wanted(child) and not child.name.startswith("."))
            if not found:
                raise ParameterError(f"folder {path} holds no {what}; name another")
            yield from found
        else:
            yield path


def _is_coded(path: Path) -> bool:
    return path.suffix in (".zarr", PAYLOAD_SUFFIX) or any((path / n).exists() for n in ("zarr.json", ".zgroup"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(GROUP_SUFFIX) if path.name.endswith(GROUP_SUFFIX) else path.stem
