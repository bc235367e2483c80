"""Zipped groups of OME-NGFF (.ozx, RFC-9): how they are laid out, and that they are read wherever groups are."""

import json
import zipfile

import numpy as np
import pytest
import zarr
from helpers.conversions import OPTIONS as OVERFITTED
from helpers.networks import save_seeded
from helpers.stacks import stack
from helpers.validators import opened
from PIL import Image as PillowImage
from zarr.storage import ZipStore

import caecodec
from caecodec.cli.main import main
from caecodec.ngff import Image, Options, decode_paths, encode_paths, read_group, write_group

PIXELS = stack(2, 40, 50)


@pytest.fixture
def ozx(tmp_path):
    """A zipped group of a stack, written from a group in a folder by the command."""
    write_group(tmp_path / "cells.ome.zarr", Image(PIXELS, "cyx", labels=("DAPI", "GFP")), "cells", Options(codec="none"))
    command = ["encode", str(tmp_path / "cells.ome.zarr"), "-o", str(tmp_path / "cells.ozx"), "--max-error", "0"]
    assert main([*command, "--chunk-size", "16", "--shard-size", "32", "--quiet"]) == 0
    return tmp_path / "cells.ozx"


def test_the_layout_is_that_of_rfc_9(ozx, tmp_path):
    """Documents first, from the root on; nothing compressed; 64-bit sizes; a comment that says so; always the same bytes."""
    with zipfile.ZipFile(ozx) as file:
        entries = sorted(file.infolist(), key=lambda entry: entry.header_offset)
        assert [entry.filename for entry in entries] == file.namelist()
        documents = [name for name in file.namelist() if name.endswith("zarr.json")]
        assert file.namelist()[: len(documents)] == documents
        assert documents == ["zarr.json", "s0/zarr.json"]
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert json.loads(file.comment) == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        assert file.testzip() is None
    content = ozx.read_bytes()
    assert content[18:26] == b"\xff" * 8  # the sizes of the first entry are where ZIP64 has them
    again = tmp_path / "again.ozx"
    encode_paths([tmp_path / "cells.ome.zarr"], again, Options(max_error=0, chunk_size=16, shard_size=32))
    assert again.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"cells.ome.zarr", "cells.ozx", "again.ozx"}


def test_it_is_read_wherever_groups_are(ozx, tmp_path, capsys):
    image = read_group(ozx)
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert image.labels == ("DAPI", "GFP")
    with ZipStore(ozx, mode="r") as store:
        np.testing.assert_array_equal(zarr.open_group(store, mode="r")["s0"][:], PIXELS)
    assert main(["inspect", str(ozx), "--expect", "cae"]) == 0
    assert "cells.ozx/s0" in capsys.readouterr().out
    written, failed = decode_paths([tmp_path], tmp_path / "out", ".tif")
    assert sorted(path.name for path in written) == ["cells.tif"]
    assert "same name" in str(failed[0].error)  # cells.ome.zarr beside it
    written, failed = encode_paths([ozx], tmp_path / "back.zarr", Options(codec="blosc", ngff="0.6"))
    assert (len(written), failed) == (1, [])
    np.testing.assert_array_equal(read_group(tmp_path / "back.zarr").pixels, PIXELS)
    np.testing.assert_array_equal(opened(tmp_path / "back.zarr")[0].compute(), PIXELS)


