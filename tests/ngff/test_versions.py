"""Versions of OME-NGFF: what each says is read, what is written is valid to others, nothing is lost on the way."""

import importlib.util
import json

import jsonschema
import numpy as np
import pytest
import zarr
from helpers.stacks import EXACT, attributes, stack
from helpers.validators import opened, validate

import caecodec
from caecodec.cli.main import main
from caecodec.images.image import from_picture
from caecodec.ngff import Image, Options, Size, decode_paths, encode_paths, read_group, reencode, write_group

WRITTEN = ("0.4", "0.5", "0.6")
SIZES = {"z": Size(2.0, "micrometer"), "y": Size(0.5, "micrometer"), "x": Size(0.25, "micrometer")}


def cells(**changes):
    options = {"pixels": stack(2, 3, 70, 50), "axes": "czyx", "labels": ("DAPI", "GFP"), "sizes": SIZES}
    return Image(**{**options, **changes})


def lossless(ngff, **changes):
    return Options(codec="none", chunk_size=32, ngff=ngff, **changes)


def group(path, ome, arrays, zarr_format=3, **others):
    """A group with these attributes and arrays."""
    made = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    made.attrs.update({**others, "ome": ome} if zarr_format == 3 else {**others, **ome})
    for name, values in arrays.items():
        made.create_array(name, data=values, chunks=tuple(min(32, n) for n in values.shape))
    return path


def systems(axes="zyx", output="world", **changes):
    """The metadata of 0.6 of an image of two levels, the second of half the size and moved."""
    step = {"type": "scale", "scale": [2.0, 0.5, 0.5]}
    half = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}, {"type": "translation", "translation": [0.0, 0.25, 0.25]}]
    to = {"output": {"name": output}}
    world = [{"name": name, "type": "space", "unit": "micrometer"} for name in axes]
    image = {
        "coordinateSystems": [{"name": "world", "axes": world}],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{**step, "input": {"path": "0"}, **to}]},
            {"path": "1", "coordinateTransformations": [
                {"type": "sequence", "transformations": half, "input": {"path": "1"}, **to},
            ]},
        ],
    }  # fmt: skip
    return {"version": "0.6", "multiscales": [{**image, **changes}]}


PIXELS = stack(3, 40, 50)
LEVELS = {"0": PIXELS, "1": PIXELS[:, ::2, ::2]}


@pytest.mark.parametrize("version", WRITTEN)
def test_what_is_written_is_valid_to_others(tmp_path, photograph, version):
    """And is opened by ome-zarr and dask, RGB and stacks alike."""
    options = Options(max_error=0, chunk_size=64, ngff=version)
    for name, image in {"rgb": from_picture(photograph[:70, :90]), "cells": cells(), "plane": Image(PIXELS[0], "yx")}.items():
        path = tmp_path / f"{name}.ome.zarr"
        write_group(path, image, name, options)
        validate(path, version)
        levels = opened(path)
        np.testing.assert_array_equal(levels[0].compute(), image.pixels)
        np.testing.assert_array_equal(read_group(path).pixels, image.pixels)
        assert len(levels) == (1 if name == "plane" else 2)
        assert {axis: tuple(size) for axis, size in read_group(path).sizes.items()} == {
            axis: tuple(size) for axis, size in image.sizes.items()
        }


def test_the_validators_see_what_is_wrong(tmp_path):
    write_group(tmp_path / "a.zarr", cells(), "a", lossless("0.6"))
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    del document["attributes"]["ome"]["multiscales"][0]["coordinateSystems"]
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(jsonschema.ValidationError, match="coordinateSystems"):
        validate(tmp_path / "a.zarr", "0.6")


