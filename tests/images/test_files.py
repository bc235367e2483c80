"""Image files: which are read, as what, and which are refused; files in folders and tar files."""

import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
import tifffile
import zarr
from helpers.images import random_image
from PIL import ExifTags, Image, ImageOps

import caecodec
from caecodec.images.files import read_image, read_rgb, read_size, write_image
from caecodec.images.image import from_picture
from caecodec.images.listing import ImageFile, find_images


def saved(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, photograph, kind, orientation):
    image = Image.fromarray(photograph[:40, :60])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(image, tmp_path / f"a.{kind}", exif=exif, **({"lossless": True} if kind == "webp" else {}))
    upright = ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_array_equal(read_image(path).picture(), np.asarray(upright))
    assert read_size(path) == (upright.height, upright.width) == ((60, 40) if orientation > 4 else (40, 60))
    if orientation == 6 and kind == "png":  # rotate by 90 degrees to show
        np.testing.assert_array_equal(read_rgb(path), np.rot90(photograph[:40, :60], -1))


def test_images_that_rgb_or_grey_holds(tmp_path, photograph):
    image = Image.fromarray(photograph[:40, :60])
    grey, opaque = image.convert("L"), image.convert("RGBA")
    palette = image.quantize(64)
    for path, expected in [
        (saved(grey, tmp_path / "grey.png"), grey),
        (saved(grey.convert("LA"), tmp_path / "grey-opaque.png"), grey),
        (saved(opaque, tmp_path / "opaque.png"), image),
        (saved(palette, tmp_path / "palette.png"), palette.convert("RGB")),
        (saved(image, tmp_path / "lossless.webp", lossless=True), image),
    ]:
        read = read_image(path)
        assert (read.axes, read.rgb) == (("yx", False) if expected is grey else ("cyx", True))
        np.testing.assert_array_equal(read.picture(), np.asarray(expected))
        np.testing.assert_array_equal(read_rgb(path), np.asarray(expected.convert("RGB")))
        assert read_size(path) == (40, 60)


def test_images_that_cannot_be_held(tmp_path, photograph):
    image = Image.fromarray(photograph[:40, :60])
    clear = image.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 128))
    key = image.convert("P")
    cases = {
        "has transparency": [
            saved(clear, tmp_path / "alpha.png"),
            saved(key, tmp_path / "key.png", transparency=key.getpixel((0, 0))),
        ],
        "mode CMYK": [saved(image.convert("CMYK"), tmp_path / "cmyk.jpg"), saved(image.convert("CMYK"), tmp_path / "cmyk.tif")],
        "one-bit mask": [saved(image.convert("1"), tmp_path / "mask.png"), saved(image.convert("1"), tmp_path / "mask.tif")],
        "2 frames": [saved(image, tmp_path / "frames.png", save_all=True, append_images=[clear])],
        "cannot be read as an image": [tmp_path / "text.png", tmp_path / "text.tif"],
        "16 bits per channel.*TIFF": [rgb16_png(tmp_path / "rgb16.png")],
        "other than 8 bits.*TIFF": deep_colours(tmp_path),
        "dtype int8": signed(tmp_path),
        "end before its last row": [
            *(lacking_rows(tmp_path / f"{n}.png", *options) for n, options in enumerate(LACKING)),
            *cut_scans(tmp_path, photograph[:80, :120]),
        ],
    }
    for name in ("text.png", "text.tif"):
        (tmp_path / name).write_text("text")
    for match, paths in cases.items():
        for path in paths:
            for read in (read_image, read_rgb, *([read_size] if "row" not in match else [])):
                with pytest.raises(caecodec.ParameterError, match=f"{path.name}.*({match})"):
                    read(path)


LACKING = ((8, 0, 0), (16, 0, 0), (2, 3, 0), (8, 2, 1))  # bits, kind of colour, interlaced


