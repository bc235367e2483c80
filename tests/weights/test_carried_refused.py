"""Carried weights that are damaged, hostile or not what they should be."""

import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
import zarr
from helpers.carried import DIGEST, KEY, PLACE, SMALL, converted, document, edit, exchange, file_in, is_carried, set_attributes
from helpers.networks import save_seeded
from helpers.paths import TINY

import caecodec
from caecodec import engine, weights
from caecodec.ngff import read_group

pytestmark = pytest.mark.usefixtures("user")


def refused(group, user, match):
    """Neither decoding nor installing takes it, and nothing is written."""
    engine.engine.renew()
    for function in (read_group, weights.install):
        with pytest.raises(caecodec.WeightsError, match=match):
            function(group)
    assert not user.exists()


def test_damaged_bytes(newer, user):
    data = bytearray(TINY.read_bytes())
    data[-1] ^= 1
    file_in(newer).write_bytes(data)
    refused(newer, user, f"has SHA-256 [0-9a-f]* but must have {DIGEST}")


@pytest.mark.parametrize(("change", "match"), [
    (lambda path: path.unlink(), "not complete: its chunk is missing"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not complete: its chunk has"),
    (lambda path: path.write_bytes(b""), "not complete: its chunk has 0 bytes"),
])  # fmt: skip
def test_chunks_that_are_not_whole(group, user, change, match):
    change(file_in(group))
    refused(group, user, match)


def test_no_more_is_read_than_there_should_be(newer):
    with file_in(newer).open("ab") as file:
        file.truncate(2**40)
    assert read_group(newer).pixels.shape == (3, 48, 60)


@pytest.mark.parametrize("sha256", [None, 5, "", "../../../etc", KEY, "0" * 64, DIGEST.upper()])
def test_digests_that_cannot_be(newer, user, sha256):
    set_attributes(newer / PLACE, sha256=sha256)
    refused(newer, user, "in its attributes but must have one that starts with")


def test_a_digest_that_is_another(newer, user):
    set_attributes(newer / PLACE, sha256=KEY + "0" * 56)
    refused(newer, user, "but must have")


@pytest.mark.parametrize("shape", [[0], [2**28 + 1], [2**50]])
def test_declared_sizes(group, user, shape):
    path, _ = document(group)
    chunks = {"chunks": [max(1, *shape)]}
    if path.name == "zarr.json":
        chunks = {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, *shape)]}}}
    edit(path, shape=shape, **chunks)
    refused(group, user, "bytes but a weights file has|not complete|but weights must be uint8")


@pytest.mark.parametrize("how", [
    {"dtype": "uint16"}, {"dtype": "int8"}, {"shape": (10, 10), "chunks": (10, 10)}, {"chunks": (10,)},
    {"compressors": "auto"}, {"shape": (), "chunks": ()},
])  # fmt: skip
def test_arrays_of_another_kind(group, user, how):
    holder = zarr.open_group(str(group / "caecodec_weights"), mode="r+")
    layout = {"shape": (100,), "chunks": (100,), "dtype": "uint8", "filters": None, "compressors": None, "fill_value": 0, **how}
    array = holder.create_array(KEY, overwrite=True, **layout)
    array.attrs["sha256"] = DIGEST
    array[...] = 1
    refused(group, user, "but weights must be uint8 of one dimension, in one chunk and without codecs")


def test_a_group_in_the_place_of_the_array(newer, user):
    shutil.rmtree(newer / PLACE)
    zarr.open_group(str(newer / "caecodec_weights"), mode="r+").create_group(KEY)
    refused(newer, user, "cannot be opened as a Zarr array")


def test_an_array_in_the_place_of_the_group(newer, user):
    shutil.rmtree(newer / "caecodec_weights")
    zarr.open_group(str(newer), mode="r+").create_array("caecodec_weights", shape=(3,), dtype="uint8")
    with pytest.raises(caecodec.WeightsError, match="is an array but must be a group"):
        weights.install(newer)
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)


