"""OME-NGFF groups to OME-NGFF groups of another codec."""

import shutil
import tracemalloc

import numpy as np
import pytest
import zarr
from helpers.stacks import EXACT, attributes, stack
from ome_zarr.format import format_from_version
from ome_zarr.writer import write_image, write_labels

import caecodec
from caecodec.cli.main import main
from caecodec.images.metrics import psnr
from caecodec.ngff import Options, blocks, decode_paths, encode_paths, read_group, read_image, reencode
from caecodec.ngff.levels import sample

LOSSY = Options(quality=4, chunk_size=32)
SPACE = [{"name": name, "type": "space"} for name in "yx"]
OMERO = {
    "channels": [
        {"label": name, "color": colour, "active": True, "window": {"min": 0, "max": 4095, "start": 9, "end": 4000}}
        for name, colour in (("DAPI", "0000FF"), ("GFP", "00FF00"))
    ]
}


def foreign(path, pixels, axes="tczyx", ngff="0.5", labels=None, chunks=None, omero=None):
    """A group as ome-zarr writes it, with its own codec, pyramid and labels."""
    version = format_from_version(ngff)
    group = zarr.open_group(str(path), mode="w", zarr_format=version.zarr_format)
    options = {"chunks": chunks or (*(1 for _ in pixels.shape[2:]), 64, 64)}
    write_image(pixels, group, axes=list(axes), fmt=version, storage_options=options, scale_factors=[2])
    ome = attributes(path)
    for level in ome["multiscales"][0]["datasets"]:
        level["coordinateTransformations"][0]["scale"] = [0.5 * n for n in level["coordinateTransformations"][0]["scale"]]
    if omero:
        ome["omero"] = omero
    group.attrs.update(ome if ngff == "0.4" else {"ome": ome})
    if labels is not None:
        spatial = "".join(name for name in axes if name in "zyx")
        write_labels(labels, group, name="nuclei", axes=list(spatial), fmt=version, scale_factors=[2])
    group.attrs["mine"] = {"kept": True}
    return path


def reencoded(source, target, options=LOSSY):
    (written,), failed = encode_paths([source], target, options)
    assert not failed, failed[0].error
    return written


@pytest.mark.parametrize("to", ["0.5", "0.4"])
@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_levels_and_attributes_stay(tmp_path, ngff, to):
    """Whatever version it comes from and goes to."""
    pixels = stack(2, 2, 3, 40, 50)
    labels = np.arange(3 * 40 * 50, dtype=np.uint32).reshape(3, 40, 50)
    source = foreign(tmp_path / "a.ome.zarr", pixels, ngff=ngff, labels=labels, omero=OMERO)
    target = reencoded(source, tmp_path / "out", Options(quality=5, chunk_size=32, ngff=to))
    assert target == tmp_path / "out" / "a.ome.zarr"
    before, after = attributes(source), attributes(target)
    assert [channel["label"] for channel in after["omero"]["channels"]] == ["DAPI", "GFP"]
    assert after["omero"]["channels"] == before["omero"]["channels"]
    assert {**after["multiscales"][0], "version": 0} == {**before["multiscales"][0], "version": 0}
    group = zarr.open_group(str(target), mode="r")
    assert group.attrs["mine"] == {"kept": True}
    assert group.metadata.zarr_format == (3 if to == "0.5" else 2)
    assert (after["version"] if to == "0.5" else after["multiscales"][0]["version"]) == to
    path = after["multiscales"][0]["datasets"][0]["path"]
    assert group[path].chunks == (1, 1, 1, 32, 32)
    assert psnr(pixels, group[path][...]) > 28
    assert not np.array_equal(group[path][...], pixels)
    image = read_group(target)
    assert image.labels == ("DAPI", "GFP")
    assert image.sizes["x"].value == 0.5

    names = attributes(target / "labels")
    assert names["labels"] == ["nuclei"]
    assert "image-label" in attributes(target / "labels" / "nuclei")
    np.testing.assert_array_equal(read_group(target / "labels" / "nuclei").pixels, labels)
    assert read_group(target / "labels" / "nuclei").pixels.dtype == np.uint32


