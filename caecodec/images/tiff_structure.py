"""What a TIFF file consists of, by its own structure: its pages and where their strips and tiles are, against its size.

Libraries fill up what is missing from a file with zeros, or leave pages out, and at most log it. Here such a file is refused
before a pixel is read: `read_pages` follows the chain of pages, and requires of each that all its strips or tiles are there.
The numbers are those of TIFF 6.0 and BigTIFF.
"""

import warnings
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 256, 257, 258, 259, 262, 270
_SAMPLES, _ROWS, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT = 277, 278, 284, 317, 322, 323, 339
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _JPEG_STREAM, _JPEG_BYTES = 273, 279, 324, 325, 513, 514
_SUBFILE, _SUB_PAGES, _DEPTH, _TILE_DEPTH, _NO_DATA = 254, 330, 32997, 32998, 42113
_LAYOUT = (
    _WIDTH, _HEIGHT, _DEPTH, _BITS, _FORMAT, _SAMPLES, _PLANAR, _PHOTOMETRIC, _COMPRESSION, _PREDICTOR, _TILE_WIDTH,
    _TILE_HEIGHT, _TILE_DEPTH,
)  # fmt: skip
_NUMBERS = {*_LAYOUT, _SUBFILE, _SUB_PAGES, _ROWS, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _JPEG_STREAM, _JPEG_BYTES}
_UNCOMPRESSED, _JPEG, _YCBCR, _SEPARATE, _REDUCED = 1, 7, 6, 2, 1
_PHILIPS = b'ObjectType="DPUfsImport"'  # in the description of the first page; such files leave out tiles
_END_OF_JPEG = b"\xff\xd9"
_TAIL = 64  # bytes at the end of a strip or tile, among which a JPEG stream must end
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}  # by the type of a tag
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # likewise
_MOST_TAGS = 4096
_LARGE = 2**62  # more bytes than any file has
_FORMATS = {b"II*\0": ("<", 4), b"MM\0*": (">", 4), b"II+\0": ("<", 8), b"MM\0+": (">", 8)}  # byte order, bytes of an offset
_Numbers = Mapping[int, npt.NDArray[np.unsignedinteger[Any]]]


class Page(NamedTuple):
    """A page of a TIFF file.

    offset : where its directory is
    first, nbytes : where its first strip or tile is, and how many bytes all of them have
    reduced : it is marked as a smaller version of another page
    compression : TIFF's number
    layout : what planes of one image have in common: size, samples, compression ...
    description : its ImageDescription, as it is in the file
    below : where the directories of its SubIFDs are
    """

    offset: int
    first: int
    nbytes: int
    reduced: bool
    compression: int
    layout: tuple[tuple[int, ...], ...]
    description: bytes
    below: tuple[int, ...]

    @property
    def area(self) -> int:
        """How many pixels the page has."""
        (width, *_), (height, *_) = self.layout[:2]
        return width * height


class _File(NamedTuple):
    """An open TIFF file, and how it stores numbers."""

    path: Path
    stream: IO[bytes]
    size: int
    order: str
    width: int

    def damaged(self, what: str) -> ParameterError:
        """The error for a file from which something is missing."""
        return ParameterError(f"{self.path} cannot be read as an image: it is cut off or damaged: {what}")

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Bytes of the file; ParameterError if they are not all there."""
        if offset + count > self.size:
            raise self.damaged(f"{what} should be at bytes {offset} to {offset + count}, but there are only {self.size}")
        self.stream.seek(offset)
        return self.stream.read(count)

    def number(self, data: bytes) -> int:
        """An unsigned integer."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")


class _Segments(NamedTuple):
    """The strips or tiles of a page: where they are, how many bytes each has, and how many each must have at least."""

    kind: str
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    least: npt.NDArray[np.int64]


