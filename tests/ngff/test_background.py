"""Background that is not stored, or costs a few bytes, and how far values may be from it."""

import numpy as np
import pytest
import zarr
from helpers import slides
from helpers.stacks import stack

import caecodec
from caecodec.images.image import Image
from caecodec.ngff import Options, encode_paths, read_group, write_group
from caecodec.ngff.background import Background, Flattened, find

QUICK = {"quality": 1, "chunk_size": 64}


def written(path, image, **options):
    """The group, and the sizes of the chunks of its first level."""
    write_group(path, image, "a", Options(**{**QUICK, **options}))
    files = [one for one in (path / "s0").rglob("*") if one.is_file() and one.name != "zarr.json"]
    return zarr.open_group(str(path), mode="r"), sorted(one.stat().st_size for one in files)


def picture(pixels, **others):
    return Image(np.moveaxis(pixels, -1, 0), "cyx", rgb=True, **others)


def test_slides_by_default(tiny, tmp_path):
    """Of 16 chunks the 4 with tissue are stored; the rest is what it was to within the tolerance."""
    pixels = slides.tissue(256, 256)
    group, sizes = written(tmp_path / "a.zarr", picture(pixels, slide=True))
    assert len(sizes) == 4
    assert group["s0"].fill_value == 243
    empty = np.moveaxis(pixels, -1, 0)[:, 128:].astype(int)
    assert np.abs(group["s0"][:, 128:] - empty).max() <= 8
    _, all_sizes = written(tmp_path / "b.zarr", picture(pixels, slide=True), background="none")
    assert len(all_sizes) == 16
    assert len(written(tmp_path / "c.zarr", picture(pixels))[1]) == 16  # a photograph


def test_a_tinted_background_costs_some_bytes(tiny, tmp_path):
    """No one value is near to all of its channels; its chunks are constant."""
    pixels = slides.tissue(256, 256, background=(240, 225, 210))
    group, sizes = written(tmp_path / "a.zarr", picture(pixels, slide=True))
    assert len(sizes) == 16
    assert sizes[11] < 64 < sizes[12]
    assert (group["s0"][:, 200:, 200:] == np.array([240, 225, 210])[:, None, None]).all()


@pytest.mark.parametrize("said", ["#F3F1F4", "243,241,244", "rgb(243, 241, 244)"])
def test_colours_that_are_given(tiny, tmp_path, said):
    group, sizes = written(tmp_path / "a.zarr", picture(slides.tissue(128, 128)), background=said)
    assert (len(sizes), group["s0"].fill_value) == (1, 243)


def test_what_is_promised_is_kept(tiny, tmp_path):
    """Lossless codecs alter nothing unless a tolerance is given, and a bound holds."""
    image = picture(slides.tissue(128, 128), slide=True)
    for name, options in (("a", {"codec": "blosc"}), ("b", {"max_error": 0}), ("c", {"max_error": 1})):
        group, sizes = written(tmp_path / f"{name}.zarr", image, **{"quality": None, **options})
        assert len(sizes) == 4
        assert np.abs(group["s0"][:].astype(int) - image.values).max() <= options.get("max_error", 0)
    group, sizes = written(tmp_path / "d.zarr", image, codec="blosc", quality=None, background_tolerance=4)
    assert len(sizes) == 1
    with pytest.raises(caecodec.ParameterError, match="background_tolerance is 3 but must be 0 to max_error, 1"):
        Options(max_error=1, background_tolerance=3)


def test_other_dtypes(tmp_path):
    """One value for all channels, which is exact unless a tolerance is given."""
    pixels = stack(2, 64, 64)
    pixels[0, :, :32] = 100
    pixels[1, :, :32] = 103
    image = Image(pixels, "cyx")
    options = {"codec": "none", "quality": None, "chunk_size": 32, "background": "100"}
    assert len(written(tmp_path / "a.zarr", image, **options)[1]) == 6
    assert len(written(tmp_path / "b.zarr", image, **options, background_tolerance=3)[1]) == 4
    for said, message in (("70000", "has integers from 0 to 65535"), ("1,2", "of 2 values, but .* needs one")):
        with pytest.raises(caecodec.ParameterError, match=message):
            written(tmp_path / "c.zarr", image, **{**options, "background": said, "resume": True})
    with pytest.raises(caecodec.ParameterError, match="background is 'blanc' but must be auto, none, a value"):
        Options(background="blanc")


def test_groups(tiny, tmp_path):
    """A group's chunks are left out as well, if a background is asked for."""
    write_group(tmp_path / "a.zarr", picture(slides.tissue(128, 128)), "a", Options(codec="none", chunk_size=64))
    for name, options, count in (("b", {}, 4), ("c", {"background": "auto"}, 1), ("d", {"background": "240"}, 1)):
        encode_paths([tmp_path / "a.zarr"], tmp_path / f"{name}.zarr", Options(**QUICK, **options))
        assert len([one for one in (tmp_path / f"{name}.zarr" / "s0" / "c").rglob("*") if one.is_file()]) == count
        assert read_group(tmp_path / f"{name}.zarr").pixels.shape == (3, 128, 128)


def test_finding():
    assert find(np.moveaxis(slides.tissue(64, 64), -1, 0), 8) == Background((243, 241, 244), 8)
    assert find(np.full((3, 64, 64), 90, np.uint8), 8) is None


def test_edges_and_channels():
    """Chunks at the edge are judged by the values that are there; what is not all within the tolerance stays as it is."""
    pixels = np.full((2, 50, 50), 200, np.uint8)
    pixels[0, 0, 0], pixels[1, 49, 49] = 208, 209
    flat = Flattened(pixels, (1, 32, 32), Background((200,), 8), None)
    found = flat[:, 0:64, 0:64]
    assert (found[0] == 200).all()
    np.testing.assert_array_equal(found[1], pixels[1])
    assert pixels[0, 0, 0] == 208
