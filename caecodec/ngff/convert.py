"""Converts folders and files to OME-NGFF groups or .cae files and back; each output is either complete or absent."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from .. import weights
from ..codecs.decoding import decode, parse_payload
from ..errors import ParameterError
from ..images.image import COLOURS, Image, check_dtype, from_picture
from ..storage.locations import OZX, Place, as_path, is_url
from ..storage.partial import complete_file, complete_folder, refuse_existing, refuse_nested, resumable_folder
from ..storage.zipped import zip_group
from . import video
from .arrays import open_array
from .blocks import BLOCK_BYTES
from .chunk_runner import ChunkRunner, ProgressListener
from .compressors import LOSSLESS
from .files import (
    PAYLOAD_SUFFIX,
    coded_inputs,
    coded_suffix,
    image_inputs,
    is_group,
    is_payload,
    is_video,
    open_image,
    read_image,
    stem,
    suffix_of,
    writable,
    write_image,
)  # fmt: skip
from .groups import read_group, write_group
from .jobs import Extent, Failure, FolderListener, Job, extent_of, run_jobs
from .metadata import open_multiscales
from .options import Options
from .records import begin, differences, record
from .reencode import reencode, refuse_labels
from .video_groups import is_video_group, read_video_group, write_video_group


def encode_paths(
    inputs: Sequence[Place],
    output: Path,
    options: Options,
    progress: FolderListener = lambda state: None,
    tell: ProgressListener = lambda state: None,
    workers: int = 1,
) -> tuple[list[Path], list[Failure]]:
    """Convert image files, slides, and Zarr arrays and groups, and those in folders, each to an OME-NGFF group or .cae file.

    Videos (.yuv, .y4m) become groups of their planes.

    Parameters
    ----------
    inputs
        Image files, slides, videos, OME-NGFF groups, which `reencode` converts, other Zarr arrays, and folders of all these,
        which are searched with their subfolders, except for what is hidden and for `output`. Zarr arrays and groups may be
        zipped, at URLs for fsspec, or stores of zarr, such as a zarr.storage.ObjectStore for obstore.
    output
        For one input, NAME.zarr (a group), NAME.ozx (a zipped group), NAME.cae (a payload), or the path of a group that is the
        input, which is replaced if `options` overwrite. Otherwise a folder, created if necessary, for groups or .cae files with
        the names of the inputs, in the subfolders in which these were found.
    options
        The codec and layout.
    progress
        Called with the progress of the whole conversion, before the first file and after each.
    tell
        Called with the progress of an image, with slow codecs and if `options` resume; from any thread, one at a time. Not
        called with several workers.
    workers
        How many files are converted at once. Each holds an image in memory.

    Returns
    -------
    The outputs that were written (or, if `options` resume, were already finished), and the files that failed. A file that fails
    does not stop the others, and leaves nothing behind except what `options` can resume. Of two files with one output the
    second fails.

    Raises
    ------
    ParameterError
        There is nothing to convert, or the output's name or an option does not fit the inputs, or one lies inside the other.
    """
    found = image_inputs(inputs, output)
    files = [one.location for one in found]
    if output.suffix == OZX:
        options = replace(options, zipped=True)
    if output.suffix == PAYLOAD_SUFFIX:
        options = replace(options, to="cae")
    in_place = output.resolve() in [as_path(file).resolve() for file in files if not is_url(file)]
    single = in_place or output.suffix in (".zarr", OZX, PAYLOAD_SUFFIX)
    if single and len(files) != 1:
        raise ParameterError(f"{output} names one output but there are {len(files)} images; name a folder instead")
    if options.to == "cae":
        _check_payloads(options, output, single)
    if options.zipped and output.suffix == ".zarr":
        raise ParameterError(f"{output} is a folder but zipped groups are files; name one NAME{OZX}, or leave zipped out")
    if (options.size or options.depth) and not any(suffix_of(file) == ".yuv" for file in files):
        raise ParameterError("size and depth are for raw .yuv files but there are none; leave them out")
    jobs: list[Job] = [
        (file, output if single else output / one.folder / (stem(file) + coded_suffix(file, options.to, options.zipped)))
        for one, file in zip(found, files, strict=True)
    ]
    refuse_nested([target for _, target in jobs], [source for source, _ in jobs])
    listener: ProgressListener = tell if workers == 1 else lambda state: None
    return run_jobs(jobs, lambda file, target: _encode(file, target, options, listener), progress, workers, encoding=True)


def decode_paths(
    inputs: Sequence[Place],
    output: Path,
    suffix: str = ".png",
    overwrite: bool = False,
    gpu: bool | None = None,
    progress: FolderListener = lambda state: None,
    workers: int = 1,
) -> tuple[list[Path], list[Failure]]:
    """Convert OME-NGFF groups and .cae files, and those in folders, each to an image file; otherwise as `encode_paths`.

    Groups may also be zipped stores (.ozx, .zarr.zip) and URLs for fsspec. Weights that a group carries need not be installed.
    `output` is an image file if it has such a suffix and there is one input, else a folder for files with this `suffix`.
    """
    found = coded_inputs(inputs, output)
    single = not output.is_dir() and (writable(output) or (output.suffix != "" and len(found) == 1))
    if single and len(found) != 1:
        raise ParameterError(f"{output} names one output but there are {len(found)} inputs; name a folder instead")
    if not (single or writable(Path("a" + suffix)) or is_video(Path("a" + suffix))):
        raise ParameterError(
            f"format is {suffix.lstrip('.')!r} but must be png, jpg, webp, bmp or tiff for images, or yuv or y4m for videos"
        )
    jobs = [(one.location, output if single else output / one.folder / (stem(one.location) + suffix)) for one in found]
    refuse_nested([target for _, target in jobs], [source for source, _ in jobs])
    return run_jobs(jobs, lambda source, target: _decode(source, target, overwrite, gpu), progress, workers, encoding=False)


def _check_payloads(options: Options, output: Path, single: bool) -> None:
    """Raise ParameterError for options with which no .cae file can be written."""
    if options.learned is None:
        raise ParameterError(f"to is 'cae' but codec {options.codec!r} cannot write .cae files; leave it out, or write groups")
    for name in ("shared", "resume", "with_weights", "zipped", "background", "associated"):
        if getattr(options, name):
            raise ParameterError(f"{name} is for groups of chunks but a .cae file is one payload; leave it or .cae out")
    if single and output.suffix != PAYLOAD_SUFFIX:
        raise ParameterError(f"{output} is a group but to is 'cae'; name a folder or NAME{PAYLOAD_SUFFIX}, or leave to out")


def _encode(file: Place, target: Path, options: Options, tell: ProgressListener) -> Extent | None:
    wanted = record(file, options) if options.resume else None
    if wanted and target.exists():
        changed = differences(target, wanted)
        if not changed:
            return None
        if not options.overwrite:
            raise ParameterError(
                f"{target} exists already, with {changed}; pass overwrite (--overwrite), or choose another name"
            )
    refuse_existing(target, options.overwrite)
    runner = ChunkRunner(tell) if (options.learned and options.learned.slow) or options.resume else None
    if target.suffix == PAYLOAD_SUFFIX:
        return _write_payload(file, target, options, runner)
    if options.zipped:
        with complete_file(target) as partial, tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            extent = _write(file, Path(folder) / "group", options, runner)
            zip_group(Path(folder) / "group", partial, options.ngff)
        return extent
    with (resumable_folder if wanted else complete_folder)(target) as partial:
        if wanted:
            begin(partial, wanted, options)
        return _write(file, partial, options, runner)


def _write(file: Place, path: Path, options: Options, runner: ChunkRunner | None) -> Extent:
    """Write a file, array or group as a group in the folder `path`."""
    if is_group(file):
        with weights.using(file):
            array = open_array(file, options.axes)
            if array is not None:
                if options.codec not in LOSSLESS:
                    check_dtype(array.pixels.dtype, file)
                write_group(path, _held(array), stem(file), options, runner)
                return extent_of([array.pixels], array.axes)
        reencode(file, path, options, runner)
        image = open_multiscales(path)
        level = image.level(0)
        return extent_of([level], image.axes)
    file = as_path(file)
    if is_video(file):
        if options.zipped:
            raise ParameterError(f"{file} is a video, whose group is not the OME-NGFF image that {OZX} holds; leave zipped out")
        film = video.read_video(file, options.size, options.depth)
        write_video_group(path, film, options, runner)
        return extent_of(film.planes, "tyx")
    with open_image(file) as picture:
        write_group(path, _held(picture), stem(file), options, runner)
        return extent_of([picture.pixels], picture.axes)


def _held(image: Image) -> Image:
    """The image with its pixels in memory if they are few."""
    if prod(image.pixels.shape) * image.pixels.dtype.itemsize > BLOCK_BYTES:
        return image
    return replace(image, pixels=image.values)


def _write_payload(file: Place, target: Path, options: Options, runner: ChunkRunner | None) -> Extent:
    if is_video(file):
        raise ParameterError(f"{target} cannot hold a video, because a .cae file holds one array; name a .zarr group instead")
    image = _loaded(file, options)
    with complete_file(target) as partial:
        if runner is None:
            partial.write_bytes(_payload(image, file, options))
        else:
            runner.expect(1)
            runner.run([lambda: partial.write_bytes(_payload(image, file, options))])
            runner.count_done(1)
    return extent_of([image.pixels], image.axes)


def _loaded(file: Place, options: Options) -> Image:
    """The image in a file, array or group, in memory."""
    if not is_group(file):
        return read_image(as_path(file))
    with weights.using(file):
        array = open_array(file, options.axes)
        if array is not None:
            return array.loaded()
    refuse_labels(file, open_multiscales(file))
    return read_group(file)


def _payload(image: Image, file: Place, options: Options) -> bytes:
    """The .cae file of an image: y, x, c for RGB, y, x for one plane, c, y, x for other channels."""
    check_dtype(image.pixels.dtype, file)
    array, channel_axis = image.picture(), -1 if image.rgb else None
    if array is None:
        if image.axes != "cyx":
            raise ParameterError(f"{file} holds {image}, but a .cae file has only axes y, x and c; name a .zarr group instead")
        array, channel_axis = np.ascontiguousarray(image.values), 0
    assert options.learned is not None
    return options.learned.encode(options.parameters.on_axis(channel_axis), array, options.gpu)


def _decode(source: Place, target: Path, overwrite: bool, gpu: bool | None) -> Extent:
    refuse_existing(target, overwrite)
    holds_video = not is_payload(source) and is_video_group(source)
    if holds_video != is_video(target):
        kind, way_out = (
            ("a video", ".yuv or .y4m (--format y4m)") if holds_video else ("an image", ".png or .tif (--format tiff)")
        )
        raise ParameterError(f"{source} holds {kind}, which {target.name} cannot hold; use the suffix {way_out}")
    if holds_video:
        with weights.using(source):
            film = read_video_group(source)
            video.write_video(target, film)
        return extent_of(film.planes, "tyx")
    image = _read(source, gpu)
    write_image(target, image)
    return extent_of([image.pixels], image.axes)


def _read(source: Place, gpu: bool | None) -> Image:
    if not is_payload(source):
        return read_group(source)
    payload = as_path(source).read_bytes()
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
