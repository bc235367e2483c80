"""Slides and pyramids -> OME-NGFF: levels, scales, metadata, associated pictures; what does not fit into memory by windows."""

import numpy as np
import pytest
import tifffile
import zarr
from helpers import slides
from helpers.stacks import EXACT, attributes, stack

import caecodec
from caecodec.images.image import Size
from caecodec.ngff import Options, blocks, encode_paths, read_group
from caecodec.ngff.pyramid import Halved, factor, pyramid

KEPT = Options(codec="none", chunk_size=32, background="none")
BUILT = Options(codec="none", chunk_size=32, background="none", pyramid="build")


@pytest.fixture
def svs(tmp_path):
    path = tmp_path / "a.svs"
    slides.aperio(path, slides.tissue(205, 262))
    return path


@pytest.fixture
def by_windows(monkeypatch):
    """Blocks of 16 KiB, so that small images are read by windows as large ones are."""
    monkeypatch.setattr("caecodec.ngff.convert.BLOCK_BYTES", 2**14)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**14)


def encoded(source, target, options):
    written, failed = encode_paths([source], target, options)
    assert not failed, failed[0].error
    return written[0]


def levels(path):
    """The shapes of the levels, and the scales that the metadata say."""
    group, said = zarr.open_group(str(path), mode="r"), attributes(path)["multiscales"][0]["datasets"]
    return [(group[one["path"]].shape[1:], one["coordinateTransformations"][0]["scale"][1:]) for one in said]


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_levels_are_kept(svs, tmp_path, by_windows, ngff):
    """Those of the scanner, one of a quarter and not of the half; what is smaller is made, until it fits a chunk."""
    options = Options(codec="none", chunk_size=32, background="none", ngff=ngff)
    group = encoded(svs, tmp_path / "a.ome.zarr", options)
    found = [((205, 262), [0.499] * 2), ((51, 65), [1.996] * 2), ((26, 33), [3.992] * 2), ((13, 17), [7.984] * 2)]
    assert levels(group) == [(shape, pytest.approx(scale)) for shape, scale in found]
    with tifffile.TiffFile(svs) as file:
        for number, level in enumerate(file.series[0].levels):
            np.testing.assert_array_equal(read_group(group, number).pixels, np.moveaxis(level.asarray(), -1, 0))
    image = read_group(group)
    assert (image.magnification, image.icc_profile, image.rgb) == (20, slides.PROFILE, True)
    assert dict(image.sizes) == {"y": Size(0.499, "micrometer"), "x": Size(0.499, "micrometer")}
    assert "associated" not in zarr.open_group(str(group), mode="r")
    text = "".join(path.read_text() for path in group.rglob("*") if path.name in ("zarr.json", ".zattrs"))
    assert "micrometer" in text
    assert not [said for said in ("Aperio", "User") if said in text]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in group.iterdir() if "scratch" in path.name] == []


def test_levels_are_built(svs, tmp_path, by_windows):
    group = encoded(svs, tmp_path / "a.ome.zarr", BUILT)
    assert [shape for shape, _ in levels(group)] == [(205, 262), (103, 131), (52, 66), (26, 33), (13, 17)]
    assert [scale for _, scale in levels(group)] == [pytest.approx([0.499 * 2**i] * 2) for i in range(5)]
    full = read_group(group).pixels
    expected = list(pyramid((full,), 32, tmp_path))
    for number, level in enumerate(expected):
        np.testing.assert_array_equal(read_group(group, number).pixels, level)


def test_levels_of_a_group_are_built_anew(svs, tmp_path):
    """Its attributes stay, in each version; only the levels are others."""
    kept = encoded(svs, tmp_path / "a.ome.zarr", KEPT)
    for ngff in ("0.4", "0.5", "0.6"):
        options = Options(codec="none", chunk_size=64, pyramid="build", ngff=ngff)
        group = encoded(kept, tmp_path / f"{ngff}.ome.zarr", options)
        for number, shape in enumerate([(205, 262), (103, 131), (52, 66), (26, 33)]):
            image = read_group(group, number)
            assert image.pixels.shape[1:] == shape
            assert image.sizes["x"].value == pytest.approx(0.499 * 2**number)
        assert image.magnification == 20
        assert set(zarr.open_group(str(group), mode="r").array_keys()) == {"s0", "s1", "s2", "s3"}


def test_associated_pictures_if_asked_for(svs, tmp_path):
    options = Options(codec="none", chunk_size=32, associated=True)
    group = encoded(svs, tmp_path / "a.ome.zarr", options)
    assert set(zarr.open_group(str(group), mode="r")["associated"].group_keys()) == {"label", "macro", "thumbnail"}
    label = read_group(group / "associated" / "label")
    assert (label.rgb, label.pixels.shape) == (True, (3, 32, 40))


