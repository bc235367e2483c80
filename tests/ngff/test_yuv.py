"""Planar YUV files, their groups, and back."""

import numpy as np
import pytest
import zarr

import caecodec
from caecodec.cli.main import main
from caecodec.images.metrics import psnr
from caecodec.ngff import Options, decode_paths, encode_paths, video
from caecodec.ngff.video_groups import read_video_group

EXACT = Options(codec="blosc", chunk_size=32)


def planes(width, height, frames=2, depth=8, seed=0):
    """Smooth planes whose values are of all of their range."""
    rng = np.random.default_rng(seed)
    found = []
    for rows, columns in ((height, width), *[video.half(height, width)] * 2):
        y, x = np.mgrid[:rows, :columns]
        waves = [np.sin((y * rng.uniform(1, 3) + x * rng.uniform(1, 3)) / 12 + i) for i in range(frames)]
        values = (np.stack(waves) / 2 + 0.5) * (2**depth - 1)
        found.append(np.rint(values).astype("u1" if depth == 8 else "u2"))
    return found


def raw(path, planes):
    """A .yuv file."""
    data = [plane[i].astype(plane.dtype.newbyteorder("<")).tobytes() for i in range(len(planes[0])) for plane in planes]
    path.write_bytes(b"".join(data))
    return path


def y4m(path, planes, header):
    """A .y4m file."""
    frames = [b"FRAME\n" + b"".join(plane[i].tobytes() for plane in planes) for i in range(len(planes[0]))]
    path.write_bytes(f"YUV4MPEG2 {header}\n".encode() + b"".join(frames))
    return path


def convert(source, target, options=EXACT):
    (written,), failed = encode_paths([source], target, options)
    assert not failed, failed[0].error
    return written


def message(source, target="out", options=EXACT):
    _, (failure,) = encode_paths([source], source.parent / target, options)
    return str(failure.error)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("size", [(64, 48), (37, 21)], ids=str)
def test_raw_files_and_back(tmp_path, size, depth):
    """Odd sizes too, and with several frames."""
    expected = planes(*size, frames=3, depth=depth)
    source = raw(tmp_path / f"waves_{size[0]}x{size[1]}_25_{depth}bit.yuv", expected)
    group = convert(source, tmp_path / "out")
    assert group.name == f"{source.stem}.zarr"
    for name, plane in zip("yuv", expected, strict=True):
        array = zarr.open_group(str(group), mode="r")[name]
        assert (array.shape, array.dtype, array.chunks[0]) == (plane.shape, plane.dtype, 1)
        assert array.metadata.dimension_names == ("t", "y", "x")
        np.testing.assert_array_equal(array[...], plane)
    written, failed = decode_paths([group], tmp_path / "again.yuv")
    assert not failed
    assert written[0].read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("colours", "depth"), [("C420jpeg", 8), ("C420p10 XYSCSS=420P10", 10), ("", 8)])
@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_y4m_and_back(tmp_path, colours, depth, ngff):
    """What its header says stays."""
    expected = planes(21, 30, depth=depth)
    source = y4m(tmp_path / "a.y4m", expected, f"W21 H30 F30000:1001 Ip A1:1 {colours}".rstrip())
    group = convert(source, tmp_path / "out", Options(codec="blosc", ngff=ngff))
    found = read_video_group(group)
    assert (found.depth, found.size) == (depth, (21, 30))
    written, failed = decode_paths([tmp_path / "out"], tmp_path / "back", ".y4m")
    assert not failed
    assert written[0].read_bytes() == source.read_bytes()
    decode_paths([group], tmp_path / "a.yuv")
    assert (tmp_path / "a.yuv").read_bytes() == raw(tmp_path / "b.yuv", expected).read_bytes()


def test_raw_to_y4m(tmp_path):
    """Whose rate nobody knows."""
    expected = planes(32, 16, depth=10)
    group = convert(raw(tmp_path / "a_32x16_10b.yuv", expected), tmp_path / "a.zarr")
    decode_paths([group], tmp_path / "a.y4m")
    assert (tmp_path / "a.y4m").read_bytes() == y4m(tmp_path / "b.y4m", expected, "W32 H16 F0:0 C420p10").read_bytes()


def test_files_stay_on_disk(tmp_path):
    """Planes are views of the file."""
    source = raw(tmp_path / "a_64x48.yuv", planes(64, 48))
    found = video.read_video(source)
    assert all(isinstance(plane.base, np.memmap) or isinstance(plane, np.memmap) for plane in found.planes)
    assert not any(plane.flags.owndata for plane in found.planes)


@pytest.mark.parametrize(("name", "size", "depth"), [
    ("BasketballDrive_1920x1080_50", (1920, 1080), 8), ("Beauty_3840x2160_120fps_420_10bit_YUV_RAW", (3840, 2160), 10),
    ("NebutaFestival_2560x1600_60_10bit_crop", (2560, 1600), 10), ("a-416x240-yuv420p", (416, 240), 8),
    ("a_352X288_8b", (352, 288), 8), ("a_352x288_yuv420p10le", (352, 288), 10), ("x_64x64_64x64", (64, 64), 8),
    ("foreman422_352x288", (352, 288), 8),
])  # fmt: skip
def test_names_that_say_enough(tmp_path, name, size, depth):
    width, height = size
    form = video._said(tmp_path / f"{name}.yuv", None, None)
    assert (form.width, form.height, form.depth) == (width, height, depth)


