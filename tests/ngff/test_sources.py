"""Zarr arrays and groups as sources, wherever they are: paths, zip files, URLs, obstore's stores."""

import numpy as np
import pytest
import zarr
from helpers.stacks import EXACT, stack

import caecodec
from caecodec.cli.main import main
from caecodec.ngff import Options, decode_paths, encode_paths, read_group

PLANES = stack(3, 60, 70, dtype="uint8")
PICTURE = np.moveaxis(PLANES, 0, -1)


def converted(source, folder, **options):
    target = folder / "converted.ome.zarr"
    written, failed = encode_paths(
        [source], target, Options(**{"codec": "none", "chunk_size": 32, "overwrite": True, **options})
    )
    assert not failed, failed[0].error
    return read_group(written[0])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays(tmp_path, zarr_format):
    """Their axes are named, given, or usual ones."""
    path, kind = tmp_path / "a", {"zarr_format": zarr_format, "overwrite": True}
    for data, axes, rgb in (
        (PICTURE, "cyx", True),
        (PLANES, "cyx", True),
        (PLANES[0], "yx", False),
        (stack(4, 60, 70), "zyx", False),
    ):
        zarr.create_array(path, data=data, **kind)
        image = converted(path, tmp_path)
        assert (image.axes, image.rgb) == (axes, rgb)
        np.testing.assert_array_equal(image.pixels, PLANES if rgb else data)
    data = stack(5, 2, 60, 70)
    names = ["time", "channel", "y", "x"]
    said = {"dimension_names": names} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": names}}
    zarr.create_array(path, data=data, **kind, **said)
    assert converted(path, tmp_path).axes == "tcyx"
    image = converted(path, tmp_path, axes="yxtc")
    assert (image.axes, image.pixels.shape) == ("tcyx", (60, 70, 5, 2))
    np.testing.assert_array_equal(image.pixels, data.transpose(2, 3, 0, 1))


@pytest.mark.skipif(zarr.config.get("array.rectilinear_chunks", None) is None, reason="needs zarr 3.2 or newer")
def test_chunks_of_several_shapes(tmp_path):
    """They are converted, also where they are copied; what needs chunks of one shape says so."""
    with zarr.config.set({"array.rectilinear_chunks": True}):
        codec = {"serializer": caecodec.zarr.ConvolutionalAutoencoder(max_error=0, channel_axis=None), "compressors": None}
        array = zarr.create_array(tmp_path / "a", shape=(60, 70), dtype="uint8", chunks=[[10, 20, 30], [40, 30]], **codec)
        array[:] = PLANES[0]
        np.testing.assert_array_equal(converted(tmp_path / "a", tmp_path).pixels, PLANES[0])
        encode_paths([tmp_path / "a"], tmp_path / "b.ome.zarr", EXACT)
        group = zarr.open_group(tmp_path / "b.ome.zarr", mode="a")
        group.create_array("mask", shape=(60, 70), dtype="bool", chunks=[[10, 50], [70]])[:] = PLANES[0] > 99
        encode_paths([tmp_path / "b.ome.zarr"], tmp_path / "c.ome.zarr", EXACT)
        copied = zarr.open_group(tmp_path / "c.ome.zarr", mode="r")["mask"]
        np.testing.assert_array_equal(copied[:], PLANES[0] > 99)
        for read in (
            lambda: caecodec.read(array),
            lambda: caecodec.torch.read(array),
            lambda: caecodec.open_latents(array),
            lambda: caecodec.check_aligned(array, ...),
        ):
            with pytest.raises(caecodec.ParameterError, match="chunks of several shapes, but must have chunks of one"):
                read()


def test_masks_without_loss_and_arrays_without_values(tmp_path):
    zarr.create_array(tmp_path / "mask", data=PLANES[0] > 99)
    np.testing.assert_array_equal(converted(tmp_path / "mask", tmp_path, codec="blosc").pixels, PLANES[0] > 99)
    zarr.create_array(tmp_path / "none", shape=(0, 5), dtype="uint8")
    _, failed = encode_paths([tmp_path / "none"], tmp_path / "none.ome.zarr", EXACT)
    assert "has shape (0, 5), which is no pixels" in str(failed[0].error)


def test_places_as_texts(tmp_path):
    zarr.create_array(tmp_path / "a", data=PLANES[0])
    assert encode_paths([str(tmp_path / "a")], str(tmp_path / "a.ome.zarr"), EXACT) == ([tmp_path / "a.ome.zarr"], [])
    for convert, options in ((encode_paths, [EXACT]), (decode_paths, [])):
        with pytest.raises(caecodec.ParameterError, match="output is the URL memory://a but must be a path"):
            convert([tmp_path / "a.ome.zarr"], "memory://a", *options)
    written, failed = decode_paths([str(tmp_path / "a.ome.zarr")], str(tmp_path / "a.png"))
    assert (written, failed) == ([tmp_path / "a.png"], [])