def test_metadata_that_are_none(group, user):
    document(group)[0].write_text('{"zarr_format": 9, "shape": "x"}')
    refused(group, user, "cannot be opened as a Zarr array|damaged")


@pytest.mark.parametrize("digests", [
    None, "abc", 7, ["../../../../etc/passwd"], ["/etc/passwd"], [3], [KEY.upper()], [KEY] * 65, ["."],
])  # fmt: skip
def test_lists_of_digests(newer, user, digests):
    set_attributes(newer / "caecodec_weights", digests=digests)
    with pytest.raises(caecodec.WeightsError, match="its attribute 'digests'"):
        weights.install(newer)
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)
    assert not user.exists()


@pytest.mark.parametrize("what", ["pickle", "checkpoint", "text", "picture", "truncated", "empty header"])
def test_files_of_another_kind(newer, user, what, tmp_path):
    """Their digest is right, but they are no weights."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    data, match = {
        "pickle": (pickle.dumps({"a": 1}), "but a pickle or a PyTorch checkpoint, which can run code"),
        "checkpoint": ((tmp_path / "x.pth").read_bytes(), "but a pickle or a PyTorch checkpoint, which can run code"),
        "picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 10_000, "is not a caecodec weights file"),
        "text": (b"a text, and no weights", "is not a caecodec weights file"),
        "truncated": (TINY.read_bytes()[:-200], "is damaged"),
        "empty header": (b"\2" + bytes(7) + b"{}", "is not a caecodec weights file"),
    }[what]
    exchange(newer, data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    for source in (newer, path):
        with pytest.raises(caecodec.WeightsError, match=match) as raised:
            weights.install(source)
        assert len(str(raised.value)) < 600
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)
    assert not user.exists()


def test_checkpoints_are_not_installed(tmp_path, user):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(caecodec.WeightsError, match="caecodec export .*x.pth -o NAME.safetensors"):
        weights.install(tmp_path / "x.pth")
    assert not user.exists()


def test_a_network_that_does_not_load_is_not_installed(tmp_path, user):
    import safetensors.numpy

    with safetensors.safe_open(TINY, "np") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(TINY)
    del tensors["q1.static.mass"]
    (tmp_path / "x.safetensors").write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
    with pytest.raises(caecodec.WeightsError, match="lacks or garbles quality 1"):
        weights.install(tmp_path / "x.safetensors")
    assert not user.exists()


def test_all_or_none_of_a_group_is_installed(newer, user, tmp_path):
    other = save_seeded(tmp_path / "other.safetensors", seed=3)
    weights.carry(zarr.open_group(str(newer), mode="r+"), [other])
    assert is_carried(newer) == sorted([KEY, other.sha256[:8]])
    file_in(newer).write_bytes(b"\1" * TINY.stat().st_size)
    with pytest.raises(caecodec.WeightsError, match="but must have"):
        weights.install(newer)
    assert not user.exists()


def test_a_damaged_file_that_is_not_needed_harms_nobody(newer):
    weights.install(newer)
    file_in(newer).write_bytes(b"\1" * TINY.stat().st_size)
    assert read_group(newer).pixels.shape == (3, 48, 60)


def test_digests_that_start_alike_are_refused(tmp_path, user, monkeypatch):
    """Payloads could not tell them apart. Two such files cannot be made here, so a manifest claims that there is one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    entry = {"name": "x", "family": "cae", "metric": "mse", "qualities": [4], "sha256": KEY + "0" * 56, "file": "x.safetensors"}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": [entry]}))
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(folder))
    with pytest.raises(caecodec.WeightsError, match="which starts like that of x@"):
        weights.install(TINY)
    assert not user.exists()


def test_a_group_that_carries_none(tmp_path, picture):
    converted(picture, tmp_path / "a.zarr", replace(SMALL, with_weights=False))
    with pytest.raises(caecodec.WeightsError, match="carries no weights; encode with --with-weights"):
        weights.install(tmp_path / "a.zarr")
