"""Image files and OME-NGFF groups with mutated metadata through conversions: python tests/fuzz_files.py --count 5000 --seed 0.

Each is converted in a folder beside sound ones. Every file of a folder must be converted or fail with a line of its own, and
the sound ones must be converted to the pixels that they hold. Prints how many of each kind did which, and the slowest folder.
"""

import argparse
import collections
import copy
import io
import json
import logging
import random
import shutil
import struct
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import tifffile
import zarr
from helpers.stacks import EXACT, stack
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from caecodec.images.image import from_picture
from caecodec.ngff import decode_paths, encode_paths, read_group, write_group

FOLDER = 20  # mutated files in a folder
PICTURE = np.moveaxis(stack(3, 24, 30, dtype="uint8"), 0, -1).copy()
TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 99)
NUMBERS = (0, 1, 2, 3, 5, 6, 7, 8, 9, 24, 30, 255, 256, 4096, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
VALUES = (
    None,
    True,
    0,
    -1,
    1,
    2.5,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "8",
    "nanometer",
    "s0",
    "é\0",
    [],
    {},
    [None],
    [[]],
    {"a": 1},
)


def exif():
    """EXIF with an orientation, texts, rationals and a directory of its own."""
    found = Image.Exif()
    found[ExifTags.Base.Orientation] = 1
    found[ExifTags.Base.Make], found[ExifTags.Base.XResolution] = "maker", TiffImagePlugin.IFDRational(300, 1)
    found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = TiffImagePlugin.IFDRational(1, 60)
    return found.tobytes()


def saved(kind, **options):
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, kind, **options)
    return stream.getvalue()


def tiff(**options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, **options)
    return stream.getvalue()


def pyramid():
    """A TIFF file whose smaller level is in a SubIFD."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        options = {"tile": (16, 16), "photometric": "rgb", "compression": "zlib", "metadata": None}
        writer.write(PICTURE, subifds=1, **options)
        writer.write(PICTURE[::2, ::2], subfiletype=1, **options)
    return stream.getvalue()


def images():
    """Name, suffix, bytes, and the mutations of each sound file."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a text")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>", zip=True)
    planes = stack(2, 24, 30)
    ome = {"axes": "CYX", "PhysicalSizeX": 0.5, "Channel": {"Name": ["a", "b"]}}
    yield "jpeg with EXIF", ".jpg", saved("JPEG", exif=exif(), quality=95, dpi=(300, 300)), (_exif, _segment)
    yield (
        "png with EXIF",
        ".png",
        saved("PNG", exif=exif(), pnginfo=info, icc_profile=b"profile", dpi=(72, 72)),
        (_exif, _chunk),
    )
    yield "webp with EXIF", ".webp", saved("WEBP", exif=exif(), lossless=True), (_exif,)
    yield "tiff photograph", ".tif", saved("TIFF", compression="tiff_lzw", dpi=(300, 300), icc_profile=b"profile"), (_tag,)
    yield "ome-tiff", ".tif", tiff(data=planes, ome=True, photometric="minisblack", metadata=ome), (_tag, _text)
    yield "imagej tiff", ".tif", tiff(data=planes, imagej=True, metadata={"axes": "CYX", "Labels": ["a", "b"]}), (_tag, _text)
    yield "described tiff", ".tif", tiff(data=planes, compression="zlib", metadata={"axes": "ZYX"}), (_tag, _text)
    yield "pyramid tiff", ".tif", pyramid(), (_tag,)
    yield "big tiff", ".tif", tiff(data=planes[0], bigtiff=True, byteorder=">", rowsperstrip=5), (_tag,)


def _some_bytes(rng, data):
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        body[rng.randrange(len(body))] = rng.choice([0, 1, 255, rng.randrange(256)])
    return bytes(body)


def _exif(rng, data):
    """Other bytes, types, counts and values in the EXIF, which starts with II or MM behind "Exif"."""
    start = next(place for sign in (b"II*\0", b"MM\0*") if (place := data.find(sign)) >= 0)
    length = len(exif()) - 6
    part = bytearray(data[start : start + length])
    for _ in range(rng.randint(1, 3)):
        entry = 10 + 12 * rng.randrange(4)
        where = rng.choice([entry, entry + 2, entry + 4, entry + 8, rng.randrange(len(part) - 4)])
        part[where : where + 2] = struct.pack("<H", rng.choice([*TYPES, rng.randrange(65536)]))
    return _png_checksums(data[:start] + bytes(part[:length]) + data[start + length :])


def _png_checksums(data):
    """A PNG file with right checksums; other files as they are."""
    if not data.startswith(b"\x89PNG"):
        return data
    return data[:8] + b"".join(_packed(kind, body) for kind, body in _chunks(data))


