"""TIFF stacks of any dtype and axes, to OME-NGFF and back."""

import json

import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import tifffile
import zarr
from helpers.stacks import EXACT, attributes, stack
from ome_zarr_models.common.omero import Omero
from PIL import Image as PillowImage

import caecodec
from caecodec.cli.main import main
from caecodec.images.metrics import psnr
from caecodec.ngff import Image, Options, Size, decode_paths, encode_paths, read_group, read_image, write_group, write_image
from caecodec.ngff.pyramid import pyramid


def ome_tiff(path, pixels, axes, **metadata):
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata={"axes": axes, **metadata})
    return path


def converted(path, target, options=EXACT):
    written, failed = encode_paths([path], target, options)
    assert not failed, failed[0].error
    return written[0]


SIZES = {
    "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.65, "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "nm", "TimeIncrement": 0.5, "TimeIncrementUnit": "min",
}  # fmt: skip


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_an_ome_tiff_and_back(tmp_path, ngff):
    """All five axes, names and sizes survive both ways, the values exactly."""
    pixels = stack(2, 3, 4, 40, 50)
    source = ome_tiff(tmp_path / "cells.ome.tif", pixels, "TCZYX", Channel={"Name": ["DAPI", "GFP", "RFP"]}, **SIZES)
    group = converted(source, tmp_path / "out", Options(codec="none", chunk_size=32, ngff=ngff))
    assert group.name == "cells.ome.zarr"
    array = zarr.open_group(str(group), mode="r")["s0"]
    assert array.chunks == (1, 1, 1, 32, 32)
    ome = attributes(group)
    assert ome["multiscales"][0]["axes"] == [
        {"name": "t", "type": "time", "unit": "minute"}, {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "nanometer"}, {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]  # fmt: skip
    scales = [level["coordinateTransformations"][0]["scale"] for level in ome["multiscales"][0]["datasets"]]
    assert scales == [[0.5, 1, 2, 0.65, 0.325], [0.5, 1, 2, 1.3, 0.65]]
    Omero.model_validate(ome["omero"])
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "GFP", "RFP"]
    first = pixels[:, 0]
    window = {"min": 0, "max": 65535, "start": int(first.min()), "end": int(first.max())}
    assert ome["omero"]["channels"][0]["window"] == window
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(group)))()
    np.testing.assert_array_equal(node.data[0].compute(), pixels)

    written, failed = decode_paths([group], tmp_path / "back.ome.tif")
    assert not failed
    original, back = read_image(source), read_image(written[0])
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.axes, back.labels, back.sizes, back.rgb) == (original.axes, original.labels, original.sizes, False)
    assert back.sizes["z"] == Size(2.0, "nanometer")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_every_dtype(tmp_path, dtype):
    """Exact without a codec, near with it; big-endian files are read as others."""
    pixels = stack(2, 48, 64, dtype=dtype)
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, pixels, byteorder=">", photometric="minisblack", metadata={"axes": "CYX"})
    for options in (EXACT, Options(quality=4, chunk_size=32), Options(quality=4, chunk_size=32, ngff="0.4")):
        group = converted(source, tmp_path / f"{options.codec}{options.ngff}.ome.zarr", options)
        (back,), failed = decode_paths([group], group.with_suffix(".tif"))
        assert not failed
        image = read_image(back)
        assert (image.axes, image.pixels.dtype) == ("cyx", np.dtype(dtype))
        if options is EXACT:
            np.testing.assert_array_equal(image.pixels, pixels)
        else:
            assert all(psnr(*pair) > 25 for pair in zip(pixels, image.pixels, strict=True))


def test_the_codec_sees_planes(tmp_path):
    group = converted(ome_tiff(tmp_path / "a.tif", stack(3, 2, 40, 40), "CZYX"), tmp_path / "a.zarr", Options(quality=2))
    array = zarr.open_group(str(group), mode="r")["s0"]
    assert array.serializer == caecodec.zarr.ConvolutionalAutoencoder(quality=2, channel_axis=None)
    assert array.chunks == (1, 1, 40, 40)
    assert array.metadata.dimension_names == ("c", "z", "y", "x")


def test_imagej(tmp_path):
    pixels = stack(2, 3, 40, 50)
    source = tmp_path / "a.tif"
    tifffile.imwrite(
        source, pixels, imagej=True, resolution=(4.0, 2.0), metadata={"axes": "ZCYX", "unit": "micron", "spacing": 1.5}
    )
    image = read_image(source)
    assert image.axes == "czyx"
    np.testing.assert_array_equal(image.pixels, pixels.swapaxes(0, 1))
    assert image.sizes == {"x": Size(0.25, "micrometer"), "y": Size(0.5, "micrometer"), "z": Size(1.5, "micrometer")}
    tifffile.imwrite(
        source, pixels[0], imagej=True, metadata={"axes": "CYX", "Labels": ["a", "b", "c"], "finterval": 3.0, "unit": "pixel"}
    )
    image = read_image(source)
    assert (image.axes, image.labels, image.sizes) == ("cyx", ("a", "b", "c"), {})
    tifffile.imwrite(source, pixels[:, 0], imagej=True, metadata={"axes": "TYX", "finterval": 3.0})
    assert read_image(source).sizes == {"t": Size(3.0, "second")}