def read_pages(path: Path, stream: IO[bytes], sparse: bool = False) -> list[Page]:
    """The pages of a TIFF file, all of whose strips and tiles are there; none if the file is not TIFF.

    With `sparse`, and in Philips' files, strips and tiles may be left out, as scanners do where there is nothing. The list is
    that of the chain of pages, without the SubIFDs, which hold smaller versions of a page; but they must be whole as well.

    Raises ParameterError for a file that is cut off or damaged, with the page, and the strip or tile, and for one whose SubIFDs
    hold another image than the page above them, such as the photograph below its thumbnail. Warns of tags that point
    outside the file, if the pixels do not depend on them.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(4)
    if head not in _FORMATS:
        return []
    file = _File(path, stream, size, *_FORMATS[head])
    offset = file.number(file.read(file.width if file.width == 4 else 8, file.width, "the offset of the first page"))
    pages: dict[int, Page] = {}
    outside: set[int] = set()
    while offset:
        if offset in pages:
            raise file.damaged(f"page {len(pages)} is at byte {offset}, where an earlier page is")
        page, following = _page(file, len(pages), offset, outside, sparse)
        sparse = sparse or _PHILIPS in page.description
        pages[offset], offset = page, following
    below = {at: (f"{i} below page {n}", page) for n, page in enumerate(pages.values()) for i, at in enumerate(page.below)}
    for offset in below.keys() - pages.keys():
        number, above = below[offset]
        page, _ = _page(file, number, offset, outside, sparse)
        if page.area > above.area or (page.area == above.area and not page.reduced):
            raise ParameterError(
                f"{path} holds several images: page {number} has {page.area} pixels and is no smaller version of the one "
                f"above it, which has {above.area}; save the image that you want in its own file"
            )
    if not pages:
        raise file.damaged("it has no page")
    if outside:
        tags = ", ".join(map(str, sorted(outside)))
        warnings.warn(f"{path} is read without its tags {tags}, which point outside the file", stacklevel=2)
    return list(pages.values())


def _page(file: _File, number: int | str, offset: int, outside: set[int], sparse: bool) -> tuple[Page, int]:
    """The page at an offset, and the offset of the next one, 0 if there is none. Messages call it `number`.

    outside : the tags that point outside the file, to which those of this page are added
    """
    what = f"the directory of page {number}"
    start = offset + (8 if file.width == 8 else 2)
    count = file.number(file.read(offset, start - offset, what))
    if not 0 < count <= _MOST_TAGS:
        raise file.damaged(f"{what} has {count} tags")
    length = 20 if file.width == 8 else 12
    tags = file.read(start, count * length, what)
    numbers: dict[int, npt.NDArray[np.unsignedinteger[Any]]] = {}
    description, fills = b"", sparse
    for position in range(0, count * length, length):
        one = tags[position : position + length]
        tag, kind = file.number(one[:2]), file.number(one[2:4])
        size = file.number(one[4 : length - file.width]) * _SIZES.get(kind, 0)
        inline = size <= file.width
        place = start + position + length - file.width if inline else file.number(one[-file.width :])
        if tag in _NUMBERS:
            if kind not in _INTEGERS or not size:
                raise file.damaged(f"tag {tag} of page {number} holds no integers")
            data = file.read(place, size, f"tag {tag} of page {number}")
            numbers.setdefault(tag, np.frombuffer(data, file.order + _INTEGERS[kind]))
        elif place + size > file.size:
            outside.add(tag)
        elif tag == _DESCRIPTION:
            description = description or file.read(place, size, "")
        fills |= tag == _NO_DATA or _PHILIPS in description
    end = start + count * length
    following = file.number(file.read(end, file.width, f"the offset of the page after page {number}"))
    segments = _segments(file, number, numbers)
    _check(file, number, segments, fills)
    compression = _first(numbers, _COMPRESSION, _UNCOMPRESSED)
    if compression == _JPEG:
        _check_jpeg(file, number, segments)
    layout = tuple(tuple(numbers[tag].tolist()) if tag in numbers else () for tag in _LAYOUT)
    reduced = bool(_first(numbers, _SUBFILE, 0) & _REDUCED)
    first, nbytes = int(segments.offsets[0]), int(segments.lengths.sum())
    below = tuple(numbers[_SUB_PAGES].tolist()) if _SUB_PAGES in numbers else ()
    return Page(offset, first, nbytes, reduced, compression, layout, description, below), following


def _first(numbers: _Numbers, tag: int, default: int) -> int:
    """The first number in a tag."""
    return int(numbers[tag][0]) if tag in numbers else default


def _segments(file: _File, number: int | str, numbers: _Numbers) -> _Segments:
    """The strips or tiles of a page, as many as its size takes; ParameterError if fewer are listed."""
    height, width = _first(numbers, _HEIGHT, 0), _first(numbers, _WIDTH, 0)
    depth, samples = _first(numbers, _DEPTH, 1), _first(numbers, _SAMPLES, 1)
    if not (height and width and depth and samples):
        raise file.damaged(f"page {number} has {height} x {width} pixels of {samples} samples")
    planes, together = (samples, 1) if _first(numbers, _PLANAR, 1) == _SEPARATE else (1, samples)
    if _TILES in numbers:
        kind, offsets, lengths = "tile", numbers[_TILES], numbers.get(_TILE_BYTES)
        side, rows = _first(numbers, _TILE_WIDTH, 0), _first(numbers, _TILE_HEIGHT, 0)
        layers = _first(numbers, _TILE_DEPTH, 1)
        if not (side and rows and layers):
            raise file.damaged(f"page {number} has tiles of {rows} x {side} pixels")
        count = ceil(height / rows) * ceil(width / side) * ceil(depth / layers) * planes
    elif _STRIPS in numbers:
        kind, offsets, lengths = "strip", numbers[_STRIPS], numbers.get(_STRIP_BYTES)
        rows = min(_first(numbers, _ROWS, height) or height, height)
        count = ceil(height / rows) * depth * planes
    else:
        empty = np.empty(0, np.uint32)
        kind, offsets, lengths = "JPEG stream", numbers.get(_JPEG_STREAM, empty), numbers.get(_JPEG_BYTES, empty)
        count, rows = 1, height
    raw = _first(numbers, _COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and _first(numbers, _PHOTOMETRIC, 0) != _YCBCR
    row = ceil(width * together * int(numbers[_BITS].max() if _BITS in numbers else 1) / 8)
    if lengths is None:  # which a single strip that is not compressed may lack
        lengths = np.array([min(rows * row, _LARGE)] if raw and count == 1 else [], np.uint64)
    listed = min(len(offsets), len(lengths))
    if listed < count:
        raise file.damaged(f"page {number} lists {listed} of its {count} {kind}s")
    least = np.ones(count, np.int64)  # of what is compressed or in tiles, decoders find out
    if raw and kind == "strip":
        last = ceil(height / rows) - 1
        least[:] = min(rows * row, _LARGE)
        least[last :: last + 1] = min((height - last * rows) * row, _LARGE)
    bounded = [np.minimum(part[:count].astype(np.uint64), np.uint64(_LARGE)).astype(np.int64) for part in (offsets, lengths)]
    return _Segments(kind, bounded[0], bounded[1], least)


def _check(file: _File, number: int | str, segments: _Segments, fills: bool) -> None:
    """Raise ParameterError unless all strips or tiles of a page are in the file.

    fills : the file says what those hold that are missing
    """
    missing = (segments.offsets == 0) | (segments.lengths == 0)
    outside = segments.offsets + segments.lengths > file.size
    short = (segments.lengths < segments.least) & ~missing
    for bad, what in ((missing & (not fills), "is missing"), (outside, "ends behind the file"), (short, "is too short")):
        if bad.any():
            i = int(bad.argmax())
            where = f"{segments.lengths[i]} bytes at byte {segments.offsets[i]} of {file.size}"
            raise file.damaged(f"{segments.kind} {i} of {len(bad)} of page {number} {what} ({where})")


def _check_jpeg(file: _File, number: int | str, segments: _Segments) -> None:
    """Raise ParameterError unless the JPEG stream of each strip or tile has an end: decoders make up what follows."""
    for i in np.flatnonzero(segments.lengths):
        tail = min(_TAIL, int(segments.lengths[i]))
        if _END_OF_JPEG not in file.read(int(segments.offsets[i] + segments.lengths[i]) - tail, tail, segments.kind):
            raise file.damaged(f"{segments.kind} {i} of page {number} is a JPEG stream without an end")
