"""Metadata that libraries cannot read do not cost the image: EXIF, PNG chunks, JPEG segments."""

import io
import struct
import zlib

import numpy as np
import pytest
from helpers.stacks import stack
from PIL import Image, PngImagePlugin

import caecodec
from caecodec.images.files import read_image, read_rgb, read_size
from caecodec.images.stripped import without_metadata

PICTURE = np.moveaxis(stack(3, 30, 40, dtype="uint8"), 0, -1).copy()


def exif(*entries):
    """EXIF of entries (tag, type, value as bytes), each value in a place of its own if it is longer than four bytes."""
    head, tail = struct.pack("<H", len(entries)), b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<L", start + len(tail))
        head += struct.pack("<HHL", tag, kind, 1) + inline
        tail += value if len(value) > 4 else b""
    return b"Exif\0\0II*\0" + struct.pack("<L", 8) + head + b"\0" * 4 + tail


TURNED = (0x112, 3, struct.pack("<H", 6))
ODD = {
    "a negative resolution": (0x11A, 10, struct.pack("<ll", -72, 0)),
    "a maker in floats": (0x10F, 12, struct.pack("<d", 0.5)),
    "a model in fractions": (0x110, 5, struct.pack("<LL", 3, 4)),
    "a type that does not exist": (0x131, 77, b"abcd"),
    "a directory that is none": (0x8769, 2, b"abcdefgh"),
}


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("odd", ODD)
def test_odd_entries_beside_an_orientation(tmp_path, kind, odd):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(PICTURE).save(path, exif=exif(TURNED, ODD[odd]), **({"lossless": True} if kind == "webp" else {}))
    Image.fromarray(PICTURE).save(tmp_path / f"b.{kind}", **({"lossless": True} if kind == "webp" else {}))
    expected = np.rot90(np.asarray(Image.open(tmp_path / f"b.{kind}")), -1)
    np.testing.assert_array_equal(read_image(path).picture(), expected)
    assert read_size(path) == (40, 30)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientations_that_mean_nothing(tmp_path, value):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif((0x112, 3, struct.pack("<H", value))))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").picture(), PICTURE)


def test_exif_that_is_none(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=b"Exif\0\0nothing of the kind")
    with pytest.warns(UserWarning, match=r"a\.png is read as if upright, because its EXIF cannot be read"):
        found = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(found.picture(), PICTURE)


def png(*chunks, before=True):
    """A PNG file with further chunks, before its pixels or after them."""
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "PNG")
    data = stream.getvalue()
    place = data.index(b"IDAT") - 4 if before else data.index(b"IEND") - 4
    packed = b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc) for kind, body, crc in chunks)
    return data[:place] + packed + data[place:]


def sealed(kind, body):
    return kind, body, zlib.crc32(kind + body)


CHUNKS = {
    "much text": sealed(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3 * 2**20))),
    "text with a wrong checksum": (b"tEXt", b"Comment\0a", 7),
    "text of an unknown compression": sealed(b"zTXt", b"Comment\0\7abc"),
    "a resolution that is cut off": sealed(b"pHYs", b"\0"),
    "a gamma that is cut off": sealed(b"gAMA", b"\0"),
    "a profile that is none": sealed(b"iCCP", b"name\0\0abc"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.filterwarnings("ignore:.*is read without its metadata")
def test_odd_chunks(tmp_path, chunk, before):
    (tmp_path / "a.png").write_bytes(png(CHUNKS[chunk], before=before))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").picture(), PICTURE)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png", io.BytesIO(png(CHUNKS[chunk], before=before))), PICTURE)
    assert read_size(tmp_path / "a.png") == (30, 40)


def test_the_warning_names_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(png(CHUNKS["much text"]))
    with pytest.warns(UserWarning, match=r"a\.png is read without its metadata, which Pillow cannot read: Decompressed data"):
        read_image(tmp_path / "a.png")


def test_what_pixels_need_stays(tmp_path):
    """Transparency and frames are refused all the same, and damaged pixels are not taken."""
    image = Image.fromarray(PICTURE)
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3 * 2**20, zip=True)
    clear = image.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 128))
    clear.save(tmp_path / "clear.png", pnginfo=info)
    image.save(tmp_path / "frames.png", pnginfo=info, save_all=True, append_images=[clear.convert("RGB")])
    (tmp_path / "cut.png").write_bytes(png(CHUNKS["much text"])[:-200])
    for name, match in (("clear", "transparency"), ("frames", "2 frames"), ("cut", "cannot be read as an image")):
        with pytest.raises(caecodec.ParameterError, match=rf"{name}\.png.*{match}"):
            read_image(tmp_path / f"{name}.png")


def test_stripped_files():
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "JPEG", exif=exif(TURNED), comment=b"a comment", icc_profile=b"profile")
    plain = without_metadata(stream.getvalue())
    assert not any(word in plain for word in (b"Exif", b"a comment", b"ICC_PROFILE"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(plain))), np.asarray(Image.open(stream)))
    assert without_metadata(plain) is None
    assert without_metadata(b"II*\0") is None
    for size in range(len(plain) // 4):  # whatever is cut off
        without_metadata(stream.getvalue()[:size])
