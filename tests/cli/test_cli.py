import json
import os
import subprocess

import google_crc32c
import numpy as np
import pytest
import tifffile
import zarr
from helpers import processes
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec.arrays.inspection import inspect
from caecodec.cli.main import COMMANDS, main, parser
from caecodec.images.metrics import psnr


@pytest.fixture
def photo(tmp_path, photograph):
    path = tmp_path / "photo.png"
    Image.fromarray(photograph[:256, :300]).save(path)
    return path


def test_encode_inspect_decode(tmp_path, photo, capsys):
    assert main(["encode", str(photo), "-o", str(tmp_path / "a.ome.zarr"), "-q", "5"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.ome.zarr'}\n"
    assert main(["inspect", str(tmp_path / "a.ome.zarr")]) == 0
    text = capsys.readouterr().out
    for line in (
        "format version  1",
        "cae, quality 5, mse",
        "entropy coding  context",
        "(installed)",
        "(3, 256, 300) uint8",
        "bits per pixel",
    ):
        assert line in text
    assert main(["decode", str(tmp_path / "a.ome.zarr"), "-o", str(tmp_path / "b.tif"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert psnr(np.asarray(Image.open(tmp_path / "b.tif")), np.asarray(Image.open(photo))) > 28


def test_an_output_that_is_a_url(tmp_path, photo, capsys, monkeypatch):
    """As a path it would be a folder here, while the bucket stays empty."""
    monkeypatch.chdir(tmp_path)
    for command in ("encode", "decode", "latents"):
        assert main([command, str(photo), "-o", "s3://bucket/a.ome.zarr"]) == 1
        assert "output is the URL s3://bucket/a.ome.zarr but must be a path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_exit_status_of_a_folder_with_a_bad_file(tmp_path, photo, capsys):
    (tmp_path / "bad.png").write_text("not an image")
    assert main(["encode", str(tmp_path), "-o", str(tmp_path / "out"), "-q", "1"]) == 1
    output = capsys.readouterr()
    assert "photo.ome.zarr" in output.out
    assert "bad.png cannot be read as an image" in output.err
    assert "1 of 2 failed" in output.err


def test_errors_are_one_line(tmp_path, photo, capsys):
    assert main(["encode", str(photo), "-o", str(tmp_path / "out"), "--weights", str(TINY)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("caecodec: weights 'tiny.safetensors' are of metric 'mse', quality 1, 4, but quality is 8, metric")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        main(["encode", str(photo)])
    assert stop.value.code == 2


@pytest.mark.parametrize(("name", "encoding"), [
    (b"na\xefve.png", "utf-8:strict"), ("grün.png".encode(), "ascii"), ("写真.png".encode(), "latin-1"),
])  # fmt: skip
def test_names_that_the_output_cannot_hold(tmp_path, photo, name, encoding):
    """They are printed with escapes, and what is written is the same; names in metadata are text."""
    source = tmp_path / os.fsdecode(name)
    photo.rename(source)
    command = ["-m", "caecodec", "encode", source, "-o", tmp_path / "out", "--codec", "none"]
    with processes.start(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=processes.environment(PYTHONIOENCODING=encoding)
    ) as process:
        out, err = process.communicate(timeout=processes.PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert "\\" in out
    (written,) = (tmp_path / "out").iterdir()
    assert os.fsencode(written.name) == name.replace(b".png", b".ome.zarr")
    attributes = json.loads((written / "zarr.json").read_text())["attributes"]["ome"]
    attributes["multiscales"][0]["name"].encode()


def test_an_output_that_nobody_reads(tmp_path, photo):
    """As after `caecodec ... | head -0`: no traceback, and the status that shells give for it."""
    read, write = os.pipe()
    os.close(read)
    command = ["-m", "caecodec", "encode", photo, "-o", tmp_path / "a.zarr", "--codec", "none"]
    with processes.start(*command, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, err = process.communicate(timeout=processes.PATIENCE)
    assert (process.returncode, err) == (141, "")
    assert (tmp_path / "a.zarr" / "zarr.json").exists()


def test_a_failure_is_one_line_to_the_end_of_the_process(tmp_path):
    """zarr, which reads a TIFF file by its tiles, has hundreds of others to read when one is damaged."""
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 60000, (10, 160, 160), dtype=np.uint16)
    tifffile.imwrite(path, noise, tile=(16, 16), compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[2] + 100
    data = path.read_bytes()
    path.write_bytes(data[:place] + bytes(300) + data[place + 300 :])
    result = processes.run("-m", "caecodec", "encode", path, "-o", tmp_path / "a.zarr", "--codec", "none", expected=1)
    assert result.stderr.count("\n") == 2, result.stderr
    assert f"{path} cannot be read as an image" in result.stderr


def test_outputs_inside_inputs(tmp_path, photo, capsys):
    group = tmp_path / "a.zarr"
    assert main(["encode", str(photo), "-o", str(group), "--codec", "none", "--quiet"]) == 0
    (tmp_path / "link").symlink_to(group)
    for command, output in (
        ("encode", group / "b.zarr"), ("encode", group / "deep" / "b.cae"), ("encode", tmp_path / "link" / "b.zarr"),
        ("decode", group / "b.png"), ("decode", group / "decoded"),
    ):  # fmt: skip
        assert main([command, str(group), "-o", str(output)]) == 1
        assert f"lies inside {group}, which is an input" in capsys.readouterr().err
    for command in (["encode"], ["extract", "--layers", "1"], ["latents"]):
        assert main([*command, str(group / "s0"), "-o", str(group), "--overwrite"]) == 1
        assert f"{group / 's0'} lies inside {group}, which is an output" in capsys.readouterr().err
    for command, name in ((["extract", "--layers", "1"], "b.zarr"), (["latents"], "s0/a.npy")):
        assert main([*command, str(group), "-o", str(group / name)]) == 1
        assert f"lies inside {group}, which is an input" in capsys.readouterr().err
    assert main(["latents", str(group), "-o", str(group), "--overwrite"]) == 1
    assert f"output is {group}, which is the source" in capsys.readouterr().err
    assert {path.name for path in group.iterdir()} == {"zarr.json", "s0", "s1"}
    assert main(["encode", str(tmp_path), "-o", str(tmp_path / "out"), "--codec", "none", "--quiet"]) == 0
    bare = group.rename(tmp_path / "image")  # a group without a suffix, replaced by itself
    assert main(["encode", str(bare), "-o", str(bare), "--max-error", "0", "--overwrite", "--quiet"]) == 0
    assert main(["inspect", str(bare), "--expect", "cae"]) == 0


def test_the_command_is_installed():
    assert processes.run("-m", "caecodec", "--version").stdout == f"caecodec {caecodec.__version__}\n"


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        name = command.__name__.rsplit(".", 1)[-1].replace("_", "-")
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([name, "--help"])
        assert stop.value.code == 0
        assert command.SUMMARY.split()[0] in capsys.readouterr().out


# inspect


def test_inspect_a_payload_file(tmp_path, tiny):
    array = random_image(40, 50, 3)
    path = tmp_path / "a.cae"
    path.write_bytes(caecodec.encode(array, quality=4, weights=tiny))
    (report,) = inspect(path)
    assert report.total_bytes == path.stat().st_size
    assert report.entropy == ("static",)
    assert (report.qualities, report.metric, report.shape, report.channel_axis) == ((4,), "mse", (40, 50, 3), 2)
    assert (report.asked, report.dtype) == ("quality 4", "uint8")
    assert report.escape_bytes > 0
    assert report.weights_installed
    assert report.bpp == pytest.approx(8 * path.stat().st_size / 2000)
    assert report.ratio == pytest.approx(6000 / path.stat().st_size)


@pytest.mark.parametrize("max_error", [0, 3])
def test_inspect_a_bounded_payload(tmp_path, tiny, max_error):
    path = tmp_path / "a.cae"
    path.write_bytes(caecodec.encode(random_image(40, 50, 3), quality=4, weights=tiny, max_error=max_error))
    (report,) = inspect(path)
    assert (report.total_bytes, report.entropy) == (path.stat().st_size, ("bounded",))


def test_inspect_without_the_weights(tmp_path, monkeypatch):
    source = save_seeded(tmp_path / "mine.safetensors", seed=5)
    (tmp_path / "a.cae").write_bytes(caecodec.encode(random_image(20, 20, 3), quality=4, weights=source.location))
    monkeypatch.delenv("CAECODEC_WEIGHTS", raising=False)
    (report,) = inspect(tmp_path / "a.cae")
    assert not report.weights_installed
    assert "NOT installed" in str(report)
    assert source.digest.hex() in str(report)


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (64, 64, 3))])
def test_inspect_counts_every_byte(tmp_path, tiny, zarr_format, shards, capsys):
    array = random_image(90, 70, 3)
    array[:32, :32] = 7
    array[32:64, :32] = 0  # the fill value: not stored
    how = {"compressors": caecodec.ConvolutionalAutoencoder(4, weights=TINY)} if zarr_format == 2 else {
        "serializer": caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY), "compressors": None, "shards": shards,
    }  # fmt: skip
    path = tmp_path / "a.zarr"
    z = zarr.create_array(path, data=array, chunks=(32, 32, 3), zarr_format=zarr_format, **how)
    (report,) = inspect(path)
    assert report.chunk_shape == (32, 32, 3)
    assert (report.chunks, report.chunks_constant, report.chunks_missing) == (8, 1, 1)
    documents = sum((path / name).stat().st_size for name in ("zarr.json", ".zarray", ".zattrs") if (path / name).exists())
    index = 0 if shards is None else 4 * (4 * 16 + 4)
    assert report.total_bytes == z.nbytes_stored() - documents - index
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["total_bytes"] == report.total_bytes


def test_inspect_what_is_not_ours(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((4, 4), np.uint8))
    zarr.create_group(tmp_path / "g.zarr").create_array("x", data=np.zeros((4, 4), np.uint8))
    (tmp_path / "none").mkdir()
    (tmp_path / "text.cae").write_text("text")
    with pytest.raises(caecodec.ParameterError, match="is not coded by caecodec"):
        inspect(tmp_path / "a.zarr")
    with pytest.raises(caecodec.ParameterError, match="holds no array coded by caecodec"):
        inspect(tmp_path / "g.zarr")
    with pytest.raises(caecodec.ParameterError, match=r"none is a folder but no Zarr array or group; name one"):
        inspect(tmp_path / "none")
    with pytest.raises(caecodec.ParameterError, match=r"nowhere\.zarr is not a Zarr array or group: .* does not exist"):
        inspect(tmp_path / "nowhere.zarr")
    with pytest.raises(caecodec.CorruptionError, match=r"text\.cae: payload .* must start with ca ec"):
        inspect(tmp_path / "text.cae")


def test_inspect_a_damaged_shard(tmp_path, tiny):
    z = zarr.create_array(
        tmp_path / "a.zarr", data=random_image(64, 64, 3), chunks=(32, 32, 3), shards=(64, 64, 3), compressors=None,
        serializer=caecodec.zarr.ConvolutionalAutoencoder(4, weights=tiny),
    )  # fmt: skip
    assert z.shards
    shard = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = shard.read_bytes()
    shard.write_bytes(data[:20])
    with pytest.raises(caecodec.CorruptionError, match="too few for its index"):
        inspect(tmp_path / "a.zarr")
    index = b"\xff" * 8 + data[-60:-4]
    shard.write_bytes(data[:-68] + index + data[-4:])
    with pytest.raises(caecodec.CorruptionError, match="does not match its CRC-32C"):
        inspect(tmp_path / "a.zarr")
    shard.write_bytes(data[:-68] + index + google_crc32c.value(index).to_bytes(4, "little"))
    with pytest.raises(caecodec.CorruptionError, match="its index points beyond them"):
        inspect(tmp_path / "a.zarr")


def test_without_the_extra_ngff(tmp_path, photo):
    """.cae files, decoding and inspecting need core dependencies alone; writing OME-NGFF says what to install."""
    assert main(["encode", str(photo), "-o", str(tmp_path / "a.ome.zarr"), "-q", "1"]) == 0
    commands = [
        ["encode", photo, "-o", tmp_path / "b.cae", "-q", 1],
        ["inspect", tmp_path / "b.cae"],
        ["decode", tmp_path / "b.cae", tmp_path / "a.ome.zarr", "-o", tmp_path / "decoded"],
        ["encode", photo, "-o", tmp_path / "c.ome.zarr", "-q", 1],
    ]
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['ome_zarr', 'dask', 'tqdm', 'tifffile', 'imagecodecs']))\n"
        "from caecodec.cli.main import main\n"
        f"print([main(command) for command in {[list(map(str, command)) for command in commands]!r}])"
    )
    result = processes.run("-c", code)
    assert result.stdout.splitlines()[-1] == "[0, 0, 0, 1]"
    assert "pip install 'caecodec[ngff]'" in result.stderr


def test_inspect_an_array_of_nothing_but_the_fill_value(tmp_path, tiny):
    codec = caecodec.zarr.ConvolutionalAutoencoder(4, weights=tiny)
    zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 40, 3), chunks=(32, 32, 3), dtype="u1", serializer=codec, compressors=None
    )
    (report,) = inspect(tmp_path / "a.zarr")
    assert (report.chunks, report.chunks_missing, report.total_bytes, report.bpp) == (0, 4, 0, 0)
    assert "no chunks stored" in str(report)
