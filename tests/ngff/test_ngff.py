import json
import shutil

import dask.array as da
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import zarr
from ome_zarr_models.common.omero import Omero
from PIL import Image, ImageCms

import caecodec
from caecodec.arrays import payloads
from caecodec.images.metrics import psnr
from caecodec.ngff import Options, decode_paths, encode_paths, read_group
from caecodec.ngff.pyramid import pyramid


@pytest.fixture
def folder(tmp_path, photograph, slide):
    """A folder of photographs of four kinds."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photograph[:300, :400]).save(folder / "astronaut.png")
    Image.fromarray(slide[:256, :256]).save(folder / "slide.tif")
    Image.fromarray(photograph[200:330, 200:460]).save(folder / "detail.jpg", quality=95)
    Image.fromarray(slide[300:, 300:]).save(folder / "tissue.bmp")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.5", None), ("0.5", 256), ("0.4", None)])
def test_a_folder_and_back(tmp_path, folder, ngff, shard_size):
    options = Options(quality=5, ngff=ngff, chunk_size=128, shard_size=shard_size)
    written, failed = encode_paths([folder], tmp_path / "zarr", options)
    assert [path.name for path in written] == [f"{n}.ome.zarr" for n in ("astronaut", "detail", "slide", "tissue")]
    assert not failed
    written, failed = decode_paths([tmp_path / "zarr"], tmp_path / "back", ".png")
    assert not failed
    for path in written:
        (original,) = folder.glob(f"{path.stem}.*")
        assert psnr(np.asarray(Image.open(path)), np.asarray(Image.open(original))) > 28


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_ome_zarr_and_dask_read_it(tmp_path, folder, photograph, ngff):
    path = tmp_path / "a.ome.zarr"
    encode_paths([folder / "astronaut.png"], path, Options(quality=5, ngff=ngff, chunk_size=128))
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(path)))()
    levels = node.data
    assert [level.shape for level in levels] == [(3, 300, 400), (3, 150, 200), (3, 75, 100)]
    assert psnr(np.moveaxis(levels[0].compute(), 0, -1), photograph[:300, :400]) > 28
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "y", "x"]
    attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
    image = attributes.get("ome", attributes)
    Omero.model_validate(image["omero"])
    assert [channel["color"] for channel in image["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert image["omero"]["channels"][0]["window"] == {"min": 0, "max": 255, "start": 0, "end": 255}
    scales = [d["coordinateTransformations"][0]["scale"] for d in image["multiscales"][0]["datasets"]]
    assert scales == [[1, 1, 1], [1, 2, 2], [1, 4, 4]]
    first = image["multiscales"][0]["datasets"][0]["path"]
    lazy = da.from_zarr(str(path), component=first)
    assert lazy.chunksize == (3, 128, 128)
    np.testing.assert_array_equal(lazy.compute(), levels[0].compute())


def test_the_codec_is_really_used(tmp_path, folder):
    encode_paths([folder / "slide.tif"], tmp_path / "a.zarr", Options(quality=2, shard_size=1024))
    array = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["s0"]
    assert array.serializer == caecodec.zarr.ConvolutionalAutoencoder(quality=2, channel_axis=-3)
    assert array.compressors == ()
    assert array.metadata.dimension_names == ("c", "y", "x")


@pytest.mark.parametrize(("codec", "ngff", "exact"), [
    ("none", "0.5", True), ("blosc", "0.5", True), ("none", "0.4", True), ("blosc", "0.4", True), ("jpeg2k", "0.4", False),
])  # fmt: skip
def test_codecs_to_compare_with(tmp_path, folder, photograph, codec, ngff, exact):
    path = tmp_path / "a.zarr"
    _, failed = encode_paths([folder / "astronaut.png"], path, Options(codec=codec, ngff=ngff))
    assert not failed
    decoded = read_group(path).picture()
    assert psnr(decoded, photograph[:300, :400]) > (99 if exact else 28)


def test_jpeg2000_in_zarr_v3(tmp_path, folder, photograph):
    imagecodecs_zarr = pytest.importorskip("imagecodecs.zarr", reason="needs imagecodecs for Python 3.12 or newer")
    assert hasattr(imagecodecs_zarr, "Jpeg2k")
    _, failed = encode_paths([folder / "astronaut.png"], tmp_path / "a.zarr", Options(codec="jpeg2k"))
    assert not failed
    assert psnr(read_group(tmp_path / "a.zarr").picture(), photograph[:300, :400]) > 28


def test_a_payload_file(tmp_path, folder, photograph):
    encode_paths([folder / "astronaut.png"], tmp_path / "a.cae", Options(quality=5))
    assert psnr(caecodec.decode((tmp_path / "a.cae").read_bytes()), photograph[:300, :400]) > 28
    decode_paths([tmp_path / "a.cae"], tmp_path / "a.webp")
    assert Image.open(tmp_path / "a.webp").size == (400, 300)


@pytest.mark.parametrize("name", ["detail.jpg", "b.zarr", "folder"])
def test_a_file_where_a_folder_would_be(tmp_path, folder, name):
    """It is refused before anything is converted, also if it is the input, and stays as it is."""
    target = tmp_path / "out" / name
    target.parent.mkdir()
    target.write_bytes(before := (folder / "detail.jpg").read_bytes())
    options = Options(quality=1, overwrite=True)
    if name == "folder":
        with pytest.raises(caecodec.ParameterError, match="folder is a file but outputs go into a folder"):
            encode_paths([folder / "detail.jpg"], target, options)
    else:
        source = target if name == "detail.jpg" else folder / "detail.jpg"
        _, failed = encode_paths([source], target, options, lambda state: None, lambda state: pytest.fail("converted"))
        assert f"{target} is a file but a folder would take its place" in str(failed[0].error)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_paths_as_texts(tmp_path, folder, photograph):
    written, failed = encode_paths([str(folder / "astronaut.png")], str(tmp_path / "a.ome.zarr"), Options(quality=5))
    assert (written, failed) == ([tmp_path / "a.ome.zarr"], [])
    decode_paths([str(tmp_path / "a.ome.zarr")], str(tmp_path / "a.png"))
    assert psnr(np.asarray(Image.open(tmp_path / "a.png")), photograph[:300, :400]) > 28
    for convert in (lambda text: encode_paths(text, "b", Options()), lambda text: decode_paths(text, "b")):
        with pytest.raises(caecodec.ParameterError, match=r"inputs are 'a\.ome\.zarr' but must be a list of paths"):
            convert("a.ome.zarr")


def test_a_link_is_replaced(tmp_path, folder):
    """And what it leads to stays."""
    options = Options(quality=1, overwrite=True)
    encode_paths([folder / "slide.tif"], tmp_path / "a.zarr", options)
    before = (tmp_path / "a.zarr" / "zarr.json").stat().st_mtime_ns
    (tmp_path / "b.zarr").symlink_to(tmp_path / "a.zarr")
    _, failed = encode_paths([folder / "detail.jpg"], tmp_path / "b.zarr", options)
    assert not failed
    assert not (tmp_path / "b.zarr").is_symlink()
    assert (tmp_path / "a.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_nothing_is_overwritten_unless_asked(tmp_path, folder):
    options = Options(quality=1)
    for name in ("a.zarr", "a.cae"):
        encode_paths([folder / "slide.tif"], tmp_path / name, options)
        _, failed = encode_paths([folder / "detail.jpg"], tmp_path / name, options)
        assert "exists already" in str(failed[0].error)
        decode_paths([tmp_path / name], tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").size == (256, 256)
        _, failed = decode_paths([tmp_path / name], tmp_path / f"{name}.png")
        assert "exists already" in str(failed[0].error)
        _, failed = encode_paths([folder / "detail.jpg"], tmp_path / name, Options(quality=1, overwrite=True))
        assert not failed
        decode_paths([tmp_path / name], tmp_path / f"{name}.png", overwrite=True)
        assert Image.open(tmp_path / f"{name}.png").size == (260, 130)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ozx", ".cae"])
def test_links_and_files_in_place_of_the_output(tmp_path, folder, suffix):
    """They are replaced if asked for, but not a file by a folder, and where a link leads to stays as it is."""
    (tmp_path / "elsewhere").mkdir()
    output = tmp_path / f"a{suffix}"
    for make in (lambda: output.symlink_to("nowhere"), lambda: output.symlink_to("elsewhere"), lambda: output.write_text("x")):
        make()
        _, failed = encode_paths([folder / "slide.tif"], output, Options(quality=1))
        assert "exists already" in str(failed[0].error)
        is_file = output.is_file()
        written, failed = encode_paths([folder / "slide.tif"], output, Options(quality=1, overwrite=True))
        if is_file and suffix == ".ome.zarr":
            assert "is a file but a folder would take its place" in str(failed[0].error)
            assert output.read_text() == "x"
        else:
            assert (written, failed) == ([output], [])
            assert not output.is_symlink()
            assert decode_paths([output], tmp_path / "back", overwrite=True)[1] == []
        shutil.rmtree(output) if output.is_dir() else output.unlink()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_one_bad_file_does_not_stop_the_others_nor_leave_anything(tmp_path, folder):
    Image.fromarray(np.zeros((40, 40), np.uint8)).convert("1").save(folder / "mask.png")
    (folder / "broken.png").write_bytes((folder / "astronaut.png").read_bytes()[:5000])
    written, failed = encode_paths([folder], tmp_path / "zarr", Options(quality=1))
    assert len(written) == 4
    assert [failure.path.name for failure in failed] == ["broken.png", "mask.png"]
    assert all(failure.path.name in str(failure.error) for failure in failed)
    assert sorted(path.name for path in (tmp_path / "zarr").iterdir()) == sorted(path.name for path in written)


def test_a_failing_write_leaves_what_was_there(tmp_path, folder, monkeypatch):
    from caecodec.ngff import convert

    target = tmp_path / "a.zarr"
    encode_paths([folder / "slide.tif"], target, Options(quality=1))
    before = read_group(target).picture()

    def fails(path, *rest):
        path.mkdir()
        (path / "half").write_text("written")
        raise OSError("disk full")

    monkeypatch.setattr(convert, "write_group", fails)
    _, failed = encode_paths([folder / "detail.jpg"], target, Options(quality=1, overwrite=True))
    assert "disk full" in str(failed[0].error)
    np.testing.assert_array_equal(read_group(target).picture(), before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "photos"]


def test_two_files_of_one_name(tmp_path, folder, photograph):
    Image.fromarray(photograph).save(folder / "slide.png")
    _, failed = encode_paths([folder], tmp_path / "zarr", Options(quality=1))
    assert [failure.path.name for failure in failed] == ["slide.tif"]
    assert "would overwrite" in str(failed[0].error)


@pytest.mark.parametrize(("inputs", "output", "match"), [
    (["none.png"], "a.zarr", "does not exist"), (["photos"], "a.zarr", "4 images"), (["photos"], "a.cae", "4 images"),
    (["empty"], "out", "holds no image files"),
])  # fmt: skip
def test_inputs_and_outputs_that_do_not_fit(tmp_path, folder, inputs, output, match):
    (tmp_path / "empty").mkdir()
    with pytest.raises(caecodec.ParameterError, match=match):
        encode_paths([tmp_path / name for name in inputs], tmp_path / output, Options(quality=1))


@pytest.mark.parametrize(("changes", "match"), [
    ({"codec": "jpeg"}, "codec is 'jpeg'"), ({"ngff": "0.3"}, "ngff is '0.3'"), ({"chunk_size": 8}, "chunk_size is 8"),
    ({"shard_size": 300}, "shard_size is 300"),
    ({"shard_size": 512, "ngff": "0.4"}, "shard_size needs Zarr v3"), ({"quality": 12}, "quality is 12"),
])  # fmt: skip
def test_options_that_are_not_there(changes, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        Options(**{"quality": 1, **changes})


def test_not_an_ngff_image(tmp_path, photograph):
    zarr.create_array(tmp_path / "plain.zarr", data=photograph)
    (tmp_path / "other").mkdir()
    for name in ("plain.zarr", "other"):
        with pytest.raises(caecodec.ParameterError, match="is not an OME-NGFF image"):
            read_group(tmp_path / name)


def test_levels(tmp_path, folder):
    encode_paths([folder / "astronaut.png"], tmp_path / "a.zarr", Options(quality=5, chunk_size=128))
    assert read_group(tmp_path / "a.zarr", level=1).pixels.shape == (3, 150, 200)
    with pytest.raises(caecodec.ParameterError, match="level is 3 .* 0 to 2"):
        read_group(tmp_path / "a.zarr", level=3)


def test_pyramid_is_the_mean_of_2x2(tmp_path):
    pixels = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4)
    _, small = pyramid((pixels,), 3, tmp_path)
    assert small.shape == (3, 3, 2)
    assert small[:, 0, 1].tolist() == np.floor(pixels[:, :2, 2:].mean((1, 2)) + 0.5).astype(int).tolist()
    assert small[:, 2, 0].tolist() == np.floor(pixels[:, 4, :2].mean(1) + 0.5).astype(int).tolist()


# What image files hold


def test_icc_profile_survives(tmp_path, photograph):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.png"
    Image.fromarray(photograph[:64, :64]).save(path, icc_profile=profile)
    encode_paths([path], tmp_path / "a.zarr", Options(quality=5))
    decode_paths([tmp_path / "a.zarr"], tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").info["icc_profile"] == profile


def test_attributes_are_json(tmp_path, folder):
    encode_paths([folder / "slide.tif"], tmp_path / "a.zarr", Options(quality=1))
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert document["attributes"]["ome"]["version"] == "0.5"


def test_a_folder_may_have_a_dot_in_its_name(tmp_path, folder):
    encode_paths([folder], tmp_path / "zarr", Options(quality=1))
    written, _ = decode_paths([tmp_path / "zarr"], tmp_path / "decoded-1.0")
    assert {path.parent for path in written} == {tmp_path / "decoded-1.0"}
    _, failed = decode_paths([tmp_path / "zarr" / "slide.ome.zarr"], tmp_path / "slide.xyz")
    assert "has a suffix that cannot be written" in str(failed[0].error)
    with pytest.raises(caecodec.ParameterError, match="format is 'gif' but must be png"):
        decode_paths([tmp_path / "zarr"], tmp_path / "decoded", ".gif")


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.5", None), ("0.5", 128), ("0.4", None)])
def test_every_chunk_is_encoded_once_and_whole(tmp_path, folder, photograph, ngff, shard_size):
    """The payloads are those of the original's chunks, edge chunks filled up: nothing was decoded and encoded again."""
    path = tmp_path / "a.zarr"
    encode_paths([folder / "astronaut.png"], path, Options(quality=2, ngff=ngff, chunk_size=64, shard_size=shard_size))
    array = zarr.open_group(str(path), mode="r")["s0"]
    planes = np.pad(photograph[:300, :400].transpose(2, 0, 1), ((0, 0), (0, 20), (0, 48)), mode="edge")
    chunks = [planes[:, 64 * i : 64 * (i + 1), 64 * j : 64 * (j + 1)] for i, j in np.ndindex(5, 7)]
    expected = [caecodec.encode(chunk, quality=2, channel_axis=-3) for chunk in chunks]
    assert sorted(payloads.payloads(array)) == sorted(expected)
