"""Image files: which are read, as what, and which are refused; files in folders and tar files."""

import io
import tarfile

import numpy as np
import pytest
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
    }
    for name in ("text.png", "text.tif"):
        (tmp_path / name).write_text("text")
    for match, paths in cases.items():
        for path in paths:
            for read in (read_image, read_rgb, read_size):
                with pytest.raises(caecodec.ParameterError, match=f"{path.name}.*({match})"):
                    read(path)


def rgb16_png(path):
    """A PNG of 16 bits a channel, which Pillow reads as 8."""
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(np.full((8, 8, 3), 1000, np.uint16)))
    return path


def test_formats_that_pillow_cannot_write(tmp_path, photograph):
    for name in ("a.txt", "a.psd"):
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


def test_messages_about_streams_name_the_member(tmp_path):
    for read in (read_image, read_rgb, read_size):
        with pytest.raises(caecodec.ParameterError, match=r"a\.tar.b\.png cannot be read as an image: Pillow does not know"):
            read(tmp_path / "a.tar" / "b.png", io.BytesIO(b"text"))
