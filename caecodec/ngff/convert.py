"""Converts folders and files to OME-NGFF groups or .cae files and back; each output is either complete or absent."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import weights
from ..codecs.decoding import decode, parse_payload
from ..errors import CaeCodecError, ParameterError
from ..images.image import COLOURS, Image, check_dtype, from_picture
from ..storage.locations import OZX, Location, is_url
from ..storage.partial import complete_file, complete_folder, refuse_existing, resumable_folder
from ..storage.zipped import zip_group
from . import video
from .chunk_runner import ChunkRunner, ProgressListener
from .files import (
    PAYLOAD_SUFFIX,
    coded_inputs,
    group_suffix,
    image_inputs,
    is_group,
    is_payload,
    is_video,
    read_image,
    stem,
    writable,
    write_image,
)  # fmt: skip
from .groups import read_group, write_group
from .metadata import open_multiscales
from .options import Options
from .records import begin, differences, record
from .reencode import reencode, refuse_labels
from .video_groups import is_video_group, read_video_group, write_video_group

Conversion = tuple[Location, Path]
ConversionTracker = Callable[[list[Conversion]], Iterable[Conversion]]


class Failure(NamedTuple):
    """A file that was not converted, and why."""

    path: Location
    error: Exception


def encode_paths(
    inputs: list[Path],
    output: Path,
    options: Options,
    progress: ConversionTracker = lambda jobs: jobs,
    tell: ProgressListener = lambda state: None,
) -> tuple[list[Path], list[Failure]]:
    """Convert image files and OME-NGFF groups, and those in folders, each to an OME-NGFF group or to one .cae file.

    Videos (.yuv, .y4m) become groups of their planes.

    Parameters
    ----------
    inputs
        Image files, videos, OME-NGFF groups, which `reencode` converts, and folders of them (without their subfolders).
    output
        For one input, NAME.zarr (a group), NAME.ozx (a zipped group), NAME.cae (a payload), or the path of a group that is the
        input, which is replaced if `options` overwrite. Otherwise a folder, created if necessary, for groups named after the
        inputs.
    options
        The codec and layout.
    progress
        Wraps the list of (file, output) pairs as it is worked through, as tqdm does.
    tell
        Called with the progress of an image, with slow codecs and if `options` resume; from any thread, one at a time.

    Returns
    -------
    The outputs that were written (or, if `options` resume, were already finished), and the files that failed. A file that fails
    does not stop the others, and leaves nothing behind except what `options` can resume.

    Raises
    ------
    ParameterError
        There is nothing to convert, or the output's name or an option does not fit the inputs, or it lies inside one of them.
    """
    files = image_inputs(inputs)
    if output.suffix == OZX:
        options = replace(options, zipped=True)
    in_place = output.resolve() in [file.resolve() for file in files]
    single = in_place or output.suffix in (".zarr", OZX, PAYLOAD_SUFFIX)
    if single and len(files) != 1:
        raise ParameterError(f"{output} names one output but there are {len(files)} images; name a folder instead")
    if output.suffix == PAYLOAD_SUFFIX:
        if options.learned is None:
            raise ParameterError(f"{output} is a caecodec file, which codec {options.codec!r} cannot write; name a .zarr group")
        of_groups = [name for name in ("shared", "resume", "with_weights", "zipped") if getattr(options, name)]
        if of_groups:
            name = of_groups[0]
            raise ParameterError(
                f"{name} is for groups of chunks but {output} is one payload; leave it out, or name a .zarr group"
            )
    if options.zipped and output.suffix == ".zarr":
        raise ParameterError(f"{output} is a folder but zipped groups are files; name one NAME{OZX}, or leave zipped out")
    if (options.size or options.depth) and not any(file.suffix.lower() == ".yuv" for file in files):
        raise ParameterError("size and depth are for raw .yuv files but there are none; leave them out")
    names = [stem(file) + group_suffix(file, options.zipped) for file in files]
    jobs: list[Conversion] = [(file, output if single else output / name) for file, name in zip(files, names, strict=True)]
    _refuse_nested(jobs)
    return _convert(jobs, lambda file, target: _encode(Path(file), target, options, tell), progress)


def decode_paths(
    inputs: Sequence[Location],
    output: Path,
    suffix: str = ".png",
    overwrite: bool = False,
    gpu: bool | None = None,
    progress: ConversionTracker = lambda jobs: jobs,
) -> tuple[list[Path], list[Failure]]:
    """Convert OME-NGFF groups and .cae files, and those in folders, each to an image file; otherwise as `encode_paths`.

    Groups may also be zipped stores (.ozx, .zarr.zip) and URLs for fsspec. Weights that a group carries need not be installed.
    `output` is an image file if it has such a suffix and there is one input, else a folder for files with this `suffix`.
    """
    sources = coded_inputs(inputs)
    single = not output.is_dir() and (writable(output) or (output.suffix != "" and len(sources) == 1))
    if single and len(sources) != 1:
        raise ParameterError(f"{output} names one output but there are {len(sources)} inputs; name a folder instead")
    jobs = [(source, output if single else output / (stem(source) + suffix)) for source in sources]
    _refuse_nested(jobs)
    return _convert(jobs, lambda source, target: _decode(source, target, overwrite, gpu), progress)


def _refuse_nested(jobs: Sequence[Conversion]) -> None:
    """Raise ParameterError for an output inside a group that is an input, to which it would be copied."""
    for source, target in jobs:
        if not is_url(source) and Path(source).resolve() in target.resolve().parents:
            raise ParameterError(f"{target} lies inside {source}, which is an input; choose a folder outside it")


def _encode(file: Path, target: Path, options: Options, tell: ProgressListener) -> None:
    wanted = record(file, options) if options.resume else None
    if wanted and target.exists():
        changed = differences(target, wanted)
        if not changed:
            return
        if not options.overwrite:
            raise ParameterError(
                f"{target} exists already, with {changed}; pass overwrite (--overwrite), or choose another name"
            )
    refuse_existing(target, options.overwrite)
    runner = ChunkRunner(tell) if (options.learned and options.learned.slow) or options.resume else None
    if target.suffix == PAYLOAD_SUFFIX:
        _write_payload(file, target, options, runner)
        return
    if options.zipped:
        with complete_file(target) as partial, tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            _write(file, Path(folder) / "group", options, runner)
            zip_group(Path(folder) / "group", partial, options.ngff)
        return
    with (resumable_folder if wanted else complete_folder)(target) as partial:
        if wanted:
            begin(partial, wanted, options)
        _write(file, partial, options, runner)


def _write(file: Path, path: Path, options: Options, runner: ChunkRunner | None) -> None:
    """Write a file or group as a group in the folder `path`."""
    if is_group(file):
        reencode(file, path, options, runner)
    elif is_video(file):
        if options.zipped:
            raise ParameterError(f"{file} is a video, whose group is not the OME-NGFF image that {OZX} holds; leave zipped out")
        write_video_group(path, video.read_video(file, options.size, options.depth), options, runner)
    else:
        write_group(path, read_image(file), stem(file), options, runner)


def _write_payload(file: Path, target: Path, options: Options, runner: ChunkRunner | None) -> None:
    if is_video(file):
        raise ParameterError(f"{target} cannot hold a video, because a .cae file holds one array; name a .zarr group instead")
    if is_group(file):
        refuse_labels(file, open_multiscales(file))
    image = read_group(file) if is_group(file) else read_image(file)
    with complete_file(target) as partial:
        if runner is None:
            partial.write_bytes(_payload(image, file, options))
        else:
            runner.expect(1)
            runner.run([lambda: partial.write_bytes(_payload(image, file, options))])
            runner.count_done(1)


def _payload(image: Image, file: Path, options: Options) -> bytes:
    """The .cae file of an image: y, x, c for RGB, y, x for one plane, c, y, x for other channels."""
    check_dtype(image.pixels.dtype, file)
    array, channel_axis = image.picture(), -1 if image.rgb else None
    if array is None:
        if image.axes != "cyx":
            raise ParameterError(f"{file} holds {image}, but a .cae file has only axes y, x and c; name a .zarr group instead")
        array, channel_axis = np.ascontiguousarray(image.pixels), 0
    assert options.learned is not None
    return options.learned.encode(options.parameters.on_axis(channel_axis), array, options.gpu)


def _decode(source: Location, target: Path, overwrite: bool, gpu: bool | None) -> None:
    refuse_existing(target, overwrite)
    holds_video = not is_payload(source) and is_video_group(source)
    if holds_video != is_video(target):
        kind, way_out = (
            ("a video", ".yuv or .y4m (--format y4m)") if holds_video else ("an image", ".png or .tif (--format tiff)")
        )
        raise ParameterError(f"{source} holds {kind}, which {target.name} cannot hold; use the suffix {way_out}")
    if holds_video:
        with weights.using(source):
            video.write_video(target, read_video_group(source))
    else:
        write_image(target, _read(source, gpu))


def _read(source: Location, gpu: bool | None) -> Image:
    if not is_payload(source):
        return read_group(source)
    payload = Path(source).read_bytes()
    pixels = decode(payload, gpu=gpu)
    channel_axis = parse_payload(payload).header.channel_axis
    if pixels.ndim != (2 if channel_axis is None else 3):
        raise ParameterError(
            f"{source} holds an array of shape {pixels.shape} and channel axis {channel_axis}, but an image file "
            "holds a plane or channels; read it with caecodec.decode"
        )
    if channel_axis is None or (channel_axis == 2 and pixels.shape[2] == COLOURS):
        return from_picture(pixels)
    return Image(np.moveaxis(pixels, channel_axis, 0), "cyx")


def _convert(
    jobs: list[Conversion], convert: Callable[[Location, Path], None], progress: ConversionTracker
) -> tuple[list[Path], list[Failure]]:
    written: list[Path] = []
    failed: list[Failure] = []
    for source, target in progress(jobs):
        try:
            if target in written:
                raise ParameterError(f"{source} would overwrite {target}, made from another file of the same name; rename it")
            convert(source, target)
        except (CaeCodecError, OSError, MemoryError) as error:
            failed.append(Failure(source, error))
        except Exception as error:  # whatever a library below raises, the other files are converted
            unforeseen = ParameterError(f"{source} cannot be converted: {type(error).__name__}: {error}")
            unforeseen.__cause__ = error
            failed.append(Failure(source, unforeseen))
        else:
            written.append(target)
    return written, failed