def test_plain_tiffs(tmp_path):
    """Pages without names are z, and the outer ones time; samples are channels."""
    path = tmp_path / "a.tif"
    for shape, options, axes in [
        ((40, 50), {}, "yx"),
        ((5, 40, 50), {}, "zyx"),
        ((2, 5, 40, 50), {}, "tzyx"),
        ((40, 50, 5), {"planarconfig": "contig"}, "cyx"),
        ((5, 40, 50), {"planarconfig": "separate"}, "cyx"),
        ((2, 40, 50), {"metadata": {"axes": "TYX"}}, "tyx"),
    ]:
        pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        tifffile.imwrite(path, pixels, photometric="minisblack", **options)
        image = read_image(path)
        assert (image.axes, image.rgb) == (axes, False)
        np.testing.assert_array_equal(image.pixels, np.moveaxis(pixels, -1, 0) if shape[-1] == 5 else pixels)
    pages = [PillowImage.fromarray(stack(40, 50, dtype="uint8", seed=i)) for i in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    image = read_image(path)
    assert image.axes == "zyx"
    np.testing.assert_array_equal(image.pixels, [np.asarray(page) for page in pages])


def test_rgb_of_16_bits_and_of_several_planes(tmp_path, photograph):
    """Red, green and blue share a chunk."""
    small = photograph[:48, :64]
    for name, pixels, axes in [("deep", small * np.uint16(257), "YXS"), ("stack", np.stack([small, small[::-1]]), "ZYXS")]:
        source = tmp_path / f"{name}.tif"
        tifffile.imwrite(source, pixels, photometric="rgb", metadata={"axes": axes})
        group = converted(source, tmp_path / "out", Options(quality=5, chunk_size=32))
        array = zarr.open_group(str(group), mode="r")["s0"]
        assert array.chunks == (3, *(1 for _ in axes[3:]), 32, 32)
        assert array.serializer.parameters.channel_axis == -len(axes)
        (back,), failed = decode_paths([group], tmp_path / f"back-{name}.tif")
        assert not failed
        with tifffile.TiffFile(back) as file:
            assert file.series[0].axes == axes
            assert file.pages[0].photometric.name == "RGB"
            assert psnr(pixels, file.asarray()) > 25


def test_three_channels_that_are_not_rgb(tmp_path):
    """Each has a chunk and a name of its own, and TIFF has them as channels again; PNG cannot."""
    pixels = stack(3, 40, 50, dtype="uint8")
    group = converted(ome_tiff(tmp_path / "a.tif", pixels, "CYX", Channel={"Name": ["r", "g", "b"]}), tmp_path / "a.ome.zarr")
    assert zarr.open_group(str(group), mode="r")["s0"].chunks == (1, 32, 32)
    assert [len(failed) for _, failed in (decode_paths([group], tmp_path / f"a-back.{kind}") for kind in ("tif", "png"))] == [
        0,
        1,
    ]
    image = read_image(tmp_path / "a-back.tif")
    assert (image.axes, image.rgb, image.labels) == ("cyx", False, ("r", "g", "b"))
    np.testing.assert_array_equal(image.pixels, pixels)


def test_a_png_by_another_name(tmp_path, photograph):
    PillowImage.fromarray(photograph[:20, :30]).save(tmp_path / "a.tif", format="png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").picture(), photograph[:20, :30])


def test_grey_stays_grey(tmp_path, photograph):
    """One plane is stored, and comes back."""
    grey = PillowImage.fromarray(photograph[:64, :80]).convert("L")
    deep = PillowImage.fromarray(stack(64, 80))
    for name, image in (("grey", grey), ("deep", deep)):
        image.save(tmp_path / f"{name}.png")
        group = converted(tmp_path / f"{name}.png", tmp_path / "out")
        assert zarr.open_group(str(group), mode="r")["s0"].shape == (64, 80)
        assert len(attributes(group)["omero"]["channels"]) == 1
        (back,), failed = decode_paths([group], tmp_path / f"{name}-back.png")
        assert not failed
        assert PillowImage.open(back).mode == image.mode
        np.testing.assert_array_equal(np.asarray(PillowImage.open(back)), np.asarray(image))
    encode_paths([tmp_path / "grey.png"], tmp_path / "grey.cae", Options(quality=4))
    assert caecodec.decode((tmp_path / "grey.cae").read_bytes()).shape == (64, 80)
    (back,), _ = decode_paths([tmp_path / "grey.cae"], tmp_path / "from-cae.png")
    assert PillowImage.open(back).mode == "L"


