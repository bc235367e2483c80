"""open_slide: the regions, pictures and properties of an OME-NGFF group are those of tiffslide and OpenSlide for its slide."""

import pickle
import warnings
from itertools import product

import numpy as np
import openslide
import pytest
import tiffslide
import zarr
from helpers import processes, slides
from helpers.paths import TINY_LAYERS
from helpers.stacks import stack
from openslide.deepzoom import DeepZoomGenerator
from zarr.storage import LocalStore

import caecodec
from caecodec.ngff import Image, Options, Size, encode_paths, write_group

WHOLE, ODD = (208, 264), (205, 262)  # a quarter of the sides is a whole number, and is not


def encoded(source, target, options):
    _, failed = encode_paths([source], target, options)
    assert not failed, failed[0].error
    return target


@pytest.fixture(scope="module", params=[WHOLE, ODD], ids=["whole", "odd"])
def svs(request, tmp_path_factory):
    """A slide of two levels, compressed without loss."""
    path = tmp_path_factory.mktemp("slide") / "a.svs"
    slides.aperio(path, slides.tissue(*request.param), compression="zlib")
    return path


@pytest.fixture(scope="module")
def group(svs):
    """The same as a group, coded without loss."""
    options = Options(max_error=0, background="none", associated=True, chunk_size=128)
    return encoded(svs, svs.with_name("a.ome.zarr"), options)


@pytest.fixture
def ours(group):
    with caecodec.open_slide(group) as slide:
        yield slide