def test_all_levels_without_loss(tmp_path, photograph):
    """A pyramid of ours, coded anew: every level is what it was, and RGB shares chunks."""
    from caecodec.images.image import from_picture
    from caecodec.ngff import write_group

    write_group(tmp_path / "a.zarr", from_picture(photograph[:90, :100]), "a", EXACT)
    target = reencoded(tmp_path / "a.zarr", tmp_path / "b.zarr", Options(codec="blosc", chunk_size=64, shard_size=128))
    assert attributes(target) == attributes(tmp_path / "a.zarr")
    for level in range(3):
        np.testing.assert_array_equal(read_group(target, level).pixels, read_group(tmp_path / "a.zarr", level).pixels)
    assert read_group(target).rgb
    assert zarr.open_group(str(target), mode="r")["s0"].chunks == (3, 64, 64)
    lossy = reencoded(target, tmp_path / "c.zarr")
    assert zarr.open_group(str(lossy), mode="r")["s0"].serializer.parameters.channel_axis == -3


def test_several_blocks(tmp_path, monkeypatch):
    """Whatever the chunks of the source, and the size of blocks."""
    pixels = stack(2, 3, 100, 90)
    source = foreign(tmp_path / "a.zarr", pixels, axes="czyx", chunks=(2, 2, 40, 48))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**13)
    for options in (Options(codec="none", chunk_size=16), Options(codec="blosc", chunk_size=16, shard_size=32)):
        target = reencoded(source, tmp_path / f"{options.codec}.zarr", options)
        np.testing.assert_array_equal(read_group(target).pixels, pixels)