def test_groups_of_one_array(tmp_path):
    """xarray's, with the positions of axes beside it; of several one must be named."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("x", data=np.arange(70))
    group.create_array("image", data=PLANES[0])
    np.testing.assert_array_equal(converted(tmp_path / "a.zarr", tmp_path).pixels, PLANES[0])
    group.create_array("mask", data=PLANES[1])
    (failure,) = encode_paths([tmp_path / "a.zarr"], tmp_path / "b.zarr", EXACT)[1]
    assert "holds 2 arrays (image, mask); name one of them" in str(failure.error)
    np.testing.assert_array_equal(converted(tmp_path / "a.zarr" / "mask", tmp_path).pixels, PLANES[1])


def test_zip_files_and_urls(tmp_path, memory):
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=PICTURE)
    np.testing.assert_array_equal(converted(tmp_path / "a.zarr.zip", tmp_path).pixels, PLANES)
    url = "memory://sources/a.zarr"
    zarr.create_array(url, data=PICTURE)
    np.testing.assert_array_equal(converted(url, tmp_path).pixels, PLANES)
    zarr.open_group(tmp_path / "image.ome.zarr", mode="w")
    first = tmp_path / "first.ome.zarr"
    assert encode_paths([tmp_path / "a.zarr.zip"], first, EXACT)[1] == []
    memory.put(str(first), "/sources/image.ome.zarr", recursive=True)
    for path in ("sources/image.ome.zarr", "sources/image.ome.zarr/s1"):
        assert converted(f"memory://{path}", tmp_path).pixels.shape[0] == 3
    assert main(["encode", "memory://sources/image.ome.zarr", "-o", str(tmp_path / "out"), "--codec", "blosc", "--quiet"]) == 0
    np.testing.assert_array_equal(read_group(tmp_path / "out" / "image.ome.zarr").pixels, PLANES)
    (failure,) = encode_paths(["memory://sources/nothing.zarr"], tmp_path / "b.zarr", EXACT)[1]
    assert "memory://sources/nothing.zarr is not a Zarr array or group" in str(failure.error)


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    found = fsspec.filesystem("memory")
    yield found
    found.rm("/sources", recursive=True)


def test_a_url_is_resumed(tmp_path, memory):
    """Of the source its name is noted."""
    zarr.create_array("memory://sources/a.zarr", data=PICTURE)
    options = Options(codec="none", chunk_size=32, resume=True)
    for _ in range(2):
        written, failed = encode_paths(["memory://sources/a.zarr"], tmp_path / "a.ome.zarr", options)
        assert not failed
    np.testing.assert_array_equal(read_group(written[0]).pixels, PLANES)


def test_stores_of_obstore(tmp_path, monkeypatch):
    """Given in Python, or at a URL for which fsspec lacks a package."""
    obstore = pytest.importorskip("obstore")
    zarr.create_array(tmp_path / "a.zarr", data=PICTURE)
    store = zarr.storage.ObjectStore(obstore.store.LocalStore(tmp_path / "a.zarr"), read_only=True)
    written, failed = encode_paths([store], tmp_path / "out", EXACT)
    assert not failed
    assert written == [tmp_path / "out" / "a.ome.zarr"]
    np.testing.assert_array_equal(read_group(written[0]).pixels, PLANES)

    def missing(protocol):
        raise ImportError(f"install the package for {protocol}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    np.testing.assert_array_equal(converted(f"file://{tmp_path}/a.zarr", tmp_path).pixels, PLANES)


def test_what_is_refused(tmp_path):
    zarr.create_array(tmp_path / "masks", data=np.zeros((40, 50), "int32"))
    zarr.create_array(tmp_path / "line", data=np.zeros(40, "uint8"))
    zarr.create_array(tmp_path / "named", data=PICTURE, dimension_names=["rows", "columns", "colours"])
    for name, message in (
        ("masks", "has dtype int32"),
        ("line", "has shape .40,. and axes without names"),
        ("named", "axes .*pass axes, such as yxc"),
    ):
        (failure,) = encode_paths([tmp_path / name], tmp_path / "b.zarr", Options(quality=4))[1]
        with pytest.raises(caecodec.ParameterError, match=message):
            raise failure.error
    assert converted(tmp_path / "named", tmp_path, axes="yxc").rgb
    for axes in ("yy", "xc", "yxq"):
        with pytest.raises(caecodec.ParameterError, match=f"axes is '{axes}' but must name y, x"):
            Options(axes=axes)
