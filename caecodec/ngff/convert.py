"""Converts folders and files to OME-NGFF groups or .cae files and back; each output is either complete or absent."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import weights
from ..codecs.decoding import decode, parse_payload
from ..errors import ParameterError
from ..images.files import SUFFIXES
from ..images.image import COLOURS, Image, Windows, check_dtype, from_picture
from ..storage.locations import OZX, Location, Place, as_path, is_url, local, refuse_single
from ..storage.partial import SCRATCH, complete_file, complete_folder, refuse_existing, refuse_nested, resumable_folder
from ..storage.zipped import zip_group
from . import video
from .arrays import open_array
from .blocks import BLOCK_BYTES
from .chunk_runner import ChunkRunner, ProgressListener, Written
from .cluster import Cluster
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
from .records import begin, differences, is_complete, record
from .reencode import reencode, refuse_labels
from .video_groups import is_video_group, read_video_group, write_video_group


def encode_paths(
    inputs: Sequence[Place],
    output: Location,
    options: Options,
    progress: FolderListener = lambda state: None,
    tell: ProgressListener = lambda state: None,
    workers: int = 1,
    scheduler: str | None = None,
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
        Called with the progress of an image, with slow codecs, if `options` resume, and for images that are larger than 64 MiB;
        from any thread, one at a time. Not called with several workers and inputs.
    workers
        How many files are converted at once, each with its image in memory. With 2 or more, as many processes write images
        that are read by windows and are larger than 64 MiB; a script then needs ``if __name__ == "__main__":``.
    scheduler
        The address of a scheduler of dask.distributed, whose workers write these images instead.

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
    refuse_single(inputs, "inputs")
    output = local(output)
    found = image_inputs(inputs, output)
    files = [one.location for one in found]
    if output.suffix == OZX:
        options = replace(options, zipped=True)
    if output.suffix == PAYLOAD_SUFFIX:
        options = replace(options, to="cae")
    in_place = output.resolve() in [as_path(file).resolve() for file in files if not is_url(file)]
    single = in_place or output.suffix in (".zarr", OZX, PAYLOAD_SUFFIX)
    _refuse_file(output, single, f"; name a folder, or for one image NAME.ome.zarr, NAME{OZX} or NAME{PAYLOAD_SUFFIX}")
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
    listener: ProgressListener = tell if workers == 1 or len(jobs) == 1 else lambda state: None
    with closing(Cluster(scheduler, workers, options.gpu)) as cluster:
        means = _Means(options, listener, cluster if scheduler or workers > 1 else None)
        return run_jobs(jobs, lambda file, target: _encode(file, target, means), progress, workers, encoding=True)


def decode_paths(
    inputs: Sequence[Place],
    output: Location,
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
    refuse_single(inputs, "inputs")
    output = local(output)
    found = coded_inputs(inputs, output)
    single = not output.is_dir() and (writable(output) or (output.suffix != "" and len(found) == 1))
    _refuse_file(output, single, f"; name a folder, or for one image a file of {', '.join(SUFFIXES)}")
    if single and len(found) != 1:
        raise ParameterError(f"{output} names one output but there are {len(found)} inputs; name a folder instead")
    if not (single or writable(Path("a" + suffix)) or is_video(Path("a" + suffix))):
        raise ParameterError(
            f"format is {suffix.lstrip('.')!r} but must be png, jpg, webp, bmp or tiff for images, or yuv or y4m for videos"
        )
    jobs = [(one.location, output if single else output / one.folder / (stem(one.location) + suffix)) for one in found]
    refuse_nested([target for _, target in jobs], [source for source, _ in jobs])
    return run_jobs(jobs, lambda source, target: _decode(source, target, overwrite, gpu), progress, workers, encoding=False)


def _refuse_file(output: Path, single: bool, way_out: str) -> None:
    """Raise ParameterError for a file that exists where the folder of the outputs would be."""
    if not single and output.exists() and not output.is_dir():
        raise ParameterError(f"{output} is a file but outputs go into a folder{way_out}")


def _check_payloads(options: Options, output: Path, single: bool) -> None:
    """Raise ParameterError for options with which no .cae file can be written."""
    if options.learned is None:
        raise ParameterError(f"to is 'cae' but codec {options.codec!r} cannot write .cae files; leave it out, or write groups")
    for name in ("shared", "resume", "with_weights", "zipped", "background", "associated"):
        if getattr(options, name):
            raise ParameterError(f"{name} is for groups of chunks but a .cae file is one payload; leave it or .cae out")
    if single and output.suffix != PAYLOAD_SUFFIX:
        raise ParameterError(f"{output} is a group but to is 'cae'; name a folder or NAME{PAYLOAD_SUFFIX}, or leave to out")


class _Means(NamedTuple):
    """What all files of a conversion share; cluster: the processes that write large images, if not this one."""

    options: Options
    tell: ProgressListener
    cluster: Cluster | None

    def runner(self, pixels: Windows, source: "Place | None" = None) -> ChunkRunner:
        """What runs the tasks of an image of these pixels, or of such pixels; `source`: the group or array that they are in."""
        slow = bool(self.options.learned and self.options.learned.slow)
        large = prod(pixels.shape) * pixels.dtype.itemsize > BLOCK_BYTES
        told = slow or large or self.options.resume
        cluster = self.cluster if large and not isinstance(pixels, np.ndarray) else None
        carriers = (source,) if cluster and source is not None and weights.carried(source).sources else ()
        return ChunkRunner(self.tell if told else lambda state: None, slow, cluster, carriers)


def _encode(file: Place, target: Path, means: _Means) -> Extent | None:
    options = means.options
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
    if target.suffix == PAYLOAD_SUFFIX:
        return _write_payload(file, target, means)
    if means.cluster:  # whose processes may have other working folders
        file, target = file if is_url(file) else as_path(file).absolute(), target.absolute()
    if options.zipped:
        with complete_file(target) as partial, tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            extent = _write(file, Path(folder) / "group", means)
            zip_group(Path(folder) / "group", partial, options.ngff)
        return extent
    with _continued(options), (resumable_folder if wanted else complete_folder)(target) as partial:
        if wanted:
            begin(partial, wanted, options)
            if is_complete(partial):
                shutil.rmtree(partial / SCRATCH, ignore_errors=True)
                return None
        return _write(file, partial, means)


@contextmanager
def _continued(options: Options) -> Iterator[None]:
    """Add to errors of disks, networks and workers what can be done."""
    try:
        yield
    except OSError as error:
        rest = (
            "what is finished is kept: run the same command again to continue"
            if options.resume
            else "with resume (--resume) what is finished is kept, and the same command continues it"
        )
        raise OSError(f"{error}; {rest}") from error


def _write(file: Place, path: Path, means: _Means) -> Extent:
    """Write a file, array or group as a group in the folder `path`."""
    options = means.options
    if is_group(file):
        with weights.using(file):
            array = open_array(file, options.axes)
            if array is not None:
                if options.codec not in LOSSLESS:
                    check_dtype(array.pixels.dtype, file)
                held = _held(array)
                write_group(path, held, stem(file), options, means.runner(held.pixels, file))
                return extent_of([array.pixels], array.axes)
            image = open_multiscales(file)
            level = image.level(0)
        reencode(file, path, options, means.runner(level, file))
        return extent_of([level], image.axes)
    file = as_path(file)
    if is_video(file):
        if options.zipped:
            raise ParameterError(f"{file} is a video, whose group is not the OME-NGFF image that {OZX} holds; leave zipped out")
        film = video.read_video(file, options.size, options.depth)
        write_video_group(path, film, options, means._replace(cluster=None).runner(film.planes[0]))
        return extent_of(film.planes, "tyx")
    with open_image(file) as picture:
        held = _held(picture)
        write_group(path, held, stem(file), options, means.runner(held.pixels))
        return extent_of([picture.pixels], picture.axes)


def _held(image: Image) -> Image:
    """The image with its pixels in memory if they are few."""
    if prod(image.pixels.shape) * image.pixels.dtype.itemsize > BLOCK_BYTES:
        return image
    return replace(image, pixels=image.values)


def _write_payload(file: Place, target: Path, means: _Means) -> Extent:
    if is_video(file):
        raise ParameterError(f"{target} cannot hold a video, because a .cae file holds one array; name a .zarr group instead")
    image = _loaded(file, means.options)
    with complete_file(target) as partial:
        if not (means.options.learned and means.options.learned.slow):
            partial.write_bytes(_payload(image, file, means.options))
        else:
            runner = means.runner(image.pixels)
            runner.expect(1)
            runner.run([lambda: partial.write_bytes(_payload(image, file, means.options))])
            runner.count(Written(1))
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