def test_the_command_writes_0_6(tmp_path):
    write_group(tmp_path / "a.zarr", cells(), "a", lossless("0.4"))
    command = [
        "encode",
        str(tmp_path / "a.zarr"),
        "-o",
        str(tmp_path / "b.zarr"),
        "--codec",
        "blosc",
        "--ngff",
        "0.6",
        "--quiet",
    ]
    assert main(command) == 0
    (image,) = attributes(tmp_path / "b.zarr")["multiscales"]
    assert "axes" not in image
    (system,) = image["coordinateSystems"]
    assert [axis["name"] for axis in system["axes"]] == ["c", "z", "y", "x"]
    for level in image["datasets"]:
        (step,) = level["coordinateTransformations"]
        assert (step["input"], step["output"]) == ({"path": level["path"]}, {"name": system["name"]})
    if importlib.util.find_spec("ome_zarr_models.v06"):  # of Python 3.12 and newer
        from ome_zarr_models.v06.image import Image as ImageOf0_6

        ImageOf0_6.from_zarr(zarr.open_group(str(tmp_path / "b.zarr"), mode="r"))


@pytest.mark.parametrize("after", WRITTEN)
@pytest.mark.parametrize("before", WRITTEN)
def test_from_each_version_to_each(tmp_path, before, after):
    """Levels, sizes, names, labels, plain attributes, and keys that nobody here knows; there and back it is the same."""
    source = tmp_path / "a.zarr"
    write_group(source, cells(), "a", lossless(before))
    made = zarr.open_group(str(source), mode="r+")
    made.attrs["mine"] = {"kept": [1]}
    labels = made.create_group("labels")
    labels.attrs.update({"labels": ["nuclei"]} if before == "0.4" else {"ome": {"version": before, "labels": ["nuclei"]}})
    write_group(
        source / "labels" / "nuclei", Image(np.arange(70 * 50, dtype=np.uint16).reshape(70, 50), "yx"), "n", lossless(before)
    )
    nuclei = zarr.open_group(str(source / "labels" / "nuclei"), mode="r+")
    if before == "0.4":
        nuclei.attrs["image-label"] = {"version": "0.4", "colors": [{"label-value": 1}]}
    else:
        made.attrs["ome"] = {**made.attrs["ome"], "_creator": {"name": "a program"}}
        nuclei.attrs["ome"] = {**nuclei.attrs["ome"], "image-label": {"colors": [{"label-value": 1}]}}
    reencode(source, tmp_path / "b.zarr", Options(codec="blosc", chunk_size=32, ngff=after))
    validate(tmp_path / "b.zarr", after)
    validate(tmp_path / "b.zarr" / "labels" / "nuclei", after)
    for name in ("", "labels/nuclei"):
        one, other = read_group(source / name), read_group(tmp_path / "b.zarr" / name)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.axes, one.labels, one.sizes) == (other.axes, other.labels, other.sizes)
    kept = zarr.open_group(str(tmp_path / "b.zarr"), mode="r").attrs.asdict()
    assert kept["mine"] == {"kept": [1]}
    if before != "0.4":
        assert kept.get("ome", kept)["_creator"] == {"name": "a program"}
    reencode(tmp_path / "b.zarr", tmp_path / "c.zarr", Options(codec="none", chunk_size=32, ngff=before))
    assert attributes(tmp_path / "c.zarr")["multiscales"] == attributes(source)["multiscales"]
    one, other = (attributes(path / "labels" / "nuclei") for path in (source, tmp_path / "c.zarr"))
    assert (one["multiscales"], one["image-label"]) == (other["multiscales"], other["image-label"])