def test_channels_in_a_payload_file(tmp_path):
    pixels = stack(5, 40, 50)
    converted(ome_tiff(tmp_path / "a.tif", pixels, "CYX"), tmp_path / "a.cae", Options(quality=5))
    (back,), _ = decode_paths([tmp_path / "a.cae"], tmp_path / "back.tif")
    image = read_image(back)
    assert image.axes == "cyx"
    assert psnr(pixels, image.pixels) > 28
    _, failed = encode_paths([ome_tiff(tmp_path / "z.tif", pixels, "ZYX")], tmp_path / "z.cae", Options(quality=1))
    assert "name a .zarr group" in str(failed[0].error)


def test_what_a_format_cannot_hold(tmp_path, capsys):
    """PNG holds no five channels: the error says what does."""
    group = converted(ome_tiff(tmp_path / "a.tif", stack(5, 40, 50, dtype="uint8"), "CYX"), tmp_path / "zarr" / "a.ome.zarr")
    assert main(["decode", str(group.parent), "-o", str(tmp_path / "png")]) == 1
    assert "axes c, y, x, shape (5, 40, 50) and dtype uint8, only 8-bit RGB" in capsys.readouterr().err
    assert not list((tmp_path / "png").glob("*"))
    assert main(["decode", str(group.parent), "-o", str(tmp_path / "tif"), "--format", "tiff"]) == 0
    assert read_image(tmp_path / "tif" / "a.tiff").pixels.shape == (5, 40, 50)
    for name, pixels in (("b.jpg", stack(40, 50)), ("b.png", stack(40, 50, dtype="float32"))):
        with pytest.raises(caecodec.ParameterError, match=f"{name} cannot hold .*--format tiff"):
            write_image(tmp_path / name, Image(pixels, "yx"))


def test_tiffs_that_are_refused(tmp_path):
    """The message names the file and a way out."""
    small = np.zeros((20, 30), np.uint16)
    cases = {
        "i32": (small.astype(np.int32), {}, "dtype int32, but the codec takes .*lossless"),
        "u32": (small.astype(np.uint32), {}, "dtype uint32, but the codec takes .*lossless"),
        "c64": (small.astype(np.complex64), {}, "dtype complex64, but the codec takes .*lossless"),
        "mask": (small > 0, {}, "one-bit mask.*lossless"),
        "white": (small, {"photometric": "miniswhite"}, "colours of kind MINISWHITE.*convert"),
        "cmyk": (np.zeros((20, 30, 4), np.uint16), {"photometric": "separated"}, "colours of kind SEPARATED.*convert"),
        "turned": (small, {"extratags": [(274, "H", 1, 6, True)]}, "not stored upright"),
        "alpha": (
            np.zeros((20, 30, 4), np.uint16), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "transparency",
        ),
        "many": (np.zeros((2, 2, 2, 20, 30), np.uint16), {"photometric": "minisblack"}, "axes Q, Q, Q, Y, X"),
    }  # fmt: skip
    for name, (pixels, options, match) in cases.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, **options)
        with pytest.raises(caecodec.ParameterError, match=f"{name}.tif .*{match}"):
            read_image(tmp_path / f"{name}.tif")
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(small)
        writer.write(small[:10])
    with pytest.raises(caecodec.ParameterError, match="two.tif holds 2 images but must hold one"):
        read_image(tmp_path / "two.tif")
    palette = [PillowImage.fromarray(np.eye(20, dtype=np.uint8)).convert("P") for _ in range(2)]
    palette[0].save(tmp_path / "palette.tif", save_all=True, append_images=palette[1:])
    with pytest.raises(caecodec.ParameterError, match="palette.tif has colours of kind PALETTE"):
        read_image(tmp_path / "palette.tif")