def test_memory(tmp_path, monkeypatch):
    """Of an array of 128 MiB, no more than some blocks is in memory at once."""
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", shape=(2, 8192, 4096), dtype="uint16", chunks=(1, 512, 512))[0, 4000:4100] = 7
    image = {"axes": [{"name": "c", "type": "channel"}, *SPACE], "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**22)
    tracemalloc.start()
    reencode(tmp_path / "a.zarr", tmp_path / "b.zarr", Options(codec="none", chunk_size=512))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25
    assert zarr.open_group(str(tmp_path / "b.zarr"), mode="r")["0"][0, 3999:4101:101, 9].tolist() == [0, 0]
    assert zarr.open_group(str(tmp_path / "b.zarr"), mode="r")["0"][0, 4000:4100].min() == 7


def test_values_of_the_other_byte_order(tmp_path):
    """As bioformats2raw writes them: groups, payloads, shared networks and image files hold them in this machine's order."""
    pixels = stack(2, 40, 50)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=pixels.astype(">u2"), chunks=(1, 16, 16))
    image = {"version": "0.4", "axes": [{"name": "c", "type": "channel"}, *SPACE], "datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [image]
    assert group["0"].dtype == ">u2"
    exact = Options(max_error=0, chunk_size=32)
    np.testing.assert_array_equal(read_group(reencoded(tmp_path / "a.zarr", tmp_path / "b.zarr", exact)).pixels, pixels)
    np.testing.assert_array_equal(
        caecodec.decode(reencoded(tmp_path / "a.zarr", tmp_path / "b.cae", exact).read_bytes()), pixels
    )
    assert all(chunk.dtype.isnative for chunk in sample(group["0"], (1, 16, 16)))
    decode_paths([tmp_path / "a.zarr"], tmp_path / "b.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels, pixels)


def test_a_block_is_of_whole_chunks():
    assert blocks.block_shape((1, 1, 1000, 1000), (1, 1, 256, 256), (1, 1, 300, 256), 2) == (1, 1, 1024, 1024)
    assert blocks.block_shape((9, 2, 512, 512), (1, 1, 256, 256), (4, 1, 256, 256), 2) == (16, 2, 512, 512)
    large = blocks.block_shape((50, 10**5, 10**5), (1, 256, 256), (1, 256, 256), 2)
    assert large == (1, 256, 131072)
    assert 2 * np.prod(large) <= blocks.BLOCK_BYTES


def test_labels_are_refused(tmp_path):
    """By their attributes, or by the group that holds them; a lossless codec takes them."""
    labels = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    source = foreign(tmp_path / "a.ome.zarr", stack(2, 40, 50), axes="cyx", labels=labels, chunks=(1, 64, 64))
    nuclei = source / "labels" / "nuclei"
    for path in (nuclei, shutil.copytree(nuclei, tmp_path / "moved.zarr")):
        for target in ("x.zarr", "x.cae"):
            _, failed = encode_paths([path], tmp_path / target, LOSSY)
            assert "holds labels, which a lossy codec would alter; pass codec='blosc'" in str(failed[0].error)
            assert not (tmp_path / target).exists()
        reencode(path, tmp_path / f"kept-{path.name}.zarr", Options(codec="blosc"))
        np.testing.assert_array_equal(read_group(tmp_path / f"kept-{path.name}.zarr").pixels, labels)
    group = zarr.open_group(str(nuclei), mode="r+")
    group.attrs["ome"] = {key: value for key, value in group.attrs["ome"].items() if key != "image-label"}
    with pytest.raises(caecodec.ParameterError, match="holds labels"):
        reencode(nuclei, tmp_path / "y.zarr", LOSSY)


@pytest.mark.parametrize("dtype", ["bool", "uint32", "int8", "float16"])
def test_dtypes_that_a_lossy_codec_cannot_take(tmp_path, dtype):
    pixels = (stack(40, 50, dtype="float32") > 0).astype(dtype)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", data=pixels)
    image = {"axes": SPACE, "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    for path in (tmp_path / "b.zarr", tmp_path / "b.cae"):
        _, failed = encode_paths([tmp_path / "a.zarr"], path, LOSSY)
        assert f"dtype {dtype}" in str(failed[0].error)
        assert "lossless" in str(failed[0].error)
    with pytest.raises(caecodec.ParameterError, match="--codec blosc"):
        reencode(tmp_path / "a.zarr", tmp_path / "x.zarr", LOSSY)
    np.testing.assert_array_equal(read_group(reencoded(tmp_path / "a.zarr", tmp_path / "b.zarr", EXACT)).pixels, pixels)


def test_groups_that_are_no_images(tmp_path):
    """Collections, plain groups and axes of another order are named; the good ones beside them are converted."""
    folder = tmp_path / "in"
    foreign(folder / "good.ome.zarr", stack(2, 40, 50), axes="cyx", chunks=(1, 64, 64))
    zarr.open_group(str(folder / "empty.zarr"), mode="w")
    series = zarr.open_group(str(folder / "series.zarr"), mode="w", attributes={"ome": {"bioformats2raw.layout": 3}})
    axes = [{"name": name, "type": "space"} for name in "yxc"]
    multiscales = [{"axes": axes, "datasets": [{"path": "0"}]}]
    zarr.open_group(str(folder / "turned.zarr"), mode="w", attributes={"ome": {"multiscales": multiscales}})
    ordinary = [{"axes": SPACE[::-1], "datasets": [{"path": "0"}]}]
    zarr.open_group(str(folder / "void.zarr"), mode="w", attributes={"ome": {"multiscales": ordinary}})
    assert series.attrs
    written, failed = encode_paths([folder], tmp_path / "out", Options(quality=2, chunk_size=32))
    assert [path.name for path in written] == ["good.ome.zarr"]
    said = {failure.path.name: str(failure.error) for failure in failed}
    assert "is not an OME-NGFF image" in said["empty.zarr"]
    assert "is a collection of images" in said["series.zarr"]
    assert "axes y, x, c" in said["turned.zarr"]
    assert "axes x, y" in said["void.zarr"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.ome.zarr"]


def test_numbers_and_paths_that_are_odd(tmp_path):
    """Integers beyond floats are no sizes, and a path may start at the root; axes without a name and no levels are named."""
    pixels = stack(2, 40, 50)
    source = foreign(tmp_path / "a.zarr", pixels, axes="cyx", chunks=(1, 64, 64))
    group, sound = zarr.open_group(str(source), mode="r+"), attributes(source)

    def changed(**levels_or_axes):
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{**sound["multiscales"][0], **levels_or_axes}]}
        return source

    first = sound["multiscales"][0]["datasets"][0]
    huge = {**first, "coordinateTransformations": [{"type": "scale", "scale": [1, 10**400, 1]}]}
    assert "y" not in read_group(changed(datasets=[huge])).sizes
    rooted = changed(datasets=[{**first, "path": "/" + first["path"]}])
    np.testing.assert_array_equal(read_group(reencoded(rooted, tmp_path / "b.zarr", EXACT)).pixels, pixels)
    for change, match in (
        ({"datasets": []}, "it has no levels"),
        ({"axes": [{"name": ["y"]}, {"name": {}}, {"name": None}]}, "must have y, x"),
    ):
        _, failed = encode_paths([changed(**change)], tmp_path / "c.zarr", EXACT)
        assert match in str(failed[0].error)


def test_missing_levels_and_damaged_chunks(tmp_path):
    source = foreign(tmp_path / "a.zarr", stack(2, 40, 50), axes="cyx", chunks=(1, 64, 64))
    path = attributes(source)["multiscales"][0]["datasets"][0]["path"]
    chunk = next(file for file in (source / path).rglob("*") if file.is_file() and file.name == "0")
    chunk.write_bytes(chunk.read_bytes()[:20])
    _, failed = encode_paths([source], tmp_path / "b.zarr", EXACT)
    assert f"array '{path}' cannot be read" in str(failed[0].error)
    _, failed = decode_paths([source], tmp_path / "b.tif")
    assert "cannot be read" in str(failed[0].error)
    shutil.rmtree(source / path)
    _, failed = encode_paths([source], tmp_path / "b.zarr", EXACT)
    assert f"lacks level {path}" in str(failed[0].error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr"]


def test_the_command_in_place(tmp_path, capsys):
    """Nothing is overwritten unless asked; then a group may be replaced by itself, coded anew."""
    source = foreign(tmp_path / "a.ome.zarr", stack(2, 40, 50), axes="cyx", chunks=(1, 64, 64))
    command = ["encode", str(source), "-o", str(source), "-q", "3"]
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(["inspect", str(source)]) == 0
    assert "channel axis None" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_members_that_stale_consolidated_metadata_miss(tmp_path):
    """What was made after them, and rows that were appended, are converted too."""
    source = foreign(tmp_path / "a.ome.zarr", stack(3, 40, 50), axes="cyx")
    zarr.consolidate_metadata(source)
    own = zarr.open_group(source, mode="a", use_consolidated=False)
    own.create_array("measured", data=np.arange(5.0))
    level = own[attributes(source)["multiscales"][0]["datasets"][0]["path"]]
    level.append(stack(3, 40, 50), axis=1)
    written = zarr.open_group(reencoded(source, tmp_path / "b.ome.zarr", EXACT), mode="r")
    np.testing.assert_array_equal(written["measured"][:], np.arange(5.0))
    np.testing.assert_array_equal(written[level.basename][:], level[:])


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_members_without_axes_or_values(tmp_path, ngff):
    source = foreign(tmp_path / "a.ome.zarr", stack(3, 40, 50), axes="cyx", ngff=ngff)
    own = zarr.open_group(source, mode="a")
    own.create_array("crs", data=np.array(4326))
    own.create_array("none", shape=(0, 3), chunks=(1, 3), dtype="float16")
    written = zarr.open_group(reencoded(source, tmp_path / "b.ome.zarr"), mode="r")
    assert written["crs"][()] == 4326
    assert (written["none"].shape, written["none"].dtype) == ((0, 3), "float16")


def test_other_members_are_kept(tmp_path):
    """Whatever else a group holds is stored without loss, or named where it cannot be."""
    source = foreign(tmp_path / "a.zarr", stack(2, 40, 50), axes="cyx", chunks=(1, 64, 64))
    group = zarr.open_group(str(source), mode="r+")
    group.create_array("tables/areas", data=np.arange(10), attributes={"unit": "pixel"})
    target = reencoded(source, tmp_path / "b.zarr")
    kept = zarr.open_group(str(target), mode="r")["tables/areas"]
    np.testing.assert_array_equal(kept[...], np.arange(10))
    assert kept.attrs["unit"] == "pixel"
    group.create_array("tables/names", shape=(2,), dtype="S3")
    _, failed = encode_paths([source], tmp_path / "c.zarr", LOSSY)
    assert "tables/names has dtype |S3, which cannot be copied" in str(failed[0].error)