def _chunks(data):
    position = 8
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        position += 12 + size


def _packed(kind, body, checksum=None):
    crc = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def _chunk(rng, data):
    """Chunks that are not critical: changed, doubled, left out, moved, made up, or with a wrong checksum."""
    chunks = list(_chunks(data))
    for _ in range(rng.randint(1, 3)):
        i = rng.choice([i for i, (kind, _) in enumerate(chunks) if kind[0] >= ord("a")] or [1])
        kind, body = chunks[i]
        action = rng.randrange(6)
        if action == 0 and body:
            chunks[i] = kind, _some_bytes(rng, body)
        elif action == 1:
            chunks.insert(rng.randrange(1, len(chunks)), (kind, body))
        elif action == 2 and kind[0] >= ord("a"):
            chunks.pop(i)
        elif action == 3:
            chunks[i] = (
                rng.choice([b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"pHYs", b"iCCP", b"eXIf", b"sRGB", b"abCd"]),
                body,
            )
        elif action == 4:
            chunks.insert(rng.randrange(1, len(chunks)), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))))
        elif body:
            chunks[i] = kind, body[: rng.randrange(len(body))]
    wrong = rng.randrange(len(chunks)) if rng.random() < 0.2 else None
    return data[:8] + b"".join(
        _packed(kind, body, 1 if i == wrong and kind[0] >= ord("a") else None) for i, (kind, body) in enumerate(chunks)
    )


def _segment(rng, data):
    """A further segment of an application or comment, of any content."""
    marker = rng.choice([*range(0xE1, 0xEE), 0xEF, 0xFE])
    starts = [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"MPF\0II*\0\x08\0\0\0",
        b"ICC_PROFILE\0\1\1",
        b"http://ns.adobe.com/xap/1.0/\0",
        b"JFIF\0",
    ]
    body = rng.choice(starts) + rng.randbytes(rng.choice([0, 1, 8, 40]))
    return data[:2] + struct.pack(">BBH", 255, marker, len(body) + 2) + body + data[2:]


def _tag(rng, data):
    """Another type, count, value or number in the directories of a TIFF file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    width, count_format, head = (8, "Q", 8) if big else (4, "I", 2)
    entry = 4 + 2 * width
    body = bytearray(data)
    (place,) = struct.unpack_from(order + count_format, data, 8 if big else 4)
    while place and rng.random() < 0.3:
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
        (following,) = struct.unpack_from(order + count_format, data, place + head + count * entry)
        place = following or place
        if not following:
            break
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    for _ in range(rng.randint(1, 2)):
        where = place + head + entry * rng.randrange(count)
        action = rng.randrange(5)
        if action == 0:
            struct.pack_into(
                order + "H", body, where, rng.choice([254, 258, 262, 270, 274, 282, 284, 317, 330, 339, 34675, 65000])
            )
        elif action == 1:
            struct.pack_into(order + "H", body, where + 2, rng.choice(TYPES))
        elif action == 2:
            struct.pack_into(order + count_format, body, where + 4, rng.choice(NUMBERS))
        elif action == 3:
            struct.pack_into(order + count_format, body, where + 4 + width, rng.choice(NUMBERS))
        else:
            body[where + rng.randrange(entry)] = rng.randrange(256)
    return bytes(body)


def _text(rng, data):
    """Other characters in the text that says what the pages are."""
    begin = next(place for sign in (b"<?xml", b"ImageJ=", b'{"shape"') if (place := data.find(sign)) >= 0)
    end = data.index(b"\0", begin)
    text = bytearray(data[begin:end])
    for _ in range(rng.randint(1, 3)):
        where, size = rng.randrange(len(text)), rng.choice([1, 1, 2, 8, 40])
        part = text[where : where + size]
        text[where : where + size] = bytes(
            rng.choice([b'0123456789-. <>"=/xXZ\xff', part or b"0"])[rng.randrange(-1, 1)] for _ in part
        )
    return data[:begin] + bytes(text) + data[end:]


def _json(rng, document):
    """A JSON document with another value, or without one, somewhere."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    holder, key = rng.choice(places)
    action = rng.randrange(4)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return document


def _places(node):
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from _places(value)


def groups():
    """Attributes of sound groups: of both versions, with names of channels, sizes, and what other programs add."""
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space", "unit": "micrometer"} for name in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    image = {
        "name": "a",
        "axes": axes,
        "datasets": [{"path": "s0", "coordinateTransformations": scale}],
        "coordinateTransformations": scale,
    }
    channels = [
        {"label": name, "color": "00FF00", "active": True, "window": {"min": 0, "max": 9, "start": 0, "end": 9}}
        for name in "ab"
    ]
    ome = {"multiscales": [image], "omero": {"channels": channels, "rdefs": {"model": "color"}}}
    return {"0.5": {"ome": {"version": "0.5", **ome}, "caecodec": {"icc_profile": "AAAA"}}, "0.4": {**ome, "other": [1]}}


