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


def philips(path, pixels, missing=(1,)):
    """A Philips TIFF of these pixels and a level of half their size, padded to whole tiles, and of a label.

    missing : numbers of tiles of the full size that are left out
    """
    attribute = '<Attribute Name="{}" Group="0x{}" Element="0x{}" PMSVR="{}">{}</Attribute>'
    spacing = [
        attribute.format("DICOM_PIXEL_SPACING", "0028", "0030", "IDoubleArray", f'"{mm}" "{mm}"') for mm in (25e-5, 5e-4)
    ]
    levels = [
        f'<DataObject ObjectType="PixelDataRepresentation">{one}'
        + attribute.format("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", "301D", "1001", "IUInt16", f'"{number}"')
        + "</DataObject>"
        for number, one in enumerate(spacing)
    ]
    scan = (
        '<DataObject ObjectType="DPScannedImage">'
        + attribute.format("PIM_DP_IMAGE_TYPE", "301D", "1004", "IString", "WSI")
        + spacing[0]
        + attribute.format(
            "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", "1001", "8B01", "IDataObjectArray", f"<Array>{''.join(levels)}</Array>"
        )
        + "</DataObject>"
    )
    document = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + attribute.format("PIM_DP_SCANNED_IMAGES", "301D", "1003", "IDataObjectArray", f"<Array>{scan}</Array>")
        + "</DataObject>"
    )
    tiles = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64), "software": "Philips DP v1.0", "metadata": None}
    half = pixels[::2, ::2]
    padded = np.pad(half, [(0, -n % 64) for n in half.shape[:2]] + [(0, 0)], mode="edge")
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, description=document, **tiles)
        file.write(padded, description="level=1", subfiletype=1, **tiles)
        file.write(pixels[:32, :40], description="Label", photometric="rgb", compression="jpeg", metadata=None)
    for number in missing:
        without_tile(path, number)


def perkin_elmer(path, planes, colour=False):
    """A QPTIFF: a page for each plane (channels, height, width), of fluorescence, or one of RGB; their halves, and pictures."""
    xml = (
        '<?xml version="1.0" encoding="utf-16"?>\r\n<PerkinElmer-QPI-ImageDescription><ImageType>{}</ImageType>{}'
        "<Objective>20x</Objective><ScanProfile><Name>another</Name></ScanProfile></PerkinElmer-QPI-ImageDescription>"
    )
    names = ["<Name>DAPI</Name><Color>0,0,255</Color>", "<Name>Opal 520</Name><Color>0,255,0</Color>"]
    names = [""] if colour else names
    options = {"photometric": "rgb" if colour else "minisblack", "metadata": None, "software": "PerkinElmer-QPI"}
    options |= {"resolution": (20000, 20000), "resolutionunit": "centimeter", "tile": (64, 64), "compression": "lzw"}
    picture = np.moveaxis(stack(3, 40, 60, dtype="uint8"), 0, -1)
    plain = {"photometric": "rgb", "metadata": None, "software": "PerkinElmer-QPI"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for plane, name in zip(planes, names, strict=True):
            file.write(plane, description=xml.format("FullResolution", name), **options)
        file.write(picture[::2, ::2], description=xml.format("Thumbnail", ""), **plain)
        for plane, name in zip(planes, names, strict=True):
            file.write(plane[::2, ::2], description=xml.format("ReducedResolution", name), subfiletype=1, **options)
        file.write(picture, description=xml.format("Overview", ""), **plain)
        file.write(picture[:30], description=xml.format("Label", ""), **plain)


def dicom(folder, pixels):
    """The files of a DICOM slide, one for each of two levels, uncompressed, in tiles of 64 x 64 pixels; their paths."""
    uid = "1.2.826.0.1.3680043.8.498."
    slide_class = "1.2.840.10008.5.1.4.1.1.77.1.6"
    paths = []
    for number, scale in enumerate((1, 2)):
        level = pixels[::scale, ::scale]
        height, width = level.shape[:2]
        rows, columns = -(-height // 64), -(-width // 64)
        padded = np.pad(level, [(0, rows * 64 - height), (0, columns * 64 - width), (0, 0)])
        tiles = padded.reshape(rows, 64, columns, 64, 3).swapaxes(1, 2).tobytes()
        spacing = _sequence(0x0028, 0x9110, _element(0x0028, 0x0030, "DS", f"{0.00025 * scale}\\{0.00025 * scale}"))
        kind = "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if scale == 1 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED"
        meta = b"".join((
            _element(0x0002, 0x0001, "OB", b"\0\1"), _element(0x0002, 0x0002, "UI", slide_class),
            _element(0x0002, 0x0003, "UI", f"{uid}{number}"), _element(0x0002, 0x0010, "UI", "1.2.840.10008.1.2.1"),
            _element(0x0002, 0x0012, "UI", f"{uid}9"),
        ))  # fmt: skip
        body = b"".join((
            _element(0x0008, 0x0008, "CS", kind), _element(0x0008, 0x0016, "UI", slide_class),
            _element(0x0008, 0x0018, "UI", f"{uid}{number}"), _element(0x0008, 0x0060, "CS", "SM"),
            _element(0x0020, 0x000D, "UI", f"{uid}7"), _element(0x0020, 0x000E, "UI", f"{uid}8"),
            _element(0x0020, 0x9311, "CS", "TILED_FULL"), _element(0x0028, 0x0002, "US", 3),
            _element(0x0028, 0x0004, "CS", "RGB"), _element(0x0028, 0x0006, "US", 0),
            _element(0x0028, 0x0008, "IS", str(rows * columns)), _element(0x0028, 0x0010, "US", 64),
            _element(0x0028, 0x0011, "US", 64), _element(0x0028, 0x0100, "US", 8), _element(0x0028, 0x0101, "US", 8),
            _element(0x0028, 0x0102, "US", 7), _element(0x0028, 0x0103, "US", 0), _element(0x0048, 0x0006, "UL", width),
            _element(0x0048, 0x0007, "UL", height),
            _sequence(0x0048, 0x0105, _element(0x0048, 0x0112, "DS", "20")),
            _sequence(0x5200, 0x9229, spacing), _element(0x7FE0, 0x0010, "OB", tiles),
        ))  # fmt: skip
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta)) + meta + body)
    return paths


def _element(group, element, kind, value):
    """A data element of DICOM, in the transfer syntax Explicit VR Little Endian."""
    if isinstance(value, int):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    elif isinstance(value, str):
        value = value.encode() + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in ("OB", "SQ") else struct.pack("<H", len(value))
    return struct.pack("<HH", group, element) + kind.encode() + length + value


def _sequence(group, element, item):
    return _element(group, element, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)
