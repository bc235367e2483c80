"""What the bytes of an image file say that Pillow does not: more bits than it gives, fewer pixels than it shows."""

import zlib
from collections.abc import Callable
from math import ceil

_SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins
_COMPONENTS = 40  # bytes from there to the number of components
_SCAN, _END = 0xDA, b"\xff\xd9"  # of a JPEG file: what stands before the coded pixels, and after them
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # in a pixel, by a PNG file's kind of colour
_WHOLE = ((0, 0, 1, 1),)  # the passes of a PNG file: the first column and row, and the steps to the next ones
_INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def altered(kind: str, mode: str, data: bytes) -> bool:
    """Whether Pillow gives an image with fewer bits than the file has, or other values.

    Parameters
    ----------
    kind, mode
        Pillow's names of the file's format, one of ALTERED, and of the mode in which it gives the image.
    data
        The file.
    """
    return ALTERED[kind](mode, data)


def lacks_rows(data: bytes) -> bool:
    """Whether the compressed pixels of a PNG file end before its last row; Pillow leaves what is missing black."""
    position, header, parts = 8, b"", []
    while position + 8 <= len(data):
        start, size = position + 8, int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : start]
        header = data[start : start + size] if kind == b"IHDR" else header
        parts += [data[start : start + size]] if kind == b"IDAT" else []
        position = start + size + 4
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits, passes = header[8] * _SAMPLES[header[9]], _INTERLACED if header[12] else _WHOLE
    sizes = [(ceil((width - x) / across), ceil((height - y) / down)) for x, y, across, down in passes]
    wanted = sum(rows * (1 + ceil(columns * bits / 8)) for columns, rows in sizes if columns > 0)
    return len(zlib.decompressobj().decompress(b"".join(parts), wanted)) < wanted


def prolonged(data: bytes) -> bytes:
    """A JPEG file with meaningless bytes after its coded pixels: decoders pass over them, unless they lack pixels."""
    position = 2
    while position + 4 <= len(data) and data[position + 1] != _SCAN:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    end = data.find(_END, position)
    return data if end < 0 else data[:end] + bytes(range(1, 128)) + data[end:]


def _jpeg_2000(mode: str, data: bytes) -> bool:
    """Pillow gives grey above 8 bits as 16, shifted, and all else as 8; of signed samples it moves zero."""
    start = data.find(_SIZ) + _COMPONENTS
    count = int.from_bytes(data[start : start + 2], "big")
    least, most = (16, 16) if mode.startswith("I") else (1, 8)
    return not all(least <= said + 1 <= most for said in data[start + 2 : start + 2 + 3 * count : 3])


def _avif(mode: str, data: bytes) -> bool:
    """Of the configuration of AV1, the second flag of the third byte stands for 10 or 12 bits."""
    at = data.find(b"av1C")
    return at >= 0 and bool(data[at + 6 : at + 7][0] & 0x40)


def _heif(mode: str, data: bytes) -> bool:
    """Of the configuration of HEVC, three bits of the 18th byte hold the bits of brightness above 8."""
    at = data.find(b"hvcC")
    return at >= 0 and bool(data[at + 21 : at + 22][0] & 7)


def _sgi(mode: str, data: bytes) -> bool:
    return data[3] > 1  # bytes in a sample


def _ppm(mode: str, data: bytes) -> bool:
    words = b" ".join(line.partition(b"#")[0] for line in data[:4096].split(b"\n")).split()
    return mode == "RGB" and len(words) > 3 and words[3].isdigit() and int(words[3]) > 255


ALTERED: dict[str, Callable[[str, bytes], bool]] = {
    "AVIF": _avif,
    "HEIF": _heif,
    "JPEG2000": _jpeg_2000,
    "PPM": _ppm,
    "SGI": _sgi,
}