@pytest.mark.parametrize(("name", "match"), [
    ("foreman_cif", "no sizes in its name"), ("a_64x64_of_128x128", "2 sizes in its name"), ("a_0x16", "sizes in its name"),
    ("a_64x48_12bit", "depth 12 in its name"), ("a_64x48_8bit_10bit", "depth"), ("a_64x48_422_10bit", "seems to hold 422"),
    ("a_64x48_p010", "seems to hold p010"), ("a_64x48_yuv444p", "seems to hold yuv444p"), ("a_64x48_nv12", "to hold nv12"),
    ("a_64x48_yuv420p10be", "seems to hold p10be"), ("0xa1x16", "no sizes"),
])  # fmt: skip
def test_names_that_do_not(tmp_path, name, match):
    source = raw(tmp_path / f"{name}.yuv", planes(64, 48))
    assert match in message(source)
    assert "--size WIDTHxHEIGHT --depth 8|10" in message(source)
    convert(source, tmp_path / "b.zarr", Options(codec="blosc", size=(64, 48), depth=8))


def test_files_that_are_not_what_they_seem(tmp_path):
    deep = planes(64, 48, depth=10)
    assert "seems to have 10 bits" in message(raw(tmp_path / "a_64x48.yuv", deep))
    assert "which are no whole number of frames of 65x48 of 8 bits" in message(raw(tmp_path / "a_65x48.yuv", deep))
    shifted = [plane << 6 for plane in deep]
    assert "10 bits reach to 1023" in message(raw(tmp_path / "b_64x48_10bit.yuv", shifted))
    for name, data, match in (
        ("empty_64x48.yuv", b"", "no whole number of frames"),
        ("a.y4m", b"RIFF", "not the header of a .y4m file"),
        ("b.y4m", b"YUV4MPEG2 W64 F25:1\n", "not the header of a .y4m file with its size"),
        ("c.y4m", b"YUV4MPEG2 W2 H2 C444\nFRAME\n" + bytes(12), "colours '444'"),
        ("d.y4m", b"YUV4MPEG2 W2 H2\nFRAME\n" + bytes(5), "no whole number of frames of 2x2 of 8 bits"),
        ("e.y4m", b"YUV4MPEG2 W2 H2\n", "no whole number of frames"),
        ("f.y4m", b"YUV4MPEG2 W2 H2\nFRAME Ip\n" + bytes(3), "frames with parameters"),
    ):
        (tmp_path / name).write_bytes(data)
        assert match in message(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".zarr"] == []


def test_what_videos_do_not_become(tmp_path):
    source = raw(tmp_path / "a_32x32.yuv", planes(32, 32))
    assert "a .cae file holds one array" in message(source, "a.cae", Options(quality=3))
    group = convert(source, tmp_path / "a.zarr")
    _, (failure,) = decode_paths([group], tmp_path / "a.png")
    assert "holds a video, which a.png cannot hold; use the suffix .yuv or .y4m" in str(failure.error)
    with pytest.raises(caecodec.ParameterError, match="for raw .yuv files but there are none"):
        encode_paths([group], tmp_path / "b.zarr", Options(size=(2, 2)))
    zarr.open_group(str(group), mode="r+")["u"].resize((2, 5, 5))
    _, (failure,) = decode_paths([group], tmp_path / "a.yuv")
    assert "which are not those of a video of 8 bits in YUV 4:2:0: it is damaged" in str(failure.error)


@pytest.mark.parametrize(
    "codec", [{"codec": "overfitted", "preset": "instant"}, {"codec": "cae"}], ids=lambda one: one["codec"]
)
def test_lossy_codecs(tmp_path, codec):
    """Each plane is a picture of its own; values of 10 bits stay in their range."""
    expected = planes(32, 32, frames=1, depth=10)
    source = raw(tmp_path / "a_32x32_10bit.yuv", expected)
    group = convert(source, tmp_path / "a.zarr", Options(**codec, quality=6, chunk_size=64))
    found = read_video_group(group)
    for plane, decoded in zip(expected, found.planes, strict=True):
        assert psnr(plane, decoded[...]) > 30
        assert decoded[...].max() <= 1023
        assert not np.array_equal(decoded[...], plane)
    written, failed = decode_paths([group], tmp_path / "b.yuv")
    assert not failed
    assert written[0].stat().st_size == source.stat().st_size


def test_values_beyond_ten_bits(tmp_path):
    group = convert(raw(tmp_path / "a_32x32_10bit.yuv", planes(32, 32, depth=10)), tmp_path / "a.zarr")
    zarr.open_group(str(group), mode="r+")["u"][1, 3, 4] = 1024
    _, (failure,) = decode_paths([group], tmp_path / "b.yuv")
    assert "frame 1 has a value of 1024, which is more than 10 bits" in str(failure.error)
    assert not (tmp_path / "b.yuv").exists()
    options = Options(codec="jpeg2k")
    assert "jpeg2k" in message(tmp_path / "a_32x32_10bit.yuv", options=options)


def test_the_command(tmp_path, capsys):
    source = raw(tmp_path / "film.yuv", planes(48, 32))
    command = ["encode", str(source), "-o", str(tmp_path / "a.zarr"), "--codec", "blosc"]
    assert main(command) == 1
    assert "no sizes in its name" in capsys.readouterr().err
    assert main([*command, "--size", "48x32", "--depth", "8"]) == 0
    assert main(["decode", str(tmp_path / "a.zarr"), "-o", str(tmp_path / "b"), "--format", "yuv"]) == 0
    assert (tmp_path / "b" / "a.yuv").read_bytes() == source.read_bytes()
    with pytest.raises(SystemExit):
        main([*command, "--size", "48"])
    assert "'48' is no size such as 1920x1080" in capsys.readouterr().err