def test_members_that_cannot_be_read(ozx, tmp_path, capsys):
    """A flipped bit of a chunk, an encrypted chunk, an encrypted document: a line that names the file, from every command."""
    whole = ozx.read_bytes()
    chunk, document, entry = whole.rindex(b"PK\3\4") + 200, whole.index(b"PK\1\2") + 8, whole.rindex(b"PK\1\2") + 8
    for place, value in ((chunk, whole[chunk] ^ 255), (entry, whole[entry] | 1), (document, whole[document] | 1)):
        ozx.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        for command in (["inspect"], ["decode", "-o", str(tmp_path / "a.tif")], ["encode", "-o", str(tmp_path / "a.zarr")]):
            assert main([*command, str(ozx)]) == 1
            error = capsys.readouterr().err
            assert "cells.ozx" in error or "array 's0' cannot be read" in error
            assert "CRC-32" in error or "encrypted" in error
    ozx.write_bytes(whole)
    np.testing.assert_array_equal(read_group(ozx.rename(tmp_path / "CELLS.OZX")).pixels, PIXELS)
    assert [path.name for path in decode_paths([tmp_path], tmp_path / "out", ".tif")[0]] == ["CELLS.tif", "cells.tif"]


def test_a_folder_of_images(tmp_path, photograph):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        PillowImage.fromarray(photograph[:40, :50]).save(tmp_path / "in" / f"{name}.png")
    command = ["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--codec", "blosc", "--zipped", "--ngff", "0.6"]
    assert main([*command, "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ozx", "b.ozx"]
    with zipfile.ZipFile(tmp_path / "out" / "a.ozx") as file:
        assert json.loads(file.comment)["ome"]["version"] == "0.6"
    np.testing.assert_array_equal(read_group(tmp_path / "out" / "b.ozx").picture(), photograph[:40, :50])
    assert main([*command, "--quiet"]) == 1
    assert main([*command, "--quiet", "--overwrite"]) == 0


def test_weights_that_it_carries(tmp_path, monkeypatch):
    source = save_seeded(tmp_path / "mine.safetensors", seed=3)
    write_group(tmp_path / "a.zarr", Image(np.uint8(PIXELS[:, :32, :32] >> 8), "cyx"), "a", Options(codec="none"))
    options = Options(quality=4, weights=str(source.location), chunk_size=16)
    _, failed = encode_paths([tmp_path / "a.zarr"], tmp_path / "a.ozx", options)
    assert not failed
    (tmp_path / "mine.safetensors").unlink()
    monkeypatch.delenv("CAECODEC_WEIGHTS", raising=False)
    assert read_group(tmp_path / "a.ozx").pixels.shape == (2, 32, 32)
    (installed,) = caecodec.weights.install(tmp_path / "a.ozx")
    assert installed.sha256 == source.sha256


@pytest.mark.parametrize(("output", "options", "match"), [
    ("a.ozx", {"ngff": "0.4"}, "zipped groups need Zarr v3"), ("a.ozx", {"resume": True}, "leave resume or zipped"),
    ("a.zarr", {"zipped": True}, "a folder but zipped groups are files"), ("a.cae", {"zipped": True}, "zipped is for groups"),
])  # fmt: skip
def test_choices_that_do_not_fit(tmp_path, output, options, match):
    write_group(tmp_path / "in.zarr", Image(PIXELS, "cyx"), "in", Options(codec="none"))
    with pytest.raises(caecodec.ParameterError, match=match):
        encode_paths([tmp_path / "in.zarr"], tmp_path / output, Options(**options))


def test_videos_and_zip_files_that_are_no_groups(tmp_path, by_hand):
    np.zeros(96, np.uint8).tofile(tmp_path / "film_8x8.yuv")
    _, failed = encode_paths([tmp_path / "film_8x8.yuv"], tmp_path / "film.ozx", OVERFITTED)
    assert "is a video, whose group is not the OME-NGFF image that .ozx holds" in str(failed[0].error)
    with zipfile.ZipFile(tmp_path / "deep.ozx", "w") as file:
        file.writestr("cells/zarr.json", "{}")
    (tmp_path / "none.ozx").write_bytes(b"PK not a zip file")
    for name, problem in (("deep.ozx", "must be at the top level"), ("none.ozx", "is not a Zarr group")):
        _, failed = decode_paths([tmp_path / name], tmp_path / "out.png")
        assert problem in str(failed[0].error)
    assert {path.name for path in tmp_path.iterdir()} == {"film_8x8.yuv", "deep.ozx", "none.ozx"}
