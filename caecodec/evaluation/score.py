"""Scores decoded images against their originals: PSNR, SSIM, MS-SSIM, bits per pixel and ratio of each, and means."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

from ..errors import ParameterError
from ..images.files import SUFFIXES, as_rgb, read_image, read_rgb
from ..images.listing import walk
from ..images.metrics import MS_SSIM_SIDE, SSIM_SIDE, ms_ssim, psnr, ssim
from ..ngff.files import is_group, stem
from ..ngff.jobs import stored_bytes
from ..storage.locations import Location, local
from ..storage.partial import complete_file
from . import extra

FORMATS = (".json", ".csv")
VALUES = ("psnr", "ssim", "ms_ssim", "bpp", "ratio")
_WHAT = (
    "Decoded images against their originals, as 8-bit RGB: PSNR in dB (null: infinite, no value differs), SSIM and MS-SSIM "
    "(null: too small), the bytes of the compressed file, bits per pixel of these, and the ratio of the uncompressed bytes to "
    "them. The means are over the images that have a value; that of the PSNR is null if one is infinite."
)


@dataclass(frozen=True)
class Score:
    """The scores of one image.

    name : its path in the folder of originals, without suffix
    psnr : dB over all values of the RGB image; infinite if no value differs
    ssim, ms_ssim : 0 to 1; None for an image that is too small
    bytes, bpp, ratio : of the compressed file: its size, 8 * bytes / (height * width), and the bytes of the uncompressed
        original to it; None if there is none
    """

    name: str
    height: int
    width: int
    psnr: float
    ssim: float | None
    ms_ssim: float | None
    bytes: int | None
    bpp: float | None
    ratio: float | None


@dataclass(frozen=True)
class Scores:
    """The scores of images in order of name, and a line for each that could not be scored."""

    images: tuple[Score, ...]
    problems: tuple[str, ...]

    def mean(self, value: str) -> float | None:
        """The mean of one of VALUES over the images that have it; None if none has."""
        found = [one for one in (getattr(image, value) for image in self.images) if one is not None]
        return fmean(found) if found else None

    def notes(self) -> Iterator[str]:
        """What is missing from the scores, and why."""
        for value, name, side in (("ssim", "SSIM", SSIM_SIDE), ("ms_ssim", "MS-SSIM", MS_SSIM_SIDE)):
            small = [image.name for image in self.images if getattr(image, value) is None]
            if small:
                yield f"no {name} of images with a side of less than {side} pixels: {', '.join(small)}"


def score(
    originals: Location,
    decoded: Location,
    compressed: Location | None = None,
    progress: Callable[[int, int], None] = lambda done, images: None,
) -> Scores:
    """Score a decoded image against its original, or those in a folder and its subfolders, matched by name whatever the suffix.

    Parameters
    ----------
    originals, decoded
        Two image files of 8-bit RGB or grey, or two folders of them.
    compressed
        What the images were decoded from: a file of any kind or an OME-NGFF group, or a folder of them.
    progress
        Called with the number of images that are done, and of all, before the first and after each.

    Returns
    -------
    The scores. An image without its counterpart, of another size, of an ambiguous name or that cannot be read is a problem, and
    does not stop the others.

    Raises
    ------
    ParameterError
        A path does not exist, files and folders are mixed, there is no original, or a package of the extra eval is missing.
    """
    for module in ("skimage.metrics", "pytorch_msssim"):
        extra.module(module)
    originals, decoded, compressed = Path(originals), Path(decoded), None if compressed is None else Path(compressed)
    for place in (originals, decoded, compressed):
        if place is not None and not place.exists():
            raise ParameterError(f"{place} does not exist; check its name")
    if originals.is_dir() != decoded.is_dir():
        raise ParameterError(f"{originals} and {decoded} must be two image files or two folders of them")
    single = not originals.is_dir()
    if compressed is not None and single != (is_group(compressed) or not compressed.is_dir()):
        raise ParameterError(f"{compressed} must be {'one file or group' if single else 'a folder'}, as {originals} is")
    places = [place for place in (originals, decoded, compressed) if place is not None]
    sides = [_by_name(place, wanted, single) for place, wanted in zip(places, (_is_image, _is_image, _is_coded), strict=False)]
    if not sides[0]:
        raise ParameterError(f"folder {originals} holds no image ({', '.join(SUFFIXES)}); name another")
    problems = [f"{' and '.join(map(str, paths))} have one name" for side in sides for paths in side.values() if len(paths) > 1]
    names = sorted({name for side in sides for name in side})
    images = []
    for done, name in enumerate(names):
        progress(done, len(names))
        found = [side.get(name, []) for side in sides]
        if any(len(paths) > 1 for paths in found):
            continue
        missing = [place for place, paths in zip(places, found, strict=True) if not paths]
        if missing:
            there = next(paths[0] for paths in found if paths)
            problems += [f"{there} has no counterpart in {place}" for place in missing]
            continue
        try:
            images.append(_score(name or stem(originals), *(paths[0] for paths in found)))
        except (ParameterError, OSError, MemoryError) as error:
            problems.append(str(error) or f"{found[0][0]} does not fit into memory")
    progress(len(names), len(names))
    return Scores(tuple(images), tuple(problems))


def write_scores(scores: Scores, path: Location) -> None:
    """Write the scores and their means, as `path` is named: a JSON document, or a CSV table whose last row is the means.

    Raises ParameterError for another suffix.
    """
    path = local(path)
    check_format(path)
    with complete_file(path) as partial:
        if path.suffix == ".csv":
            columns = [field.name for field in fields(Score)]
            means = {"name": "mean", **{value: scores.mean(value) for value in VALUES}}
            with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows([*map(asdict, scores.images), means])
            return
        content = {
            "what": _WHAT,
            "images": [_finite(asdict(image)) for image in scores.images],
            "means": _finite({value: scores.mean(value) for value in VALUES}),
            "notes": list(scores.notes()),
            "problems": scores.problems,
        }
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_format(path: Path) -> None:
    """Raise ParameterError for a path that scores cannot be written to."""
    if path.suffix not in FORMATS:
        raise ParameterError(f"output is {path} but must be named NAME.json or NAME.csv")


def _score(name: str, original: Path, decoded: Path, compressed: Path | None = None) -> Score:
    source = read_image(original)
    image, other = as_rgb(source, original), read_rgb(decoded)
    if image.shape != other.shape:
        sizes = " but ".join(
            f"{path} has {array.shape[1]}x{array.shape[0]} pixels" for path, array in ((decoded, other), (original, image))
        )
        raise ParameterError(sizes)
    height, width, _ = image.shape
    size = None if compressed is None else stored_bytes(compressed)
    if size == 0:
        raise ParameterError(f"{compressed} is empty")
    side = min(height, width)
    return Score(
        name, height, width, psnr(image, other),
        ssim(image, other) if side >= SSIM_SIDE else None,
        ms_ssim(image, other) if side >= MS_SSIM_SIDE else None,
        size, size and 8 * size / (height * width), size and source.values.nbytes / size,
    )  # fmt: skip


def _by_name(place: Path, wanted: Callable[[Path], bool], single: bool) -> dict[str, list[Path]]:
    """The files in a folder by their path in it without suffix, one each if all is well; a single file by the name ""."""
    if single:
        return {"": [place]}
    found: dict[str, list[Path]] = {}
    for path in walk(place, wanted):
        found.setdefault((path.parent.relative_to(place) / stem(path)).as_posix(), []).append(path)
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _is_coded(path: Path) -> bool:
    return is_group(path) or not path.is_dir()


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    return {name: None if value == math.inf else value for name, value in values.items()}
