"""Folders and files, to OME-NGFF groups or .cae files, and back: each output whole or not there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..bitstream import families
from ..decoding import decode
from ..errors import CaeCodecError, ParameterError
from .files import SUFFIXES, read_image, writable, write_image
from .groups import read_group, write_group
from .image import COLOURS, Image, check_dtype, from_picture
from .metadata import open_multiscales
from .options import Options
from .partial import complete_file, complete_folder, refuse_existing
from .reencode import reencode, refuse_labels

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
    """Convert image files and OME-NGFF groups, and those in folders, each to an OME-NGFF group or to one .cae file.

    Parameters
    ----------
    inputs
        Image files, OME-NGFF groups, which `reencode` converts, and folders of them (without their subfolders).
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
    what = "image files (" + ", ".join(SUFFIXES) + ") or OME-NGFF groups (.zarr)"
    files = list(_expand(inputs, lambda path: path.suffix.lower() in SUFFIXES or _is_group(path), what))
    single = output.suffix in (".zarr", PAYLOAD_SUFFIX)
    if single and len(files) != 1:
        raise ParameterError(f"{output} names one output but there are {len(files)} images; name a folder instead")
    if output.suffix == PAYLOAD_SUFFIX and options.codec != "cae":
        raise ParameterError(f"{output} is a caecodec file, which codec {options.codec!r} cannot write; name a .zarr group")
    jobs = [(file, output if single else output / (_stem(file) + GROUP_SUFFIX)) for file in files]
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
    if target.suffix == PAYLOAD_SUFFIX:
        if _is_group(file):
            refuse_labels(file, open_multiscales(file))
        payload = _payload(read_group(file) if _is_group(file) else read_image(file), file, options)
        with complete_file(target) as partial:
            partial.write_bytes(payload)
    elif _is_group(file):
        with complete_folder(target) as partial:
            reencode(file, partial, options)
    else:
        image = read_image(file)
        with complete_folder(target) as partial:
            write_group(partial, image, _stem(file), options)


def _payload(image: Image, file: Path, options: Options) -> bytes:
    """The .cae file of an image: y, x, c for RGB, y, x for one plane, c, y, x for other channels."""
    from .. import codec  # torch

    check_dtype(image.pixels.dtype, file)
    array, channel_axis = image.picture(), -1 if image.rgb else None
    if array is None:
        if image.axes != "cyx":
            raise ParameterError(f"{file} holds {image}, but a .cae file y, x and c alone; name a .zarr group instead")
        array, channel_axis = np.ascontiguousarray(image.pixels), 0
    return codec.encode_with(replace(options.parameters, channel_axis=channel_axis), array, options.gpu)


def _decode(source: Path, gpu: bool | None) -> Image:
    if source.suffix != PAYLOAD_SUFFIX:
        return read_group(source)
    payload = source.read_bytes()
    pixels = decode(payload, gpu=gpu)
    channel_axis = families.parse(payload).header.channel_axis
    if pixels.ndim != (2 if channel_axis is None else 3):
        raise ParameterError(
            f"{source} holds an array of shape {pixels.shape} and channel axis {channel_axis}, but an image file "
            "holds a plane, or channels; read it with caecodec.decode"
        )
    if channel_axis is None or (channel_axis == 2 and pixels.shape[2] == COLOURS):
        return from_picture(pixels)
    return Image(np.moveaxis(pixels, channel_axis, 0), "cyx")


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


def _is_group(path: Path) -> bool:
    return path.is_dir() and (path.suffix == ".zarr" or any((path / name).exists() for name in ("zarr.json", ".zgroup")))


def _is_coded(path: Path) -> bool:
    return _is_group(path) or path.suffix == PAYLOAD_SUFFIX


def _stem(path: Path) -> str:
    """The name of a file or group without .ome and the like."""
    return path.stem.removesuffix(".ome")
