"""What inspect tells of arrays with other codecs, within shards, without chunks, and of arrays that caecodec did not write."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.paths import TINY
from zarr.codecs import BloscCodec, Crc32cCodec, ShardingCodec, TransposeCodec, ZstdCodec

import caecodec
from caecodec.arrays import layers, payloads
from caecodec.arrays.inspection import examine, inspect
from caecodec.cli.main import main
from caecodec.storage.locations import open_node

IMAGE = random_image(64, 96, 3)
CODEC = caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY)
FIRST = caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY, channel_axis=0)
INNER = [TransposeCodec(order=(2, 0, 1)), FIRST, ZstdCodec()]


def create(path, **options):
    layout = {"data": IMAGE, "chunks": (32, 32, 3), "serializer": CODEC, "compressors": None}
    return zarr.create_array(path, **{**layout, **options})


def nested(path, *codecs, index="end"):
    """Shards of 64x96 that hold shards of 64x32 that hold chunks of 32x32."""
    inner = ShardingCodec(chunk_shape=(32, 32, 3), codecs=codecs, index_location=index)
    array = zarr.create(
        store=path, shape=IMAGE.shape, chunks=(64, 96, 3), dtype="uint8", zarr_format=3,
        codecs=[ShardingCodec(chunk_shape=(64, 32, 3), codecs=[inner, Crc32cCodec()])],
    )  # fmt: skip
    array[:] = IMAGE
    return array


OTHERS = {
    "zarr's default": ({"compressors": "auto"}, (), ("zstd",)),
    "two compressors": ({"compressors": [BloscCodec(), Crc32cCodec()]}, (), ("crc32c", "blosc")),
    "in shards": ({"compressors": [Crc32cCodec()], "shards": (64, 96, 3)}, (), ("crc32c",)),
    "a filter": ({"filters": [TransposeCodec(order=(2, 1, 0))], "serializer": FIRST}, ("transpose",), ()),
}


@pytest.mark.parametrize(("options", "filters", "compressors"), OTHERS.values(), ids=OTHERS)
def test_other_codecs_are_read_through_and_named(tmp_path, options, filters, compressors):
    """Payloads, and bits per pixel, are those of the same array without the other codecs."""
    array, alone = create(tmp_path / "a.zarr", **options), create(tmp_path / "alone.zarr")
    (report,), (expected,) = inspect(tmp_path / "a.zarr"), inspect(tmp_path / "alone.zarr")
    assert set(report.filters) == set(filters)
    assert report.compressors == compressors[::-1]
    assert (report.chunks, report.chunks_missing, report.channels) == (6, 0, 3)
    if not filters:
        assert sorted(payloads.payloads(array)) == sorted(payloads.payloads(alone))
        assert report.total_bytes == expected.total_bytes
    assert report.bpp == pytest.approx(8 * report.total_bytes / (64 * 96))
    for name in (*filters, *compressors):
        assert name in str(report).split("other codecs")[1]
    assert "other codecs" not in str(expected)


def test_a_codec_among_the_filters_of_zarr_v2(tmp_path):
    import numcodecs

    codec = caecodec.ConvolutionalAutoencoder(4, weights=TINY)
    options = {"data": IMAGE, "chunks": (32, 32, 3), "zarr_format": 2}
    array = zarr.create_array(tmp_path / "a.zarr", filters=[codec], compressors=numcodecs.Zstd(), **options)
    alone = zarr.create_array(tmp_path / "alone.zarr", compressors=codec, **options)
    assert set(payloads.payloads(array)) == set(payloads.payloads(alone))
    assert inspect(tmp_path / "a.zarr")[0].compressors == ("zstd",)


@pytest.mark.parametrize("index", ["start", "end"])
def test_shards_within_shards(tmp_path, index):
    array = nested(tmp_path / "a.zarr", *INNER, index=index)
    (report,) = inspect(tmp_path / "a.zarr")
    assert (report.chunks, report.chunks_missing, report.chunk_shape) == (6, 0, (32, 32, 3))
    assert (report.filters, report.compressors) == (("transpose",), ("zstd", "crc32c"))
    assert layers.names(array) == [
        "sharding_indexed", "sharding_indexed", "transpose", "caecodec.cae", "zstd", "crc32c",
    ]  # fmt: skip
    tiles = [IMAGE[y : y + 32, x : x + 32].transpose(2, 0, 1) for y in (0, 32) for x in (0, 32, 64)]
    expected = [caecodec.encode(tile, 4, weights=TINY, channel_axis=0) for tile in tiles]
    assert sorted(map(len, payloads.payloads(array))) == sorted(map(len, expected))
    with pytest.raises(caecodec.ParameterError, match="other codecs too, crc32c, transpose, zstd"):
        payloads.fetch(array, [(0, 0, 0)])
    with pytest.raises(caecodec.ParameterError, match="shards within shards"):
        payloads.fetch(zarr.create(
            store={}, shape=(64, 96, 3), chunks=(64, 96, 3), dtype="uint8", zarr_format=3,
            codecs=[ShardingCodec(chunk_shape=(64, 32, 3), codecs=[ShardingCodec(chunk_shape=(32, 32, 3), codecs=[CODEC])])],
        ), [(0, 0, 0)])  # fmt: skip


def test_damage_below_another_codec(tmp_path):
    create(tmp_path / "a.zarr", compressors=[Crc32cCodec()])
    chunk = tmp_path / "a.zarr" / "c" / "0" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9] + bytes(9))
    with pytest.raises(caecodec.CorruptionError, match=r"a\.zarr: chunk c/0/1/0 cannot be decoded by crc32c"):
        inspect(tmp_path / "a.zarr")


def test_zipped_groups(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("x", data=IMAGE, chunks=(32, 32, 3), serializer=CODEC, compressors=None)
    for suffix in ("zip", "ozx"):
        with zipfile.ZipFile(tmp_path / f"a.{suffix}", "w") as file:
            for path in sorted((tmp_path / "a.zarr").rglob("*")):
                file.write(path, path.relative_to(tmp_path / "a.zarr"))
        (report,) = inspect(tmp_path / f"a.{suffix}")
        assert report.chunks == 6
        assert report.path == f"{tmp_path / 'a.'}{suffix}/x"


def test_files_that_a_file_manager_left(tmp_path):
    create(tmp_path / "a.zarr")
    for name in (".DS_Store", "c/0/._0"):
        (tmp_path / "a.zarr" / name).write_bytes(b"Mac OS X")
    assert inspect(tmp_path / "a.zarr")[0].chunks == 6


@pytest.mark.parametrize("options", [{}, {"shards": (64, 64, 3)}, {"zarr_format": 2}])
def test_an_axis_of_length_zero(tmp_path, options, capsys):
    codec = {"serializer": CODEC} if "zarr_format" not in options else {}
    compressors = None if codec else caecodec.ConvolutionalAutoencoder(4, weights=TINY)
    layout = {"shape": (0, 40, 3), "dtype": "uint8", "chunks": (32, 32, 3), "compressors": compressors}
    zarr.create_array(tmp_path / "a.zarr", **layout, **codec, **options)
    assert main(["inspect", str(tmp_path / "a.zarr"), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert (document["chunks"], document["chunks_missing"], document["bpp"], document["ratio"]) == (0, 0, 0, 0)


# Did the codec arrive?


def image_group(path, codecs):
    """A group of an image whose levels have these codecs, and of labels."""
    group = zarr.create_group(path)
    datasets = [{"path": f"s{i}"} for i in range(len(codecs))]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [{"name": name} for name in "yxc"], "datasets": datasets}]}
    for i, codec in enumerate(codecs):
        how = {"serializer": codec, "compressors": None} if codec else {}
        group.create_array(f"s{i}", data=IMAGE, chunks=(32, 32, 3), **how)
    labels = group.create_group("labels/nuclei")
    labels.attrs["ome"] = {"version": "0.5", "image-label": {}, "multiscales": [{"datasets": [{"path": "s0"}]}]}
    labels.create_array("s0", data=np.zeros((64, 96), np.uint32), chunks=(32, 32))
    return group


def test_arrays_of_other_codecs_are_named(tmp_path, capsys):
    image_group(tmp_path / "a.zarr", [CODEC, None])
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'a.zarr'}/s1 is coded by bytes, zstd" in out
    assert "labels/nuclei/s0 is coded by bytes, zstd" in out
    assert [report.path[-2:] for report in inspect(tmp_path / "a.zarr")] == ["s0"]


@pytest.mark.parametrize(("codecs", "expect", "wrong"), [
    ([CODEC, CODEC], "cae", []), ([CODEC, CODEC], "any", []), ([CODEC, CODEC], "overfitted", ["s0", "s1"]),
    ([CODEC, None], "any", ["s1"]), ([None, None], "cae", ["s0", "s1"]),
])  # fmt: skip
def test_the_caller_expects_a_codec(tmp_path, codecs, expect, wrong, capsys):
    """Of an image its levels, and not its labels; the status and the lines on the error stream say which are wrong."""
    image_group(tmp_path / "a.zarr", codecs)
    assert main(["inspect", str(tmp_path / "a.zarr"), "--expect", expect]) == bool(wrong)
    lines = capsys.readouterr().err.splitlines()
    by = "caecodec" if expect == "any" else expect
    assert [line.partition(" is coded by ")[0].rpartition("/")[2] for line in lines] == wrong
    assert all(line.endswith(f", not by {by}") for line in lines)
    if wrong:
        with pytest.raises(caecodec.ParameterError, match=f"s{2 - len(wrong)} is coded by .*, not by {by}"):
            inspect(tmp_path / "a.zarr", expect=expect)


def test_the_caller_expects_a_codec_of_arrays_and_files(tmp_path):
    create(tmp_path / "g.zarr" / "x")
    zarr.open_group(tmp_path / "g.zarr", mode="a").create_array("y", data=IMAGE)
    assert len(inspect(tmp_path / "g.zarr" / "x", expect="cae")) == 1
    assert len(examine(tmp_path / "g.zarr", "cae").strays) == 1
    (tmp_path / "a.cae").write_bytes(caecodec.encode(IMAGE, 4, weights=TINY))
    assert len(inspect(tmp_path / "a.cae", expect="any")) == 1
    with pytest.raises(caecodec.ParameterError, match="is coded by cae, not by overfitted"):
        inspect(tmp_path / "a.cae", expect="overfitted")
    with pytest.raises(caecodec.ParameterError, match="expect is 'jpeg' but must be any or one of cae, overfitted"):
        inspect(tmp_path / "a.cae", expect="jpeg")


def test_metadata_of_the_group_say_that_it_was_caecodec(tmp_path, capsys):
    """A note of a conversion, or weights that the group carries."""
    group = image_group(tmp_path / "a.zarr", [CODEC, None])
    group.attrs["caecodec_conversion"] = {"codec": "cae", "quality": 4}
    with pytest.warns(UserWarning, match="s1 is coded by bytes, zstd, not by caecodec, although .* says codec cae"):
        assert len(inspect(tmp_path / "a.zarr")) == 1
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 1
    assert "/s1 is coded by" in capsys.readouterr().err
    group.attrs["caecodec_conversion"] = {"codec": "blosc"}
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0

    group = image_group(tmp_path / "b.zarr", [None])
    group.create_group("caecodec_weights")
    assert main(["inspect", str(tmp_path / "b.zarr")]) == 1
    assert "although its group carries weights in caecodec_weights" in capsys.readouterr().err
    with pytest.raises(caecodec.ParameterError, match="s0 is coded by bytes, zstd, not by caecodec"):
        inspect(tmp_path / "b.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("claims", ["ours", "others"])
def test_consolidated_metadata_that_are_stale(tmp_path, zarr_format, claims, capsys):
    """What codes an array is in its own document; consolidated metadata that say something else are named."""
    ours = {"compressors": caecodec.ConvolutionalAutoencoder(4, weights=TINY)} if zarr_format == 2 else {
        "serializer": CODEC, "compressors": None,
    }  # fmt: skip
    before, after = (ours, {}) if claims == "ours" else ({}, ours)
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=zarr_format)
    group.create_array("x", data=IMAGE, chunks=(32, 32, 3), **before)
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    own = zarr.open_group(tmp_path / "a.zarr", mode="a", use_consolidated=False)
    own.create_array("x", data=IMAGE, chunks=(32, 32, 3), overwrite=True, **after)
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 1
    output = capsys.readouterr()
    assert ("cae, quality 4" in output.out) == (claims == "others")
    assert "consolidated metadata above it say" in output.err
    assert "zarr.consolidate_metadata" in output.err
    if claims == "others":
        zarr.consolidate_metadata(tmp_path / "a.zarr")
        assert main(["inspect", str(tmp_path / "a.zarr"), "--expect", "cae"]) == 0


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_that_miss_something(tmp_path, zarr_format, capsys):
    """Arrays that were made, and rows that were appended, after they were written: who reads through them gets neither."""
    ours = {"compressors": caecodec.ConvolutionalAutoencoder(4, weights=TINY)} if zarr_format == 2 else {
        "serializer": CODEC, "compressors": None,
    }  # fmt: skip
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=zarr_format)
    group.create_array("x", data=IMAGE, chunks=(32, 32, 3), **ours)
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    own = zarr.open_group(tmp_path / "a.zarr", mode="a", use_consolidated=False)
    own.create_array("y", data=IMAGE, chunks=(32, 32, 3))
    own["x"].resize((128, 96, 3))
    assert main(["inspect", str(tmp_path / "a.zarr"), "--expect", "any"]) == 1
    assert "y is coded by" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "x is coded by cae, but consolidated metadata above it say that it has shape (64, 96, 3)" in first
    assert "y is coded by" in second
    assert "but consolidated metadata above it say that it is not there" in second
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    assert main(["inspect", str(tmp_path / "a.zarr"), "--expect", "cae"]) == 1
    assert "y is coded by" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0


def test_consolidated_metadata_of_what_is_not_there(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("x", data=IMAGE, chunks=(32, 32, 3), serializer=CODEC, compressors=None)
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr" / "x")
    with pytest.raises(caecodec.ParameterError, match=r"a\.zarr/x is named by consolidated metadata but is not there"):
        inspect(tmp_path / "a.zarr")


@pytest.mark.parametrize("shards", [None, (64, 64, 3)])
def test_a_damaged_chunk_is_named(tmp_path, capsys, shards):
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("x", data=IMAGE, chunks=(32, 32, 3), shards=shards, serializer=CODEC, compressors=None)
    chunk = tmp_path / "g.zarr" / "x" / "c" / "0" / ("0" if shards else "1") / "0"
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(data)
    assert main(["inspect", str(tmp_path / "g.zarr")]) == 1
    where = "shard x/c/0/0/0" if shards else "chunk x/c/0/1/0"
    assert f"{tmp_path / 'g.zarr'}/x: {where}: payload of" in capsys.readouterr().err


def test_chunks_that_are_no_payloads(tmp_path, capsys):
    """Metadata that name caecodec above chunks of another writer; other arrays are reported all the same."""
    create(tmp_path / "g.zarr" / "a", compressors=None)
    create(tmp_path / "g.zarr" / "b", serializer="auto")
    zarr.open_group(tmp_path / "g.zarr", mode="a")
    document = (tmp_path / "g.zarr" / "a" / "zarr.json").read_text()
    (tmp_path / "g.zarr" / "b" / "zarr.json").write_text(document)
    assert main(["inspect", str(tmp_path / "g.zarr")]) == 1
    output = capsys.readouterr()
    assert f"{tmp_path / 'g.zarr'}/a\n" in output.out
    assert "/b: chunk b/c/0/0/0: payload starts with" in output.err
    assert "not written by caecodec, or is damaged" in output.err
    assert isinstance(open_node(tmp_path / "g.zarr" / "b"), zarr.Array)
