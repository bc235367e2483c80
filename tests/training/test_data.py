"""Training images: what is read of files, arrays and groups, in which order, and what happens to files that cannot be used."""

import io
import tarfile

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from PIL import ExifTags, Image

import caecodec
from caecodec.images.image import from_picture
from caecodec.ngff import Options, encode_paths, write_group
from caecodec.training import data


def test_training_images_of_every_kind(tmp_path):
    a, b, c = (random_image(40, 50, 3, seed=seed) for seed in range(3))
    (tmp_path / "deeper").mkdir()
    Image.fromarray(a).save(tmp_path / "a.png")
    Image.fromarray(b).save(tmp_path / "deeper" / "b.png")
    (tmp_path / "notes.txt").write_text("no image")
    zarr.create_array(tmp_path / "c.zarr", data=np.stack([c, a]).transpose(0, 3, 1, 2), chunks=(1, 3, 40, 50))
    found = list(data.images([tmp_path]))
    for one, other in zip(found, (a, c, a, b), strict=True):
        np.testing.assert_array_equal(one, other)
    assert data.sizes([tmp_path]) == [(40, 50)] * 4
    with tarfile.open(tmp_path / "more.tar", "w") as tar:
        stream = io.BytesIO((tmp_path / "a.png").read_bytes())
        member = tarfile.TarInfo("x/a.png")
        member.size = len(stream.getvalue())
        tar.addfile(member, stream)
    np.testing.assert_array_equal(next(data.images([tmp_path / "more.tar"])), a)
    kept, left = list(data.images([tmp_path], 2)), list(data.held_out([tmp_path], 2))
    assert (len(kept), len(left), data.count([tmp_path], 40, without=2)) == (3, 2, 3)


def test_large_arrays_come_in_blocks(tmp_path):
    image = random_image(1100, 1030, 3)
    zarr.create_array(tmp_path / "big.zarr", data=image, chunks=(550, 515, 3))
    assert data.sizes([tmp_path / "big.zarr"]) == [(1024, 1024), (1024, 6), (76, 1024), (76, 6)]
    np.testing.assert_array_equal(list(data.images([tmp_path / "big.zarr"]))[2], image[1024:, :1024])


def test_ome_ngff_groups_are_training_images(tmp_path):
    pytest.importorskip("ome_zarr")
    pytest.importorskip("ome_zarr")
    image = random_image(40, 50, 3)
    write_group(tmp_path / "0.ome.zarr", from_picture(image), "0", Options(codec="none"))
    np.testing.assert_array_equal(next(data.images([tmp_path])), image)
    encode_paths([tmp_path / "0.ome.zarr"], tmp_path / "1.ozx", Options(codec="none", ngff="0.6"))
    assert len(list(data.images([tmp_path]))) == 2
    np.testing.assert_array_equal(next(data.images([tmp_path / "1.ozx"])), image)
    write_group(tmp_path / "grey.zarr", from_picture(image[..., 0]), "grey", Options(codec="none"))
    with pytest.raises(caecodec.ParameterError, match="OME-NGFF image without channels"):
        data.sizes([tmp_path / "grey.zarr"])


def test_arrays_that_are_no_images(tmp_path):
    for name, array in (("grey", np.zeros((20, 20), np.uint8)), ("deep", np.zeros((20, 20, 3), np.uint16))):
        zarr.create_array(tmp_path / name, data=array)
        with pytest.raises(caecodec.ParameterError, match="uint8 arrays with an axis"):
            list(data.images([tmp_path / name]))
    multiscales = [{"axes": [{"name": name} for name in "cyx"], "datasets": [{"path": "0"}]}]
    zarr.create_group(tmp_path / "nested", attributes={"multiscales": multiscales}).create_group("0")
    with pytest.raises(caecodec.ParameterError, match="nested has no array of axes c, y, x at 0"):
        list(data.images([tmp_path / "nested"]))
    with pytest.raises(caecodec.ParameterError, match="does not exist"):
        list(data.images([tmp_path / "nothing"]))
    (tmp_path / "bad.png").write_bytes(b"not a png")
    with pytest.raises(caecodec.ParameterError, match=r"bad\.png cannot be read"):
        data.sizes([tmp_path / "bad.png"])


