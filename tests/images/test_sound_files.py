"""Files that are sound, though unusual: of phones and panoramas, hidden ones beside others, sizes that are no numbers."""

import io
import json
import struct
import tarfile
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image

import caecodec
from caecodec import settings
from caecodec.cli.main import main
from caecodec.images.files import read_image, read_rgb, read_size, write_image
from caecodec.images.image import Image as Picture
from caecodec.images.listing import find_images
from caecodec.training import data


@pytest.fixture
def phone(tmp_path, photograph):
    """A JPEG file of a photograph, and of a smaller picture that belongs to it."""
    first, second = Image.fromarray(photograph[:48, :64]), Image.fromarray(photograph[:24, :32])
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    return tmp_path / "phone.jpg"


def test_the_photograph_of_a_phone(phone):
    with Image.open(phone) as several:
        assert several.n_frames == 2
        expected = np.asarray(several)
    np.testing.assert_array_equal(read_rgb(phone), expected)
    np.testing.assert_array_equal(read_rgb(phone, io.BytesIO(phone.read_bytes())), expected)
    assert read_size(phone) == (48, 64)
    assert data.count([phone.parent]) == 1


def test_pictures_on_a_par_are_refused(phone):
    """Two views of a scene, each of which its entry in the file's index calls a part of a multi-frame image."""
    content = phone.read_bytes()
    with Image.open(phone) as several:
        sizes = [entry["Size"] for entry in several.mpinfo[0xB002]]
    for size in sizes:
        at = content.index(struct.pack("<L", size), content.index(b"MPF\0")) - 4
        content = content[:at] + struct.pack("<L", 0x020002) + content[at + 4 :]
    phone.write_bytes(content)
    with pytest.raises(caecodec.ParameterError, match="has 2 frames but must have one"):
        read_image(phone)


def test_more_pixels_than_pillow_opens(tmp_path, capsys):
    """The limit is Pillow's unless the caller raises or lowers it; Pillow's own stays what it was."""
    Image.new("L", (400, 300), 7).save(tmp_path / "wide.png")
    before = Image.MAX_IMAGE_PIXELS
    with settings.using(max_pixels=119_999):
        with pytest.raises(caecodec.ParameterError, match="more than 119,999 pixels.*--max-pixels.*save the image as TIFF"):
            read_image(tmp_path / "wide.png")
        with pytest.raises(caecodec.ParameterError, match="more than 119,999 pixels"):
            read_size(tmp_path / "wide.png")
    assert (
        main(["encode", str(tmp_path / "wide.png"), "-o", str(tmp_path / "a"), "--codec", "none", "--max-pixels", "59999"]) == 1
    )
    assert "CAECODEC_MAX_PIXELS" in capsys.readouterr().err
    assert settings.current().max_pixels == 178956970
    Image.MAX_IMAGE_PIXELS = 50_000
    try:
        assert read_image(tmp_path / "wide.png").pixels.shape == (300, 400)
        assert Image.MAX_IMAGE_PIXELS == 50_000
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_threads_share_the_limit(tmp_path):
    Image.new("L", (40, 30), 7).save(tmp_path / "a.png")
    before, shapes = Image.MAX_IMAGE_PIXELS, []
    threads = [threading.Thread(target=lambda: shapes.append(read_size(tmp_path / "a.png"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(30, 40)] * 8
    assert before == Image.MAX_IMAGE_PIXELS


HIDDEN = ("._a.png", ".b.png", ".thumbnails/c.png", "__MACOSX/._a.png", "deep/.d.png")


def test_hidden_files_are_no_images(tmp_path, photograph):
    """In folders and tar files, for training and evaluation as for conversion; a file that is named itself is read."""
    folder = tmp_path / ".photos"
    for name in ("a.png", *HIDDEN):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[:16, :16]).save(folder / name)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("./a.png", *HIDDEN):
            tar.add(folder / name, name)
    for source, found in ((folder, folder / "a.png"), (tmp_path / "photos.tar", tmp_path / "photos.tar" / "a.png")):
        assert [file.path for file in find_images([source])] == [found]
    assert [file.path for file in find_images([folder / ".b.png"])] == [folder / ".b.png"]
    written, failed = caecodec.ngff.encode_paths([folder], tmp_path / "out", caecodec.ngff.Options(codec="none"))
    assert [path.name for path in written] == ["a.ome.zarr"]
    assert not failed


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="20" SizeY="30" SizeZ="1" SizeC="1" SizeT="1" '
    'PhysicalSizeX="{}" PhysicalSizeY="0.5"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" '
    'PlaneCount="1"/></Pixels></Image></OME>'
)


@pytest.mark.parametrize("size", ["", "1,5", "n/a", "INF", "-inf", "NaN", "0", "-2", "1e999"])
def test_a_size_that_is_no_number(tmp_path, size):
    """The pixels are converted, without that size, and the group's document is JSON."""
    plane = np.arange(600, dtype=np.uint8).reshape(30, 20)
    tifffile.imwrite(tmp_path / "a.ome.tif", plane, description=OME.format(size), metadata=None)
    image = read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.pixels, plane)
    assert {axis: tuple(value) for axis, value in image.sizes.items()} == {"y": (0.5, "micrometer")}
    assert main(["encode", str(tmp_path / "a.ome.tif"), "-o", str(tmp_path / "a.zarr"), "--codec", "none", "--quiet"]) == 0
    document = (tmp_path / "a.zarr" / "zarr.json").read_text()
    assert json.loads(document, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_sizes_of_imagej_that_are_no_numbers(tmp_path):
    planes = np.zeros((2, 8, 8), np.uint16)
    about = {"axes": "ZYX", "unit": "um", "spacing": "thin", "finterval": "inf"}
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, resolution=(2, 4), metadata=about)
    sizes = read_image(tmp_path / "a.tif").sizes
    assert set(sizes) == {"x", "y"}


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_no_pixels_cannot_be_written(tmp_path, name):
    with pytest.raises(caecodec.ParameterError, match=r"cannot hold an image of axes t, y, x, shape \(0, 8, 8\).*no pixels"):
        write_image(tmp_path / name, Picture(np.zeros((0, 8, 8), np.uint16), "tyx"))
    assert not list(tmp_path.iterdir())
