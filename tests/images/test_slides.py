"""Slides: their levels, sizes, magnification, profile and associated pictures, and parts that were not scanned."""

import shutil

import numpy as np
import pytest
import tifffile
from helpers import slides, stacks
from PIL import Image

import caecodec
from caecodec.images.files import open_image
from caecodec.images.image import Size
from caecodec.ngff.files import image_inputs

SIZES = {"y": Size(0.499, "micrometer"), "x": Size(0.499, "micrometer")}


@pytest.fixture
def svs(tmp_path):
    path = tmp_path / "a.svs"
    slides.aperio(path, slides.tissue(301, 398))
    return path


def pictures(path):
    """The levels of an SVS file, as tifffile reads them: (3, height, width)."""
    with tifffile.TiffFile(path) as file:
        return [np.moveaxis(level.asarray(), -1, 0) for level in file.series[0].levels]


def test_aperio(svs):
    full, small = pictures(svs)
    with open_image(svs) as image:
        assert (image.axes, image.rgb, image.slide, image.magnification, dict(image.sizes)) == ("cyx", True, True, 20, SIZES)
        assert image.icc_profile == slides.PROFILE
        assert {name: one.pixels.shape for name, one in image.associated.items()} == {
            "thumbnail": (3, 38, 50), "label": (3, 32, 40), "macro": (3, 32, 80),
        }  # fmt: skip
        assert image.pixels.chunks == (3, 64, 64)
        np.testing.assert_array_equal(image.values, full)
        np.testing.assert_array_equal(image.pixels[:, 50:500, 120:131], full[:, 50:500, 120:131])
        (level,) = image.levels
        np.testing.assert_array_equal(level[:, 10:70, 1:99], small[:, 10:70, 1:99])
    np.testing.assert_array_equal(caecodec.ngff.read_image(svs).pixels, full)


def test_the_same_file_by_openslide(svs, tmp_path):
    """OpenSlide tells formats by their content, so that a file of a suffix that is left to it may be one of Aperio's."""
    pytest.importorskip("openslide")
    path = shutil.copy(svs, tmp_path / "a.svslide")
    (full, _), whole = pictures(svs), slides.tissue(304, 400)
    with open_image(path) as image:
        assert (image.axes, image.rgb, image.slide, image.magnification, dict(image.sizes)) == ("cyx", True, True, 20, SIZES)
        assert image.icc_profile == slides.PROFILE
        assert set(image.associated) == {"thumbnail", "label", "macro"}
        assert image.levels == ()  # 301 / 75 is no whole number, and OpenSlide would interpolate
        np.testing.assert_array_equal(image.values, full)
        np.testing.assert_array_equal(image.pixels[1:2, 50:500, 120:131], full[1:2, 50:500, 120:131])
    slides.aperio(path, whole)
    with open_image(path) as image:
        np.testing.assert_array_equal(image.levels[0][:, 11:70, 13:99], pictures(path)[1][:, 11:70, 13:99])


def test_tiles_that_were_not_scanned(svs, tmp_path):
    """They are white; in files of other kinds a missing tile is a loss."""
    pytest.importorskip("openslide")
    slides.without_tile(svs, 1)
    full = pictures(svs)[0]
    full[:, :64, 64:128] = 255
    for path in (svs, shutil.copy(svs, tmp_path / "a.svslide")):
        with open_image(path) as image:
            np.testing.assert_array_equal(image.values, full)
    with (
        pytest.raises(caecodec.ParameterError, match=r"a\.tif cannot be read .* tile 1 of 35 of page 0 is missing"),
        open_image(shutil.copy(svs, tmp_path / "a.tif")),
    ):
        pass


def test_jpeg_2000_tiles(tmp_path):
    """Aperio's are of RGB, or of YCbCr, which OpenSlide converts."""
    path, pixels = tmp_path / "a.svs", slides.tissue(128, 192, noise=0)
    slides.aperio(path, pixels, compression="aperio_jp2000_rgb")
    with open_image(path) as image:
        np.testing.assert_array_equal(image.values, np.moveaxis(pixels, -1, 0))
    pytest.importorskip("openslide")
    colours = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    slides.aperio(path, colours, compression="aperio_jp2000_ycbc")
    with open_image(path) as image:
        assert np.abs(image.values.astype(int) - np.moveaxis(pixels, -1, 0)).max() <= 3


def test_a_file_of_one_page(tmp_path):
    """Its size would do for a photograph, but then what the scanner says would be lost."""
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, slides.tissue(64, 80), photometric="rgb", description=slides.ABOUT, metadata=None)
    for one in (path, shutil.copy(path, tmp_path / "a.tif")):
        with open_image(one) as image:
            assert (image.magnification, dict(image.sizes)) == (20, SIZES)


