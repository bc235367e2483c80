"""Files as slide scanners write them: tiles, levels, the size of pixels, and pictures of the slide's label and whole."""

import io
import re
import struct

import numpy as np
import tifffile
from PIL import Image, ImageCms

from .stacks import stack

LIBRARY = "Aperio Image Library v11.2.1 \n"
ABOUT = LIBRARY + "46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990|User = S"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def tissue(height, width, background=(243, 241, 244), noise=2):
    """Something like stained tissue in the upper left quarter, and noisy background around it: (height, width, 3)."""
    rng = np.random.default_rng(0)
    pixels = np.array(background) + rng.integers(-noise, noise + 1, (height, width, 3))
    stained = np.moveaxis(stack(3, height // 2, width // 2, dtype="uint8"), 0, -1)
    pixels[: height // 2, : width // 2] = stained
    return pixels.clip(0, 255).astype(np.uint8)


def aperio(path, pixels, factor=4, compression="jpeg"):
    """An SVS file of these pixels, of a smaller level, and of a thumbnail, a label and an overview."""
    tiles = {"photometric": "rgb", "compression": compression, "tile": (64, 64), "metadata": None}
    strips = {"photometric": "rgb", "rowsperstrip": 16, "metadata": None}
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, description=ABOUT, iccprofile=PROFILE, **tiles)
        file.write(pixels[::8, ::8], description=ABOUT, compression="jpeg", **strips)
        file.write(pixels[::factor, ::factor][:height, :width], description=ABOUT, **tiles)
        file.write(pixels[:32, :40], description=f"{LIBRARY}label 40x32", subfiletype=1, compression="lzw", **strips)
        file.write(pixels[:32, :80], description=f"{LIBRARY}macro 80x32", subfiletype=9, compression="jpeg", **strips)


def without_tile(path, number):
    """Remove a tile of the first page, as scanners do where they found nothing."""
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        for name in ("TileOffsets", "TileByteCounts"):
            values = list(page.tags[name].value)
            values[number] = 0
            page.tags[name].overwrite(values)


def hamamatsu(path, pictures):
    """An NDPI file of (pixels, magnification) pairs: each page one JPEG stream, of whose restart markers it has a list.

    Offsets have 64 bits, of which an entry of a directory holds the lower half; the upper halves follow the directory.
    """
    data = bytearray(b"II*\0" + bytes(8))
    link = 4
    for pixels, magnification in pictures:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=90, subsampling=0, restart_marker_blocks=8)  # 64 x 8 pixels
        strip, jpeg = len(data), stream.getvalue()
        scan = jpeg.index(b"\xff\xda")
        first = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
        starts = [first, *(match.end() for match in re.finditer(rb"\xff[\xd0-\xd7]", jpeg[first:]))]
        starts[1:] = [first + start for start in starts[1:]]
        listed, resolution = strip + len(jpeg), strip + len(jpeg) + 4 * len(starts)
        text = resolution + 8
        data += jpeg + struct.pack(f"<{len(starts)}I", *starts) + struct.pack("<2I", int(1000 * abs(magnification)), 1)
        data += b"Hamamatsu\0"
        number = struct.unpack("<I", struct.pack("<f", magnification))[0]
        height, width, samples = pixels.shape
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 6), (271, 2, 10, text),
            (273, 4, 1, strip), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(jpeg)), (282, 5, 1, resolution),
            (283, 5, 1, resolution), (296, 3, 1, 3), (65420, 4, 1, 1), (65421, 11, 1, number),
            (65422, 9, 1, 0), (65423, 9, 1, 0), (65424, 9, 1, 0), (65426, 4, len(starts), listed),
        ]  # fmt: skip
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(data)
        data += bytes(8 + 4 * len(tags))
    path.write_bytes(data)