def test_crops_depend_on_paths_and_seed_alone(tmp_path):
    """Which crops there are is fixed: tables that were fitted to them can be made again."""
    whole = {name: random_image(height, width, 3, seed=height) for name, height, width in
             [("a.png", 40, 50), ("b.png", 20, 90), ("c.png", 64, 32), ("d.png", 33, 40)]}  # fmt: skip
    for name, image in whole.items():
        Image.fromarray(image).save(tmp_path / name)
    rng, expected = np.random.default_rng(7), []
    for number, (name, crops) in enumerate([("a.png", 2), ("c.png", 2), ("d.png", 3)]):  # b.png has no 32 rows
        height, width, _ = whole[name].shape
        for _ in range(crops):
            y, x = rng.integers(height - 32 + 1), rng.integers(width - 32 + 1)
            expected.append((number, whole[name][y : y + 32, x : x + 32]))
    for (one, crop), (other, wanted) in zip(data.spread([tmp_path], 32, 7, seed=7), expected, strict=True):
        assert one == other
        np.testing.assert_array_equal(crop, wanted)


def test_a_grid_covers_images_from_border_to_border(tmp_path):
    whole = {"a.png": (40, 50), "b.png": (20, 90), "c.png": (63, 100)}
    images = {name: random_image(*shape, 3, seed=shape[0]) for name, shape in whole.items()}
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / name)
    places = [("a.png", 0, 0), ("a.png", 0, 18)] + [("c.png", y, x) for y in (0, 31) for x in (0, 34, 68)]  # b.png is too low
    for crop, (name, y, x) in zip(data.grid([tmp_path], 32), places, strict=True):
        np.testing.assert_array_equal(crop, images[name][y : y + 32, x : x + 32])
    assert [data.grid_count(whole[name], 32) for name in ("a.png", "c.png")] == [2, 6]


def test_images_are_turned_upright(tmp_path):
    image = random_image(40, 50, 3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(next(data.images([tmp_path])), np.rot90(image, -1))
    assert data.sizes([tmp_path]) == [(50, 40)]


def unusable(folder):
    """Files that are no images of 8-bit RGB or grey, by what is said of them."""
    folder.mkdir()
    image = Image.fromarray(random_image(40, 50, 3))
    clear = image.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 128))
    clear.save(folder / "clear.png")
    Image.fromarray(np.full((40, 50), 1000, np.uint16)).save(folder / "deep.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    (folder / "text.png").write_text("text")
    return {
        "clear.png": "transparency",
        "deep.png": "uint16",
        "cmyk.jpg": "mode CMYK",
        "text.png": "cannot be read as an image",
    }


def test_files_that_cannot_be_used_are_passed_over_in_folders(tmp_path):
    found = unusable(tmp_path / "photos")
    images = [random_image(40, 50, 3, seed=seed) for seed in range(2)]
    Image.fromarray(images[0]).save(tmp_path / "photos" / "a.png")
    Image.fromarray(images[1]).save(tmp_path / "photos" / "z.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos", ".")
    for path in (tmp_path / "photos", tmp_path / "photos.tar"):
        with pytest.warns(UserWarning, match="training passes over this file") as warned:
            taken = list(data.images([path]))
        for one, other in zip(taken, images, strict=True):
            np.testing.assert_array_equal(one, other)
        for (name, why), warning in zip(sorted(found.items()), warned, strict=True):
            assert str(path / name) in str(warning.message)
            assert why in str(warning.message)
        with pytest.warns(UserWarning, match="training passes over this file"):
            assert data.sizes([path]) == [(40, 50)] * 2
        with pytest.warns(UserWarning, match="training passes over this file"):
            assert len(list(data.spread([path], 32, 5))) == 5


def test_files_that_cannot_be_used_keep_their_numbers(tmp_path):
    """Whether an image is held out does not depend on the other files' content."""
    unusable(tmp_path / "photos")
    for name in ("a.png", "y.png", "z.png"):
        Image.fromarray(random_image(40, 50, 3)).save(tmp_path / "photos" / name)
    with pytest.warns(UserWarning, match="training passes over this file"):
        kept, held = len(data.sizes([tmp_path / "photos"], 2)), len(list(data.held_out([tmp_path / "photos"], 2)))
    assert (kept, held) == (2, 1)  # a, clear, cmyk, deep, text, y, z: of the even numbers y alone can be used


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path):
    for name, why in unusable(tmp_path / "photos").items():
        for function in (data.images, data.sizes):
            with pytest.raises(caecodec.ParameterError, match=f"{name}.*{why}"):
                list(function([tmp_path / "photos" / name]))


def test_damaged_pixels(tmp_path):
    image = Image.fromarray(random_image(400, 500, 3))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:5000])
    image.save(tmp_path / "whole.png")
    assert data.sizes([tmp_path]) == [(400, 500)] * 2  # the header alone was read
    with pytest.warns(UserWarning, match=r"cut\.png cannot be read.*training passes over"):
        assert len(list(data.images([tmp_path]))) == 1