def test_damage_is_found(svs):
    data = svs.read_bytes()
    svs.write_bytes(data[: len(data) // 2])
    with pytest.raises(caecodec.ParameterError, match=r"a\.svs cannot be read as an image"), open_image(svs):
        pass
    svs.with_suffix(".mrxs").write_bytes(data)
    pytest.importorskip("openslide")
    with open_image(svs.with_suffix(".mrxs")) as image:
        assert image.slide
    svs.with_suffix(".mrxs").write_bytes(b"nothing")
    with (
        pytest.raises(caecodec.ParameterError, match=r"a\.mrxs cannot be read as an image"),
        open_image(svs.with_suffix(".mrxs")),
    ):
        pass


def test_leica(tmp_path):
    """An SCN file as its XML describes it: an overview, and a scan of two levels."""
    pixels, path = slides.tissue(128, 192), tmp_path / "a.scn"
    document = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="c" sizeX="9000" '
        'sizeY="6000">{}</collection></scn>'
    )
    image = (
        '<image name="{}"><pixels>{}</pixels><view sizeX="{}" sizeY="{}"/><scanSettings><objectiveSettings><objective>{}'
        "</objective></objectiveSettings></scanSettings></image>"
    )
    dimension = '<dimension sizeX="{1}" sizeY="{0}" r="{2}" ifd="{3}"/>'
    overview = image.format("one", dimension.format(64, 96, 0, 0), 9000, 6000, 0.6)
    scan = image.format("two", dimension.format(128, 192, 0, 1) + dimension.format(64, 96, 1, 2), 4000, 3000, 40)
    tiles = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64), "metadata": None, "resolutionunit": "centimeter"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(pixels[::2, ::2], description=document.format(overview + scan), resolution=(600, 600), **tiles)
        file.write(pixels, resolution=(40000, 20000), **tiles)
        file.write(pixels[::2, ::2], resolution=(20000, 10000), **tiles)
    with open_image(path) as found:
        assert (found.pixels.shape, found.magnification, [level.shape for level in found.levels]) == (
            (3, 128, 192),
            40,
            [(3, 64, 96)],
        )
        assert dict(found.sizes) == {"y": Size(0.5, "micrometer"), "x": Size(0.25, "micrometer")}
        assert set(found.associated) == {"macro"}


def test_hamamatsu(tmp_path):
    pixels, path = slides.tissue(128, 256), tmp_path / "a.ndpi"
    slides.hamamatsu(path, [(pixels, 40.0), (pixels[::2, ::2], 20.0), (pixels[::4, ::2], -1.0)])
    half_a_micrometre = Size(0.25, "micrometer")
    with open_image(path) as image:
        assert (image.rgb, image.slide, image.magnification) == (True, True, 40)
        assert dict(image.sizes) == {"y": half_a_micrometre, "x": half_a_micrometre}
        assert [level.shape for level in image.levels] == [(3, 64, 128)]
        assert set(image.associated) == {"macro"}
        assert image.pixels.chunks == (3, 8, 64)  # what is between two restart markers
        values = image.values
        np.testing.assert_array_equal(image.pixels[:, 21:90, 70:100], values[:, 21:90, 70:100])
    assert np.abs(values.astype(int) - np.moveaxis(pixels, -1, 0)).mean() < 3
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(path) as slide:  # it takes the file for one of Hamamatsu's too
        assert slide.properties["openslide.vendor"] == "hamamatsu"
        assert slide.level_dimensions[:2] == ((256, 128), (128, 64))
        np.testing.assert_array_equal(np.asarray(slide.read_region((0, 0), 0, (256, 128)))[..., :3], np.moveaxis(values, 0, -1))


def test_philips(tmp_path):
    """A TIFF file that lacks tiles where nothing was scanned, and whose level is padded; as OpenSlide reads it, too."""
    path, pixels = tmp_path / "a.tiff", slides.tissue(256, 320)
    slides.philips(path, pixels)
    with tifffile.TiffFile(path) as file:
        full = np.moveaxis(file.pages[0].asarray(), -1, 0).copy()
        half = np.moveaxis(file.pages[1].asarray(), -1, 0)[:, :128, :160]
    full[:, :64, 64:128] = 255
    with open_image(path) as image:
        assert (image.axes, image.rgb, image.slide, set(image.associated)) == ("cyx", True, True, {"label"})
        assert dict(image.sizes) == {axis: Size(pytest.approx(0.25), "micrometer") for axis in "yx"}
        np.testing.assert_array_equal(image.values, full)
        (level,) = image.levels
        np.testing.assert_array_equal(level[:, 10:128, 3:160], half[:, 10:, 3:])
    pytest.importorskip("openslide")
    with open_image(shutil.copy(path, tmp_path / "a.svslide")) as image:
        assert dict(image.sizes) == {axis: Size(pytest.approx(0.25), "micrometer") for axis in "yx"}
        np.testing.assert_array_equal(image.values, full)
        np.testing.assert_array_equal(image.levels[0][:, 10:128, 3:160], half[:, 10:, 3:])


