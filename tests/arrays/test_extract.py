"""Copies with fewer layers: the payloads of their arrays are cut, and all else is as it was."""

import json

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.paths import TINY, TINY_LAYERS

import caecodec
from caecodec.arrays.extract import extract
from caecodec.cli.main import main

CHUNK = 32
SHAPE = (3 * CHUNK - 7, 2 * CHUNK, 3)  # the last shard and the last chunks reach over the edge


@pytest.fixture
def group(tmp_path, tiny):
    """A group with an array in layers, another in shards, one that has no layers, and attributes."""
    group = zarr.create_group(tmp_path / "source.zarr", attributes={"made": "by a test"})
    codec = caecodec.ScalableAutoencoder(weights=TINY_LAYERS)
    options = {"dtype": "uint8", "chunks": (CHUNK, CHUNK, 3), "compressors": None, "shape": SHAPE}
    plain = group.create_array("plain", serializer=codec, **options)
    shards = group.create_array("deep/shards", serializer=codec, shards=(2 * CHUNK, 2 * CHUNK, 3), **options)
    other = group.create_array("other", serializer=caecodec.ConvolutionalAutoencoder(quality=4, weights=TINY), **options)
    for array in (plain, other):
        array[...] = random_image(*SHAPE)
    shards[:CHUNK] = random_image(*SHAPE)[:CHUNK]  # one chunk of two rows is not stored
    return group


@pytest.mark.parametrize("layers", [1, 3])
def test_groups(tmp_path, group, layers):
    found = extract(tmp_path / "source.zarr", tmp_path / "out.zarr", layers)
    copy = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert (found.arrays, found.chunks, found.pixels) == (2, 6 + 2, 2 * SHAPE[0] * SHAPE[1])
    assert dict(copy.attrs) == {"made": "by a test"}
    for name in ("plain", "deep/shards"):
        np.testing.assert_array_equal(copy[name][...], caecodec.read(group[name], layers=layers))
        (report,) = caecodec.inspect(tmp_path / "out.zarr" / name)
        assert report.layers == (layers,)
        assert report.asked == f"{layers} layers"
    np.testing.assert_array_equal(copy["other"][...], group["other"][...])
    reports = [caecodec.inspect(tmp_path / "out.zarr" / name)[0] for name in ("plain", "deep/shards")]
    assert found.bytes_after == sum(report.total_bytes for report in reports)
    assert found.bytes_before == sum(
        caecodec.inspect(tmp_path / "source.zarr" / name)[0].total_bytes for name in ("plain", "deep/shards")
    )
    again = zarr.open_array(tmp_path / "out.zarr" / "plain")  # what is written later has as many layers
    again[:CHUNK] = 255 - random_image(*SHAPE)[:CHUNK]
    assert caecodec.inspect(tmp_path / "out.zarr" / "plain")[0].layers == (layers,)


def test_arrays_of_version_2_and_the_command(tmp_path, capsys):
    codec = caecodec.ScalableAutoencoder(weights=TINY_LAYERS)
    array = zarr.create_array(
        tmp_path / "a.zarr", data=random_image(*SHAPE), chunks=(CHUNK, CHUNK, 3), zarr_format=2, compressors=codec
    )
    assert main(["extract", str(tmp_path / "a.zarr"), "-o", str(tmp_path / "b.zarr"), "--layers", "2"]) == 0
    assert "bytes in 6 chunks of 1 arrays" in capsys.readouterr().out
    copy = zarr.open_array(tmp_path / "b.zarr", mode="r")
    np.testing.assert_array_equal(copy[...], caecodec.read(array, layers=2))
    assert json.loads((tmp_path / "b.zarr" / ".zarray").read_text())["compressor"]["layers"] == 2
    assert main(["extract", str(tmp_path / "b.zarr"), "-o", str(tmp_path / "c.zarr"), "--layers", "3", "--quiet"]) == 0
    assert json.loads((tmp_path / "c.zarr" / ".zarray").read_text())["compressor"]["layers"] == 2
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "c.zarr", mode="r")[...], copy[...])


def test_shard_indices_at_the_start(tmp_path):
    codec = caecodec.zarr.ScalableAutoencoder(weights=TINY_LAYERS)
    sharding = zarr.codecs.ShardingCodec(chunk_shape=(CHUNK, CHUNK, 3), codecs=[codec], index_location="start")
    array = zarr.create_array(
        tmp_path / "a.zarr", data=random_image(*SHAPE), chunks=(2 * CHUNK, 2 * CHUNK, 3), serializer=sharding, compressors=None
    )
    extract(tmp_path / "a.zarr", tmp_path / "b.zarr", 1)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "b.zarr", mode="r")[...], caecodec.read(array, layers=1))


def test_nothing_is_written_that_cannot_be(tmp_path, group):
    source, output = tmp_path / "source.zarr", tmp_path / "out.zarr"
    with pytest.raises(caecodec.ParameterError, match="layers is 0 but must be"):
        extract(source, output, 0)
    with pytest.raises(caecodec.ParameterError, match="holds no array of codec sae"):
        extract(source / "other", output, 1)
    with pytest.raises(caecodec.ParameterError, match="which is the source"):
        extract(source, source, 1, overwrite=True)
    compressed = {"compressors": zarr.codecs.GzipCodec(), "serializer": caecodec.ScalableAutoencoder(weights=TINY_LAYERS)}
    zarr.create_array(tmp_path / "gzip.zarr", data=random_image(*SHAPE), chunks=(CHUNK, CHUNK, 3), **compressed)
    with pytest.raises(caecodec.ParameterError, match="has other codecs too, gzip"):
        extract(tmp_path / "gzip.zarr", output, 1)
    chunk = source / "plain" / "c" / "0" / "0" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[100] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(caecodec.CorruptionError):
        extract(source, output, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gzip.zarr", "source.zarr"]
    output.mkdir()
    with pytest.raises(caecodec.ParameterError, match="exists already"):
        extract(source, output, 1)