def lacking_rows(path, bits, colour, interlaced):
    """A PNG file of 8 x 6 pixels, whose compressed pixels are sound, but lack the last row."""
    samples = 3 if colour == 2 else 1
    sizes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 1), (4, 3), (8, 3)) if interlaced else ((8, 6),)
    rows = b"".join(rows * (b"\0" + b"\x51" * (columns * samples * bits // 8)) for columns, rows in sizes)
    head = struct.pack(">IIBBBBB", 8, 6, bits, colour, 0, 0, interlaced)
    for data in (rows, rows[: -1 - 8 * samples * bits // 8]):
        parts = {b"IHDR": head, b"PLTE": bytes(range(12)), b"IDAT": zlib.compress(data), b"IEND": b""}
        chunks = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in parts.items()]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        if data is rows:
            assert read_image(path).pixels.shape[-2:] == (6, 8)
    return path


def cut_scans(folder, pixels):
    """JPEG files from whose coded pixels something is missing, though the mark of the end follows."""
    for name, picture, options in (
        ("rgb.jpg", pixels, {}),
        ("grey.jpg", pixels[..., 0], {}),
        ("restarts.jpg", pixels, {"restart_marker_rows": 1}),
    ):
        path = saved(Image.fromarray(picture), folder / name, quality=90, exif=thumbnail(pixels), **options)
        data = path.read_bytes()
        first = data.index(b"\xff\xda", data.rindex(b"\xff\xc0"))
        read_image(path)
        path.write_bytes(data[: first + 300] + b"\xff\xd9" + b"trailing bytes \xff\xd9")
        yield path


def thumbnail(pixels):
    """EXIF with a thumbnail, whose scan and end are not those of the photograph."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=98)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = stream.getvalue()
    return exif


def test_photographs_that_end_grey(tmp_path):
    """Sound ones, whose last pixel is as if it were missing."""
    grey = np.full((40, 60), 128, np.uint8)
    grey[:20] = 7
    for picture in (grey, np.stack([grey] * 3, -1)):
        path = saved(Image.fromarray(picture), tmp_path / "a.jpg", quality=95)
        np.testing.assert_array_equal(read_image(path).picture(), np.asarray(Image.open(path)))


def deep_colours(folder):
    """Files of more bits than 8 that Pillow gives as 8, or shifted to 16."""
    import imagecodecs

    grey = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    rgb = np.stack([grey] * 3, -1)
    files = {
        "deep.ppm": b"P6 # a comment\n64 64 4095\n" + rgb.astype(">u2").tobytes(),
        "deep.jp2": imagecodecs.jpeg2k_encode(rgb, codecformat="jp2", level=0),
        "shifted.jp2": imagecodecs.jpeg2k_encode(grey, codecformat="jp2", level=0, bitspersample=12),
        "signed.jp2": imagecodecs.jpeg2k_encode((grey // 16).astype(np.int8), codecformat="jp2", level=0),
        "deep.avif": imagecodecs.avif_encode(rgb // 4, bitspersample=10),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [*(folder / name for name in files), saved(Image.fromarray(rgb.astype(np.uint8)), folder / "deep.sgi", bpc=2)]


def test_eight_bits_of_the_same_formats(tmp_path, photograph):
    image = Image.fromarray(photograph[:40, :60])
    for name in ("a.ppm", "a.jp2", "a.sgi"):
        np.testing.assert_array_equal(read_rgb(saved(image, tmp_path / name)), photograph[:40, :60])
    assert read_size(saved(image, tmp_path / "a.avif")) == (40, 60)
    grey = photograph[:40, :60, 0] * np.uint16(257)
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(grey), tmp_path / "grey.jp2")).pixels, grey)


def signed(folder):
    """TIFF files of signed bytes, which Pillow takes for unsigned ones, one of them by another name."""
    for name in ("signed.tif", "signed.png"):
        tifffile.imwrite(folder / name, np.arange(-100, 100, dtype=np.int8).reshape(10, 20), metadata=None)
    return [folder / "signed.tif", folder / "signed.png"]


def rgb16_png(path):
    """A PNG of 16 bits a channel, which Pillow reads as 8."""
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(np.full((8, 8, 3), 1000, np.uint16)))
    return path


def test_formats_that_are_not_written(tmp_path, photograph):
    """Also those in which Pillow would keep 256 colours, or make the image smaller, without a word."""
    for name in ("a.txt", "a.psd", "a.gif", "a.ico"):
        with pytest.raises(caecodec.ParameterError, match=f"{name}"):
            write_image(tmp_path / name, from_picture(photograph))
    assert not list(tmp_path.iterdir())


def test_more_than_eight_bits_is_no_rgb(tmp_path):
    Image.fromarray(np.full((8, 9), 1000, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").pixels.dtype == np.uint16
    for read in (read_rgb, read_size):
        with pytest.raises(caecodec.ParameterError, match=r"deep\.png holds an image of axes y, x.*uint16.*convert it"):
            read(tmp_path / "deep.png")


def test_images_in_folders_and_tar_files(tmp_path):
    image = random_image(20, 30, 3)
    for name in ("b.png", "a.JPG", "deep/c.bmp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name, format="PNG")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        for name in ("z.png", "x/y.png", "x/notes.txt"):
            tar.add(tmp_path / "b.png", name)
    zarr.create_array(tmp_path / "array", data=image)
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    found = list(find_images([tmp_path, tmp_path / "b.png"]))
    names = ["a.JPG", "array", "b.png", "c.tar/x/y.png", "c.tar/z.png", "deep/c.bmp"]
    assert [getattr(one, "path", one) for one in found] == [*(tmp_path / name for name in names), tmp_path / "b.png"]
    assert [one.named for one in found if isinstance(one, ImageFile)] == [False] * 5 + [True]
    for one in found:
        if isinstance(one, ImageFile):
            assert one.size() == (20, 30)
            np.testing.assert_array_equal(one.pixels(), image)
            np.testing.assert_array_equal(one.pixels(), image)  # a second time


def test_paths_that_hold_no_files(tmp_path):
    with pytest.raises(caecodec.ParameterError, match=r"nothing does not exist"):
        list(find_images([tmp_path / "nothing"]))
    (tmp_path / "a.tar").write_text("text")
    with pytest.raises(caecodec.ParameterError, match=r"a\.tar cannot be read as a tar file"):
        list(find_images([tmp_path]))


def test_a_pipe_for_a_tar_file(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(caecodec.ParameterError, match=r"a\.tar is a pipe"):
        list(find_images([tmp_path]))


def test_messages_about_streams_name_the_member(tmp_path):
    for read in (read_image, read_rgb, read_size):
        with pytest.raises(caecodec.ParameterError, match=r"a\.tar.b\.png cannot be read as an image: Pillow does not know"):
            read(tmp_path / "a.tar" / "b.png", io.BytesIO(b"text"))