def test_philips_without_a_tile_of_the_level(tmp_path):
    path = tmp_path / "a.tif"
    slides.philips(path, slides.tissue(256, 320), missing=())
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[1].tags[name]
            tag.overwrite([0, *tag.value[1:]])
    with open_image(path) as image:
        assert (image.levels[0][:, :64, :64] == 255).all()
        assert not (image.levels[0][:, :64, 64:] == 255).all()


@pytest.mark.parametrize("suffix", [".qptiff", ".tif"])
def test_perkin_elmer(tmp_path, suffix):
    """Channels of fluorescence with their names and colours, their levels, and pictures of the slide beside them."""
    path, planes = tmp_path / f"a{suffix}", stacks.stack(2, 128, 192)
    slides.perkin_elmer(path, planes)
    with open_image(path) as image:
        assert (image.axes, image.rgb, image.slide, image.magnification) == ("cyx", False, True, 20)
        assert (image.labels, image.colours) == (("DAPI", "Opal 520"), ("0000FF", "00FF00"))
        assert dict(image.sizes) == {axis: Size(0.5, "micrometer") for axis in "yx"}
        assert {name: one.pixels.shape for name, one in image.associated.items()} == {
            "thumbnail": (3, 20, 30), "macro": (3, 40, 60), "label": (3, 30, 60),
        }  # fmt: skip
        np.testing.assert_array_equal(image.values, planes)
        np.testing.assert_array_equal(image.pixels[1:, 60:70, 60:70], planes[1:, 60:70, 60:70])
        (level,) = image.levels
        np.testing.assert_array_equal(level[:, 5:50, 60:70], planes[:, ::2, ::2][:, 5:50, 60:70])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_fluorescence_that_was_not_scanned_is_black(tmp_path, dtype):
    path, planes = tmp_path / "a.qptiff", stacks.stack(2, 128, 192, dtype=dtype)
    slides.perkin_elmer(path, planes)
    slides.without_tile(path, 1)
    planes[0, :64, 64:128] = 0
    with open_image(path) as image:
        np.testing.assert_array_equal(image.values, planes)


def test_perkin_elmer_in_colour(tmp_path):
    pixels = slides.tissue(128, 192)
    slides.perkin_elmer(tmp_path / "a.qptiff", pixels[None], colour=True)
    with open_image(tmp_path / "a.qptiff") as image:
        assert (image.axes, image.rgb, image.labels, image.magnification) == ("cyx", True, (), 20)
        np.testing.assert_array_equal(image.values, np.moveaxis(pixels, -1, 0))
        np.testing.assert_array_equal(image.levels[0][:, :64, :96], np.moveaxis(pixels[::2, ::2], -1, 0))


def test_perkin_elmer_without_metadata_that_can_be_read(tmp_path):
    path, planes = tmp_path / "a.qptiff", stacks.stack(2, 128, 192)
    slides.perkin_elmer(path, planes)
    path.write_bytes(path.read_bytes().replace(b"</Objective>", b"<//bjective>"))
    with pytest.warns(UserWarning, match="is read without its metadata"):
        image = caecodec.ngff.read_image(path)
    assert (image.labels, dict(image.sizes)) == ((), {})
    np.testing.assert_array_equal(image.pixels, planes)


def test_dicom(tmp_path):
    """All levels by any of the files; in a folder they are not taken for slides each."""
    pytest.importorskip("openslide")
    pixels = slides.tissue(192, 256)
    paths = slides.dicom(tmp_path, pixels)
    for path in paths:
        with open_image(path) as image:
            assert (image.axes, image.rgb, image.slide, image.magnification) == ("cyx", True, True, 20)
            assert dict(image.sizes) == {axis: Size(0.25, "micrometer") for axis in "yx"}
            np.testing.assert_array_equal(image.values, np.moveaxis(pixels, -1, 0))
            (level,) = image.levels
            np.testing.assert_array_equal(level[:, 60:90, 60:90], np.moveaxis(pixels[::2, ::2], -1, 0)[:, 60:90, 60:90])
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    with pytest.raises(caecodec.ParameterError, match=r"0\.dcm cannot be read as an image"), open_image(paths[0]):
        pass
    with pytest.raises(caecodec.ParameterError, match="holds no image files"):
        image_inputs([tmp_path], tmp_path / "out")


@pytest.mark.parametrize(("suffix", "kind"), [("czi", "Zeiss CZI"), ("VSI", "Olympus VSI")])
def test_formats_that_are_not_read(tmp_path, suffix, kind):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"something")
    with (
        pytest.raises(caecodec.ParameterError, match=rf"{kind}, which is not read: .*bioformats2raw a\.{suffix} a\.zarr"),
        open_image(path),
    ):
        pass