@pytest.mark.parametrize("version", ["0.6", "0.6rc0", "0.6.dev4", None])
def test_coordinate_systems_are_read(tmp_path, version):
    """Also of releases before the final one, and without a version."""
    path = group(tmp_path / "a.zarr", {**systems(), "version": version}, LEVELS)
    image = read_group(path)
    assert image.axes == "zyx"
    assert {axis: tuple(size) for axis, size in image.sizes.items()} == {
        "z": (2.0, "micrometer"), "y": (0.5, "micrometer"), "x": (0.5, "micrometer"),
    }  # fmt: skip
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert read_group(path, 1).sizes["y"].value == 1.0
    written, failed = encode_paths([path], tmp_path / "b.zarr", EXACT)
    assert (len(written), failed) == (1, [])
    steps = attributes(tmp_path / "b.zarr")["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert steps == [{"type": "scale", "scale": [2.0, 1.0, 1.0]}, {"type": "translation", "translation": [0.0, 0.25, 0.25]}]
    validate(tmp_path / "b.zarr", "0.5")
    reencode(tmp_path / "b.zarr", tmp_path / "c.zarr", lossless("0.6"))
    (again,) = attributes(tmp_path / "c.zarr")["multiscales"]
    assert again["datasets"][1]["coordinateTransformations"][0]["transformations"] == steps


def test_names_in_place_of_references_and_identities(tmp_path):
    """As drafts of 0.6 have them."""
    step = {"type": "identity", "input": "0", "output": "world"}
    ome = systems(datasets=[{"path": "0", "coordinateTransformations": [step]}])
    path = group(tmp_path / "a.zarr", ome, LEVELS)
    assert {axis: size.value for axis, size in read_group(path).sizes.items()} == {"z": 1.0, "y": 1.0, "x": 1.0}


def test_further_coordinate_systems(tmp_path):
    """They are kept in 0.6, and never dropped quietly."""
    world = systems()["multiscales"][0]["coordinateSystems"][0]
    registered = {"type": "affine", "affine": np.eye(3, 4).tolist(), "input": {"name": "world"}, "output": {"name": "atlas"}}
    ome = systems(coordinateSystems=[world, {**world, "name": "atlas"}], coordinateTransformations=[registered])
    path = group(tmp_path / "a.zarr", ome, LEVELS)
    reencode(path, tmp_path / "b.zarr", lossless("0.6"))
    assert attributes(tmp_path / "b.zarr") == ome
    for version in ("0.4", "0.5"):
        _, failed = encode_paths([path], tmp_path / "c.zarr", lossless(version))
        assert f"several coordinate systems, which OME-NGFF {version} cannot hold; choose ngff 0.6" in str(failed[0].error)
    assert not (tmp_path / "c.zarr").exists()


def level(*steps):
    return [{"path": "0", "coordinateTransformations": list(steps)}]


@pytest.mark.parametrize(("changes", "match"), [
    ({"datasets": [{"path": "0"}]}, "0.6 but its level 0 has no transformation to one of its coordinate systems"),
    ({"output": "elsewhere"}, "no transformation to one of its coordinate systems"),
    ({"datasets": level({"type": "rotation", "output": {"name": "world"}})}, "rotation"),
    ({"axes": "xyz"}, "axes x, y, z but must have"), ({"coordinateSystems": None}, "not an OME-NGFF image"),
])  # fmt: skip
def test_0_6_that_is_not_as_it_says(tmp_path, changes, match):
    path = group(tmp_path / "a.zarr", systems(**changes), LEVELS)
    with pytest.raises(caecodec.ParameterError, match=match):
        read_group(path)
    _, failed = encode_paths([path], tmp_path / "b.zarr", EXACT)
    assert isinstance(failed[0].error, caecodec.ParameterError)


@pytest.mark.parametrize(("version", "axes", "shape"), [
    ("0.1", None, (1, 2, 3, 40, 50)), ("0.2", None, (1, 2, 3, 40, 50)), ("0.3", ["z", "y", "x"], (3, 40, 50)),
])  # fmt: skip
@pytest.mark.parametrize("to", WRITTEN)
def test_versions_before_0_4(tmp_path, capsys, version, axes, shape, to):
    """They are read, and named, since they do not say what pixels measure."""
    pixels = PIXELS if len(shape) == 3 else np.stack([PIXELS, PIXELS + 1])[None]
    image = {"version": version, "name": "old", "datasets": [{"path": "0"}, {"path": "1"}], **({"axes": axes} if axes else {})}
    path = group(tmp_path / "a.zarr", {"multiscales": [image]}, {"0": pixels, "1": pixels[..., ::2, ::2]}, zarr_format=2)
    with pytest.warns(UserWarning, match=rf"a\.zarr is OME-NGFF {version}, which does not say what pixels measure"):
        read = read_group(path)
    np.testing.assert_array_equal(read.pixels, pixels)
    assert (read.axes, read.sizes) == ("tczyx" if axes is None else "zyx", {})
    with pytest.warns(UserWarning, match="does not say what pixels measure"):
        assert main(["encode", str(path), "-o", str(tmp_path / "b.zarr"), "--codec", "none", "--ngff", to]) == 0
    validate(tmp_path / "b.zarr", to)
    again = read_group(tmp_path / "b.zarr")
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.sizes == {}
    assert attributes(tmp_path / "b.zarr")["multiscales"][0]["name"] == "old"


@pytest.mark.parametrize("version", ["0.7", "0.9.dev1", "1.0", "0.10", 2])
def test_versions_that_are_not_known(tmp_path, version):
    ome = {"version": version, "multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}]}
    path = group(tmp_path / "a.zarr", ome, {"0": PIXELS[0]})
    with pytest.raises(caecodec.FormatVersionError, match=f"is OME-NGFF {version} but this caecodec reads 0.1 to 0.6; upgrade"):
        read_group(path)
    for _, failed in (encode_paths([path], tmp_path / "b.zarr", EXACT), decode_paths([path], tmp_path / "b.tif")):
        assert isinstance(failed[0].error, caecodec.FormatVersionError)


def image_of(**changes):
    step = {"type": "scale", "scale": [0.5, 0.5]}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}
    return {"version": "0.5", "multiscales": [{**image, **changes}]}


ODD = {
    "scale of strings": image_of(datasets=level({"type": "scale", "scale": ["1", "1"]})),
    "scale too short": image_of(datasets=level({"type": "scale", "scale": [1]})),
    "scale not finite": image_of(datasets=level({"type": "scale", "scale": [float("inf"), float("nan")]})),
    "no scale": image_of(datasets=level({"type": "scale"}, None)),
    "transformations of null": image_of(datasets=[{"path": "0", "coordinateTransformations": None}]),
    "unit of null": image_of(axes=[{"name": "y", "unit": None}, {"name": "x", "unit": 3}]),
    "omero of null": {**image_of(), "omero": None},
    "channels of null": {**image_of(), "omero": {"channels": None}},
    "channels of text": {**image_of(), "omero": {"channels": ["red"]}},
    "names of null": {**image_of(), "omero": {"channels": [{"label": None, "color": None}]}},
    "more channels than there are": {**image_of(), "omero": {"channels": [{"label": "a"}, {"label": "b"}]}},
}


@pytest.mark.parametrize("ome", ODD.values(), ids=ODD)
def test_odd_metadata_beside_sound_pixels(tmp_path, ome):
    """What cannot be understood is left out; the pixels are read, written and coded anew."""
    path = group(tmp_path / "a.zarr", ome, {"0": PIXELS[0]}, caecodec="of others")
    image = read_group(path)
    np.testing.assert_array_equal(image.pixels, PIXELS[0])
    assert image.labels == ()
    assert image.icc_profile is None
    written, failed = decode_paths([path], tmp_path / "a.tif")
    assert (len(written), failed) == (1, [])
    written, failed = encode_paths([path], tmp_path / "b.zarr", EXACT)
    assert (len(written), failed) == (1, [])
    np.testing.assert_array_equal(read_group(tmp_path / "b.zarr").pixels, PIXELS[0])


def test_channels_of_which_some_have_names(tmp_path):
    channels = [{"label": "DAPI"}, {"label": None}, {"color": "00FF00"}]
    axes = [{"name": name} for name in "cyx"]
    step = {"type": "scale", "scale": [1, 1, 1]}
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}
    path = group(
        tmp_path / "a.zarr", {"version": "0.5", "multiscales": [image], "omero": {"channels": channels}}, {"0": PIXELS}
    )
    assert read_group(path).labels == ("DAPI", "channel 1", "channel 2")
    colours = [{"color": None}] * 3
    path = group(
        tmp_path / "b.zarr", {"version": "0.5", "multiscales": [image], "omero": {"channels": colours}}, {"0": np.uint8(PIXELS)}
    )
    assert read_group(path).rgb


def test_metadata_that_cannot_be_rewritten(tmp_path):
    """Only 0.6 has to understand the transformations of the levels; it says which group is wrong."""
    path = group(tmp_path / "a.zarr", ODD["scale of strings"], {"0": PIXELS[0]})
    _, failed = encode_paths([path], tmp_path / "b.zarr", lossless("0.6"))
    assert "a.zarr cannot be rewritten from OME-NGFF 0.5 to 0.6" in str(failed[0].error)
    assert not (tmp_path / "b.zarr").exists()