def test_channels_and_objective_of_ome_tiff(tmp_path, by_windows):
    """Also of a file whose levels are in SubIFDs."""
    pixels, path = stack(3, 90, 100), tmp_path / "a.ome.tif"
    channels = {"Name": ["DAPI", "GFP", "Cy5"], "Color": [-16776961, 16711935, 65535]}  # RGBA, as signed integers
    about = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "Channel": channels}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as file:
        tiles = {"tile": (16, 16), "photometric": "minisblack", "compression": "zlib"}
        file.write(pixels, subifds=1, metadata=about, **tiles)
        file.write(pixels[:, 1::3, 1::3], subfiletype=1, **tiles)
    with tifffile.TiffFile(path, mode="r+") as file:
        objective = '<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="63"/></Instrument><Image'
        file.pages[0].tags["ImageDescription"].overwrite(file.ome_metadata.replace("<Image", objective, 1).encode())
    group = encoded(path, tmp_path / "a.ome.zarr", KEPT)
    image, channels = read_group(group), attributes(group)["omero"]["channels"]
    np.testing.assert_array_equal(image.pixels, pixels)
    np.testing.assert_array_equal(read_group(group, 1).pixels, pixels[:, 1::3, 1::3])
    assert [shape for shape, _ in levels(group)] == [(90, 100), (30, 33), (15, 17)]
    assert [scale for _, scale in levels(group)] == [[0.25, 0.5], [0.75, 1.5], [1.5, 3.0]]
    assert [(one["label"], one["color"]) for one in channels] == [("DAPI", "FF0000"), ("GFP", "00FF00"), ("Cy5", "0000FF")]
    assert (image.labels, image.colours, image.magnification) == (("DAPI", "GFP", "Cy5"), ("FF0000", "00FF00", "0000FF"), 63)
    caecodec.ngff.write_image(tmp_path / "again.ome.tif", image)
    assert caecodec.ngff.read_image(tmp_path / "again.ome.tif").colours == image.colours


@pytest.mark.parametrize("layout", [
    {"tile": (32, 32), "compression": "zlib"}, {"rowsperstrip": 7, "compression": "lzw"}, {"compression": "zlib"}, {},
    {"byteorder": ">"}, {"planarconfig": "separate", "tile": (32, 32)},
], ids=["tiles", "strips", "one strip", "plain", "big-endian", "separate"])  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_layouts(tmp_path, by_windows, layout, dtype):
    """A file that has been read by windows is what it is read at once."""
    pixels, path = np.moveaxis(stack(3, 205, 130, dtype=dtype), 0, -1), tmp_path / "a.btf"
    planes = np.moveaxis(pixels, -1, 0) if "planarconfig" in layout else pixels
    tifffile.imwrite(path, planes, bigtiff=True, photometric="rgb", metadata=None, **layout)
    group = encoded(path, tmp_path / "a.ome.zarr", EXACT)
    np.testing.assert_array_equal(read_group(group).pixels, np.moveaxis(pixels, -1, 0))
    np.testing.assert_array_equal(read_group(group, 3).pixels, list(pyramid((np.moveaxis(pixels, -1, 0),), 32, tmp_path))[3])


def test_windows_of_no_more_than_a_block(svs, tmp_path, by_windows, monkeypatch):
    read, most = blocks.read, []

    def watched(source, region):
        most.append(read(source, region).nbytes)
        return read(source, region)

    monkeypatch.setattr(blocks, "read", watched)
    encoded(svs, tmp_path / "a.ome.zarr", KEPT)
    assert len(most) > 20
    assert max(most) <= 2 * 2**14  # blocks of whole tiles are a little larger


def test_damage_that_is_found_late(tmp_path, by_windows):
    """A tile that cannot be decoded ends the conversion with the file's name, and leaves nothing."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(200, 200), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[40]
    data = bytearray(path.read_bytes())
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    (failure,) = encode_paths([path], tmp_path / "a.ome.zarr", EXACT)[1]
    assert str(failure.error).startswith(f"{path} cannot be read as an image:")
    assert [one.name for one in tmp_path.iterdir()] == ["a.tif"]


def test_factors():
    for full, length, expected in ((900, 29, 32), (9, 3, 4), (400, 133, 3), (205, 51, 4), (100, 100, 1), (7, 0, 1)):
        assert factor(full, length) == expected
    assert factor(100, 70) == pytest.approx(10 / 7)


def test_halves_by_windows():
    pixels = stack(3, 2100, 31)
    halves = Halved(pixels)
    whole = halves[(slice(None),) * 3]
    assert whole.shape == (3, 1050, 16)
    np.testing.assert_array_equal(halves[1:2, 1000:1100, 5:99], whole[1:2, 1000:1100, 5:99])