def starts(whole, length):
    """Places on an axis: before, at, across and beyond its borders, and inside."""
    return (-length - 3, -5, 0, 70, whole - length // 2, whole + 9)


@pytest.mark.parametrize("padding", [True, False])
def test_arrays_are_those_of_tiffslide(svs, ours, padding):
    with tiffslide.TiffSlide(svs) as theirs:
        assert (ours.dimensions, ours.level_count) == (theirs.dimensions, theirs.level_count)
        assert (ours.level_dimensions, ours.level_downsamples) == (theirs.level_dimensions, theirs.level_downsamples)
        same = {name for name in ours.properties if name in theirs.properties and ".tile-" not in name}  # chunks are larger
        assert {"tiffslide.mpp-x", "tiffslide.mpp-y", "tiffslide.objective-power", "tiffslide.level[1].downsample"} < same
        for name in same:
            assert ours.properties[name] == theirs.properties[name]
        width, height = ours.dimensions
        for level, x, y in product((0, 1), starts(width, 40), starts(height, 30)):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*out-of-bounds, but padding is requested")
                expected = theirs.read_region((x, y), level, (40, 30), as_array=True, padding=padding)
            found = ours.read_region((x, y), level, (40, 30), as_array=True, padding=padding)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == np.uint8


def test_pictures_are_those_of_openslide(svs, ours):
    """Transparent outside, with the ICC profile; where OpenSlide does not interpolate between the pixels of a level."""
    with openslide.OpenSlide(svs) as theirs:
        assert ours.level_downsamples == theirs.level_downsamples
        texts = {name for name in ours.properties if name.startswith("openslide.") and ".tile-" not in name}
        assert len(texts) == 4 + 2 * 3
        for name in texts - {"openslide.level[1].downsample"}:
            assert ours.properties[name] == theirs.properties[name]
        for downsample in (0.5, 1, 3.9, 4, 4.1, 100):
            assert ours.get_best_level_for_downsample(downsample) == theirs.get_best_level_for_downsample(downsample)
        width, height = ours.dimensions
        for level in (0, 1) if ours.level_downsamples[1] == 4 else (0,):
            for x, y in product(starts(width, 40), starts(height, 30)):
                place = (x // 4 * 4, y // 4 * 4)
                found, expected = (one.read_region(place, level, (40, 30)) for one in (ours, theirs))
                assert found.mode == "RGBA"
                assert found.info["icc_profile"] == slides.PROFILE
                np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        assert ours.color_profile.profile.profile_description == theirs.color_profile.profile.profile_description
        assert sorted(ours.associated_images) == sorted(theirs.associated_images)
        for name, picture in theirs.associated_images.items():
            np.testing.assert_array_equal(np.asarray(ours.associated_images[name]), np.asarray(picture))
        np.testing.assert_array_equal(*(np.asarray(one.get_thumbnail((50, 60))) for one in (ours, theirs)))


def test_code_for_openslide_takes_it(svs, ours):
    """Such as its own DeepZoomGenerator, which composes the tiles of viewers by their transparency."""
    with openslide.OpenSlide(svs) as theirs:
        found, expected = (DeepZoomGenerator(one, tile_size=100, overlap=1) for one in (ours, theirs))
        assert found.get_dzi("png") == expected.get_dzi("png")
        assert found.level_tiles == expected.level_tiles
        for column, row in np.ndindex(found.level_tiles[-1]):
            tiles = (np.asarray(one.get_tile(one.level_count - 1, (column, row))) for one in (found, expected))
            np.testing.assert_array_equal(*tiles)


def test_only_chunks_that_a_region_touches_are_read(tmp_path):
    """The others may be damaged."""
    image = Image(stack(64, 96, dtype="uint8"), "yx")
    write_group(tmp_path / "a.ome.zarr", image, "a", Options(max_error=0, chunk_size=32))
    (tmp_path / "a.ome.zarr" / "s0" / "c" / "1" / "2").write_bytes(b"damaged")
    with caecodec.open_slide(tmp_path / "a.ome.zarr") as slide:
        region = slide.read_region((30, 20), 0, (66, 12), as_array=True)
        np.testing.assert_array_equal(region[..., 0], image.pixels[20:32, 30:96])
        with pytest.raises(caecodec.CorruptionError):
            slide.read_region((30, 20), 0, (66, 13))


def test_grey_channels_and_stacks(tmp_path):
    grey, channels = stack(40, 50, dtype="uint8"), stack(2, 40, 50)
    sizes = {"x": Size(500, "nanometer"), "y": Size(0.25, "millimeter")}
    images = {
        "grey": Image(grey[None], "zyx", sizes=sizes),
        "channels": Image(channels, "cyx", sizes={"x": Size(2, "second")}),
        "stack": Image(stack(3, 40, 50), "zyx"),
    }
    paths = {name: tmp_path / f"{name}.ome.zarr" for name in images}
    for name, image in images.items():
        write_group(paths[name], image, name, Options(codec="none"))
    with caecodec.open_slide(paths["grey"]) as slide:
        picture = np.asarray(slide.read_region((0, 0), 0, (50, 41)))
        np.testing.assert_array_equal(picture[:40], np.dstack((grey, grey, grey, np.full_like(grey, 255))))
        assert not picture[40:].any()
        assert (slide.properties["tiffslide.mpp-x"], slide.properties["openslide.mpp-y"]) == (0.5, "250")
        assert "openslide.objective-power" not in slide.properties
        assert not slide.associated_images
        assert slide.color_profile is None
    with caecodec.open_slide(paths["channels"]) as slide:
        region = slide.read_region((10, 30), 0, (40, 20), as_array=True)
        np.testing.assert_array_equal(region[:10], np.moveaxis(channels[:, 30:, 10:], 0, -1))
        assert "openslide.mpp-x" not in slide.properties
        with pytest.raises(caecodec.ParameterError, match="uint16 and 2 channels but .* pass as_array=True"):
            slide.read_region((0, 0), 0, (5, 5))
    with pytest.raises(caecodec.ParameterError, match="3 positions on axis z"):
        caecodec.open_slide(paths["stack"])


def test_layers(tmp_path):
    image = Image(stack(3, 60, 70, dtype="uint8"), "cyx", rgb=True)
    path = tmp_path / "a.ome.zarr"
    write_group(path, image, "a", Options(codec="sae", weights=str(TINY_LAYERS), chunk_size=32))
    with caecodec.settings.using(weights=TINY_LAYERS.parent):
        array = zarr.open_group(path, mode="r")["s0"]
        regions = []
        for layers in (1, None):
            with caecodec.open_slide(path, layers=layers) as slide:
                regions.append(slide.read_region((20, 10), 0, (45, 40), as_array=True))
            expected = caecodec.read(array, np.s_[:, 10:50, 20:65], layers=layers)
            np.testing.assert_array_equal(regions[-1], np.moveaxis(expected, 0, -1))
        assert not np.array_equal(*regions)
    write_group(tmp_path / "b.ome.zarr", image, "b", Options(codec="none"))
    with pytest.raises(caecodec.ParameterError, match="not coded by caecodec"):
        caecodec.open_slide(tmp_path / "b.ome.zarr", layers=1)


def test_bad_arguments(ours):
    for level in (-1, 2):
        with pytest.raises(caecodec.ParameterError, match=f"level is {level} but .* has levels 0 to 1"):
            ours.read_region((0, 0), level, (5, 5))
    for location, size in (((0, 0), (5, -1)), ((0, 0, 0), (5, 5)), ((0, 0), (5,))):
        with pytest.raises(caecodec.ParameterError, match="must be x, y, and a width and height"):
            ours.read_region(location, 0, size)
    with pytest.raises(caecodec.ParameterError, match="size is .* but must be a width and height of 1 or more"):
        ours.get_thumbnail((0, 5))
    with pytest.raises(KeyError):
        ours.associated_images["nothing"]
    assert ours.read_region((0, 0), 0, (0, 3), as_array=True).shape == (3, 0, 3)
    ours.close()
    ours.close()
    for use in (lambda: ours.read_region((0, 0), 0, (5, 5)), lambda: ours.associated_images):
        with pytest.raises(caecodec.ParameterError, match="is closed; open it again"):
            use()


def test_no_image(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(5, 5), dtype="uint8")
    for name in ("a.zarr", "none.zarr"):
        with pytest.raises(caecodec.ParameterError, match=f"{name} is not an OME-NGFF image"):
            caecodec.open_slide(tmp_path / name)


def test_levels_that_are_no_pyramid(tmp_path):
    write_group(tmp_path / "a.ome.zarr", Image(stack(2, 40, 50), "cyx"), "a", Options(codec="none", chunk_size=32))
    for shape in ((1, 20, 25), (2, 0, 25)):
        zarr.open_group(tmp_path / "a.ome.zarr").create_array("s1", shape=shape, dtype="uint16", overwrite=True)
        with pytest.raises(caecodec.ParameterError, match=r"a level of shape .* but a level must have pixels"):
            caecodec.open_slide(tmp_path / "a.ome.zarr")


READING = """
import multiprocessing
import sys
import numpy as np
import caecodec

def wrong(number):
    rng, count = np.random.default_rng(number), 0
    for x, y in rng.integers(0, 80, (40, 2)):
        count += not np.array_equal(slide.read_region((x, y), 0, (20, 20), as_array=True), whole[y : y + 20, x : x + 20])
    return count

slide = caecodec.open_slide(sys.argv[1])
whole = slide.read_region((0, 0), 0, slide.dimensions, as_array=True)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(wrong, range(2), chunksize=1) == [0, 0]
assert "torch" not in sys.modules
"""


def test_places_and_other_processes(tmp_path):
    """A forked one opens a zip file again, whose position it would share otherwise; a pickled slide opens its image."""
    image, folder = Image(stack(100, 100, dtype="uint8"), "yx"), tmp_path / "a.ome.zarr"
    write_group(folder, image, "a", Options(codec="none", chunk_size=16))
    zipped = encoded(folder, tmp_path / "a.ozx", Options(codec="none", chunk_size=16))
    for place in (str(folder), zipped, zipped.as_uri(), LocalStore(folder)):
        with caecodec.open_slide(place) as slide, pickle.loads(pickle.dumps(slide)) as again:
            assert again is not slide
            np.testing.assert_array_equal(again.read_region((0, 0), 0, (100, 100), as_array=True)[..., 0], image.pixels)
    processes.run("-c", READING, zipped)