def write_mutated_group(rng, path, version, attributes):
    """A group with these attributes, mutated, or with a mutated document of its array."""
    pixels = stack(2, 24, 30)
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=pixels, chunks=(1, 24, 30))
    if rng.random() < 0.2:
        name = path / "s0" / ("zarr.json" if version == "0.5" else ".zarray")
        name.write_text(json.dumps(_json(rng, json.loads(name.read_text()))))
        group.attrs.update(attributes)
        return
    mutated = attributes
    for _ in range(rng.randint(1, 2)):
        mutated = _json(rng, mutated)
    name = path / ("zarr.json" if version == "0.5" else ".zattrs")
    document = json.loads(name.read_text()) | {"attributes": mutated} if version == "0.5" else mutated
    name.write_text(json.dumps(document))


def run_images(rng, folder, outcomes):
    """A folder of mutated image files and sound ones, converted."""
    (folder / "in").mkdir()
    sound = []
    kinds = {}
    for i in range(FOLDER):
        kind, suffix, data, mutations = rng.choice(list(IMAGES))
        (folder / "in" / f"b{i}{suffix}").write_bytes(rng.choice(mutations)(rng, data))
        kinds[f"b{i}"] = kind
    for name in ("a", "z"):
        Image.fromarray(PICTURE).save(folder / "in" / f"{name}.png")
        sound.append(name)
    written, failed = encode_paths([folder / "in"], folder / "out", EXACT)
    _check(kinds, sound, [path.name.split(".")[0] for path in written], failed, outcomes)
    for name in sound:
        np.testing.assert_array_equal(read_group(folder / "out" / f"{name}.ome.zarr").picture(), PICTURE)


def run_groups(rng, folder, outcomes):
    """A folder of groups with mutated attributes and sound ones, converted to another codec and to image files."""
    (folder / "in").mkdir()
    kinds = {}
    for i in range(FOLDER // 2):
        version = rng.choice(["0.5", "0.4"])
        write_mutated_group(rng, folder / "in" / f"b{i}.zarr", version, GROUPS[version])
        kinds[f"b{i}"] = f"group of OME-NGFF {version}"
    for name in ("a", "z"):
        write_group(folder / "in" / f"{name}.zarr", from_picture(PICTURE), name, EXACT)
    for convert, target in ((encode_paths, EXACT), (decode_paths, ".tif")):
        out = folder / convert.__name__
        written, failed = convert([folder / "in"], out, target)
        _check(kinds, ["a", "z"], [path.name.split(".")[0] for path in written], failed, outcomes)
        for name in ("a", "z"):
            found = read_group(out / f"{name}.ome.zarr").picture() if target is EXACT else tifffile.imread(out / f"{name}.tif")
            np.testing.assert_array_equal(found, PICTURE)


def _check(kinds, sound, written, failed, outcomes):
    names = {Path(failure.path).name.split(".")[0]: str(failure.error) for failure in failed}
    assert set(sound) <= set(written), names
    assert sorted([*written, *names]) == sorted([*kinds, *sound])
    assert all(message.strip() and "\n" not in message.strip() for message in names.values()), names
    for name, kind in kinds.items():
        outcomes[kind, "converted" if name in written else "refused"] += 1


IMAGES = list(images())
GROUPS = groups()


def run(count, seed, outcomes):
    """Convert `count` mutated files; the seconds of the slowest folder, and its number."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    slowest = (0.0, "")
    number = 0
    while sum(outcomes.values()) < count:
        rng = random.Random(f"{seed}/{number}")
        folder = Path(tempfile.mkdtemp())
        start = time.perf_counter()
        try:
            (run_groups if number % 3 == 2 else run_images)(rng, folder, outcomes)
        except BaseException:
            print(f"folder {seed}/{number}: {folder}")
            raise
        slowest = max(slowest, (time.perf_counter() - start, f"folder {seed}/{number}"))
        shutil.rmtree(folder)
        number += 1
    return slowest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes = collections.Counter()
    begin = time.perf_counter()
    slowest, folder = run(options.count, options.seed, outcomes)
    print(f"{sum(outcomes.values())} mutated files and groups, seed {options.seed}, {time.perf_counter() - begin:.0f} s")
    for kind in sorted({kind for kind, _ in outcomes}):
        print(f"{kind:25} {outcomes[kind, 'converted']:6} converted {outcomes[kind, 'refused']:6} refused")
    print(f"slowest: {slowest:.1f} s, {folder}")


if __name__ == "__main__":
    main()
