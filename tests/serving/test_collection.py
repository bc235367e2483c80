"""What is found at a location, and how the axes of arrays are taken."""

from contextlib import ExitStack

import numpy as np
import pytest
import zarr
from helpers.paths import TINY, TINY_LAYERS

import caecodec
from caecodec import settings
from caecodec.serving import collection
from caecodec.serving.collection import open_collection


def one(path, **options):
    """The image that an array of zeros is, and the axes on which a position is chosen."""
    zarr.create_array(path, **{"dtype": "uint8", "chunks": options["shape"], **options})
    with ExitStack() as stack:
        (found,) = open_collection(path, stack).pyramids.values()
    return found


@pytest.mark.parametrize(
    ("shape", "options", "size", "channels", "rgb", "positions"),
    [
        ((40, 50), {}, (40, 50), 1, False, {}),
        ((40, 50, 3), {}, (40, 50), 3, True, {}),
        ((40, 50, 4), {}, (40, 50), 4, False, {}),
        ((3, 40, 50), {}, (40, 50), 3, True, {}),
        ((3, 40, 50), {"dtype": "uint16"}, (40, 50), 3, False, {}),
        ((5, 40, 50), {}, (40, 50), 1, False, {"axis 0": 5}),
        ((2, 5, 40, 50, 3), {}, (40, 50), 3, True, {"axis 0": 2, "axis 1": 5}),
        ((5, 40, 50), {"dimension_names": ("c", "y", "x")}, (40, 50), 5, False, {}),
        ((40, 3, 50), {"dimension_names": ("y", "z", "x")}, (40, 50), 1, False, {"z": 3}),
        ((40, 5, 50), {"dimension_names": ("x", "t", "y")}, (50, 40), 1, False, {"t": 5}),
        ((40, 50, 3), {"zarr_format": 2}, (40, 50), 3, True, {}),
        ((40, 50, 2), {"zarr_format": 2, "attributes": {"_ARRAY_DIMENSIONS": ["y", "x", "c"]}}, (40, 50), 2, False, {}),
    ],
)
def test_axes(tmp_path, shape, options, size, channels, rgb, positions):
    found = one(tmp_path / "a.zarr", shape=shape, **options)
    assert found.levels[0][:2] == size
    assert (len(found.channels), found.rgb, dict(found.positions)) == (channels, rgb, positions)


@pytest.mark.parametrize(("axis", "channels", "positions"), [(0, 5, {}), (-1, 40, {}), (None, 1, {"axis 0": 5})])
def test_axes_of_our_codecs_are_those_of_their_parameters(tmp_path, axis, channels, positions):
    codec = caecodec.ConvolutionalAutoencoder(quality=4, weights=str(TINY), channel_axis=axis)
    found = one(tmp_path / "a.zarr", shape=(5, 30, 40), serializer=codec, compressors=None)
    assert (len(found.channels), dict(found.positions)) == (channels, positions)


def test_layers_that_can_be_read_one_by_one(tmp_path):
    """Those that the codec writes, at most those of the settings; none if other codecs are in the way."""
    codec = caecodec.ScalableAutoencoder(weights=TINY_LAYERS, layers=3)
    options = {"shape": (40, 50, 3), "serializer": codec}
    assert one(tmp_path / "a.zarr", compressors=None, **options).layers == 3
    assert one(tmp_path / "b.zarr", compressors=zarr.codecs.GzipCodec(), **options).layers == 0
    with settings.using(layers=2):
        assert one(tmp_path / "c.zarr", compressors=None, **options).layers == 2


def test_filters_that_move_axes(tmp_path):
    codec = caecodec.ConvolutionalAutoencoder(quality=4, weights=str(TINY))
    moved = {"filters": [zarr.codecs.TransposeCodec(order=(1, 2, 0))], "serializer": codec, "compressors": None}
    found = one(tmp_path / "a.zarr", shape=(3, 30, 40), **moved)
    assert (found.rgb, found.levels[0][:2]) == (True, (30, 40))


OWN = ("000000", "000001", "000002")
USUAL = ("00FF00", "FF00FF", "00FFFF")


def omero(count, **options):
    return [{"color": f"0000{i:02x}", "label": f"stain {i}", **options} for i in range(count)]


@pytest.mark.parametrize(
    ("channels", "rendering", "composed", "colours"),
    [
        (omero(3), {"model": "color"}, (0, 1, 2), OWN),
        (omero(3, active=True), None, (0, 1, 2), OWN),
        ([*omero(2, active=False), omero(3)[2]], {}, (2,), OWN),
        (omero(3, active=False), {}, (), OWN),
        (omero(3), {"model": "greyscale"}, (), OWN),
        (omero(9), {}, (), OWN),  # too many to tell apart
        (omero(2), {}, (), USUAL),  # of three
        (omero(3, color="blue"), {}, (), USUAL),
        (omero(3, color=5), "color", (), USUAL),
        ([], {}, (), USUAL),
    ],
)
def test_channels_that_are_seen_together(tmp_path, channels, rendering, composed, colours):
    count = max(3, len(channels))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(count, 8, 8), chunks=(1, 8, 8), dtype="uint16")
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales, "omero": {"channels": channels, "rdefs": rendering}}
    with ExitStack() as stack:
        (found,) = open_collection(tmp_path / "a.zarr", stack).pyramids.values()
    assert found.composed == composed
    assert tuple(one.colour for one in found.channels[:3]) == colours


def test_keys_stay_and_say_nothing(served):
    with ExitStack() as stack:
        first, again = open_collection(served, stack), open_collection(served, stack)
    assert list(first.pyramids) == list(again.pyramids)
    assert all(len(key) == 12 and int(key, 16) >= 0 for key in first.pyramids)


def test_a_part_of_a_group_and_an_image_in_a_group(served):
    with ExitStack() as stack:
        assert [one.name for one in open_collection(served / "deep" / "several.zarr" / "float", stack).pyramids.values()] == [
            "float"
        ]
        image = open_collection(served / "quality-4.ome.zarr", stack)
        assert [one.name for one in image.pyramids.values()] == ["quality-4.ome.zarr"]
        assert image.left_out == []
        assert [one.name for one in open_collection(str(served / "blosc.ozx"), stack).pyramids.values()] == ["blosc.ozx"]
        remote = open_collection(f"file://{served}/quality-4.ome.zarr", stack)
        assert [one.codec for one in remote.pyramids.values()] == ["cae, quality 4"]


def test_hidden_folders_are_passed_over(tmp_path):
    for name in ("a.zarr", ".hidden.zarr", ".partial/b.zarr", "sub/c.zarr"):
        zarr.create_array(tmp_path / name, data=np.zeros((4, 4), np.uint8))
    with ExitStack() as stack:
        assert [one.name for one in open_collection(tmp_path, stack).pyramids.values()] == ["a.zarr", "sub/c.zarr"]


def test_so_many_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "MOST_IMAGES", 3)
    for i in range(5):
        zarr.create_array(tmp_path / f"{i}.zarr", data=np.zeros((4, 4), np.uint8))
    with ExitStack() as stack:
        found = open_collection(tmp_path, stack)
    assert len(found.pyramids) == 3
    assert "there may be more than 3 images" in found.left_out[0]


def test_damaged_metadata_leave_the_others(tmp_path):
    zarr.create_array(tmp_path / "good.zarr", data=np.zeros((4, 4), np.uint8))
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr" / "zarr.json").write_text("{")
    with ExitStack() as stack:
        found = open_collection(tmp_path, stack)
    assert [one.name for one in found.pyramids.values()] == ["good.zarr"]
    assert found.left_out[0].startswith("bad.zarr: ")