def test_opaque_alpha_and_unnamed_samples(tmp_path, photograph):
    pixels = np.dstack([photograph[:20, :30], np.full((20, 30), 255, np.uint8)]) * np.uint16(257)
    tifffile.imwrite(tmp_path / "opaque.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    image = read_image(tmp_path / "opaque.tif")
    assert image.rgb
    np.testing.assert_array_equal(image.picture(), pixels[..., :3])
    infrared = pixels.astype(np.uint8)
    tifffile.imwrite(tmp_path / "infrared.tif", infrared, photometric="rgb", extrasamples=["unspecified"])
    image = read_image(tmp_path / "infrared.tif")
    assert (image.axes, image.rgb) == ("cyx", False)
    np.testing.assert_array_equal(image.pixels, np.moveaxis(infrared, -1, 0))


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"imagej": True}, {"metadata": None}], ids=str)
def test_damaged_tiffs(tmp_path, options):
    """Wherever a file ends too early, it is refused; tifffile itself would leave out pages."""
    pixels = np.random.default_rng(0).integers(0, 4096, (4, 40, 50)).astype(np.uint16)
    compression = {} if "imagej" in options else {"compression": "lzw"}
    tifffile.imwrite(tmp_path / "whole.tif", pixels, photometric="minisblack", **compression, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "whole.tif").pixels, pixels)
    data = (tmp_path / "whole.tif").read_bytes()
    for length in (4, 300, *range(1000, len(data) - 1000, 2500), len(data) - 1000):
        (tmp_path / "cut.tif").write_bytes(data[:length])
        with pytest.raises(caecodec.ParameterError, match="cut.tif cannot be read as an image"):
            read_image(tmp_path / "cut.tif")


def test_missing_files_of_an_ome_tiff(tmp_path):
    """Their planes would be zero."""
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(2, 40, 50), photometric="minisblack", metadata={"axes": "ZYX"})
    document = tifffile.tiffcomment(tmp_path / "a.ome.tif").replace('SizeZ="2"', 'SizeZ="3"')
    tifffile.tiffcomment(tmp_path / "a.ome.tif", document.encode())
    with pytest.raises(caecodec.ParameterError, match="a.ome.tif cannot be read .* are missing"):
        read_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_pyramids_do_not_overflow(tmp_path, dtype):
    """The greatest and the least values keep theirs; integers are rounded, halves up."""
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    for value in (limits.max, limits.min):
        pixels = np.full((2, 5, 7), value, dtype)
        assert [(level == pixels.dtype.type(value)).all() for level in pyramid((pixels,), 2, tmp_path)] == [True] * 3
    pixels = np.array([[[3, 3], [4, 4]]]).astype(dtype)
    last = list(pyramid((pixels,), 1, tmp_path))[-1]
    assert last.dtype == pixels.dtype
    assert last.item() == (3.5 if np.dtype(dtype).kind == "f" else 4)


def test_windows(tmp_path):
    """Floats have the range of their finite values, JSON knows no others; constant planes have a window too."""
    pixels = np.array([[[np.nan, -1.5], [2.5, np.inf]], [[7, 7], [7, 7]]], np.float32)
    write_group(tmp_path / "a.zarr", Image(pixels, "cyx"), "a", EXACT)
    document = (tmp_path / "a.zarr" / "zarr.json").read_text()
    channels = json.loads(document, parse_constant=pytest.fail)["attributes"]["ome"]["omero"]["channels"]
    assert channels[0]["window"] == {"min": -1.5, "max": 2.5, "start": -1.5, "end": 2.5}
    assert channels[1]["window"] == {"min": 7, "max": 8, "start": 7, "end": 8}
    np.testing.assert_array_equal(read_group(tmp_path / "a.zarr").pixels, pixels)


def test_not_a_number_is_refused_and_leaves_nothing(tmp_path):
    good, bad = stack(40, 50, dtype="float32"), np.full((40, 50), np.nan, np.float32)
    (tmp_path / "in").mkdir()
    for name, pixels in (("a", bad), ("b", good)):
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", pixels)
    written, failed = encode_paths([tmp_path / "in"], tmp_path / "out", Options(quality=2, chunk_size=32))
    assert "NaN" in str(failed[0].error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.ome.zarr"] == [path.name for path in written]


def test_jpeg2000_to_compare_with(tmp_path):
    options = Options(codec="jpeg2k", ngff="0.4", chunk_size=32)
    source = ome_tiff(tmp_path / "a.tif", stack(2, 40, 50), "CYX")
    assert read_group(converted(source, tmp_path / "a.zarr", options)).pixels.shape == (2, 40, 50)
    _, failed = encode_paths([ome_tiff(tmp_path / "f.tif", stack(40, 50, dtype="float32"), "YX")], tmp_path / "f.zarr", options)
    assert "codec 'jpeg2k' takes uint8 and uint16" in str(failed[0].error)


def test_ranges_do_not_suffer_from_padding(tmp_path):
    """A chunk over the edge is filled up with its own values: small steps on a large offset survive in it."""
    pixels = stack(40, 40, dtype="float32") + np.float32(1e4)
    group = converted(ome_tiff(tmp_path / "a.tif", pixels, "YX"), tmp_path / "a.zarr", Options(quality=5, chunk_size=32))
    edge = read_group(group).pixels[32:]
    assert psnr(edge, pixels[32:]) > 25
