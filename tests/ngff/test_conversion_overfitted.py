"""caecodec encode --codec overfitted: groups and files, shared networks."""

import sys

import numpy as np
import pytest
import tifffile
import zarr
from helpers.conversions import OPTIONS, QUICK, convert, network_of
from PIL import Image

import caecodec
from caecodec.arrays import payloads
from caecodec.arrays.inspection import inspect
from caecodec.bitstream.overfitted import OWN_NETWORK, SHARED_NETWORK
from caecodec.cli.main import main
from caecodec.codecs.decoding import parse_payload
from caecodec.images.metrics import psnr
from caecodec.ngff import Options, decode_paths, encode_paths, levels, read_group


def pixels(path):
    return np.asarray(Image.open(path))


def stored(group, path="s0"):
    """The payloads of an array, parsed."""
    return [parse_payload(data) for data in payloads.payloads(zarr.open_group(str(group), mode="r")[path])]


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.5", None), ("0.5", 64), ("0.4", None)])
def test_a_photograph_and_back(tmp_path, photo, by_hand, ngff, shard_size):
    target = convert(photo, tmp_path / "a.ome.zarr", Options(**QUICK, ngff=ngff, shard_size=shard_size, seed=3))
    (report, smaller) = inspect(target)
    assert (report.family, report.chunks, report.shape, smaller.shape) == ("overfitted", 2, (3, 32, 50), (3, 16, 25))
    assert report.asked == "quality 3, preset instant"
    codec = payloads.coded_by(zarr.open_group(str(target), mode="r")["s0"])[1]
    assert (codec.channel_axis, codec.seed, codec.network) == (-3, 3, None)
    written, failed = decode_paths([target], tmp_path / "back.png")
    assert not failed
    assert psnr(pixels(written[0]), pixels(photo)) > 22


def test_a_payload_file(tmp_path, photo):
    states = []
    target = convert(photo, tmp_path / "a.cae", tell=states.append)
    payload = parse_payload(target.read_bytes())
    assert (payload.header.family, payload.header.body) == ("overfitted", OWN_NETWORK)
    assert (states[-1].done, states[-1].chunks) == (1, 1)
    decode_paths([target], tmp_path / "a.png")
    assert psnr(pixels(tmp_path / "a.png"), pixels(photo)) > 22
    for name, options in (("shared", Options(**QUICK, shared=True)), ("resume", Options(**QUICK, resume=True))):
        with pytest.raises(caecodec.ParameterError, match=f"{name} is for groups of chunks"):
            encode_paths([photo], tmp_path / "b.cae", options)


def test_a_stack(tmp_path, photograph, by_hand):
    """Each plane in a chunk of its own, and its own range."""
    stack = photograph[60:92, 180:212, :2].transpose(2, 0, 1).astype(np.uint16) * np.array([5, 100], np.uint16)[:, None, None]
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    target = convert(tmp_path / "a.ome.tif", tmp_path / "a.zarr")
    decoded = read_group(target).pixels
    for plane, original, factor in zip(decoded, stack, (5, 100), strict=True):
        assert psnr((original // factor).astype(np.uint8), plane / factor) > 22


def test_a_group_coded_anew(tmp_path, photo, by_hand):
    source = convert(photo, tmp_path / "a.zarr", Options(codec="blosc", chunk_size=16, ngff="0.4"))
    group = zarr.open_group(str(source), mode="r+")
    group.create_array("tables/areas", data=np.arange(10))
    target = convert(source, tmp_path / "b.zarr", OPTIONS)
    again = zarr.open_group(str(target), mode="r")
    np.testing.assert_array_equal(again["tables/areas"][...], np.arange(10))
    assert [report.family for report in inspect(target)] == ["overfitted"] * 3
    assert psnr(read_group(target).picture(), pixels(photo)) > 22


@pytest.mark.parametrize(("changes", "match"), [
    ({"metric": "mse"}, "metric is 'mse' but codec is 'overfitted', which has no metric: leave it out, or use codec 'cae'"),
    ({"weights": "default"}, "weights is"), ({"entropy": "static"}, "entropy is"), ({"max_error": 0}, "max_error is 0"),
    ({"psnr": 30.0}, "psnr is 30"), ({"bpp": 1.0}, "bpp is 1"), ({"lmbda": 0.1}, "quality and lmbda"),
    ({"preset": "none"}, "preset is 'none'"), ({"decoder": "big"}, "decoder"),
    ({"codec": "cae"}, "preset is 'instant' but codec is 'cae', which has no preset: leave it out, or use codec 'overfitted'"),
    ({"codec": "cae", "preset": None, "seed": 0}, "seed is 0"), ({"codec": "cae", "preset": None, "lmbda": 1}, "lmbda is 1"),
    ({"codec": "blosc", "preset": None}, "quality is 3 but codec is 'blosc'"),
    ({"codec": "cae", "preset": None, "shared": True}, "shared is True"), ({"depth": 9}, "depth is 9"),
])  # fmt: skip
def test_options_of_other_codecs(changes, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        Options(**{**QUICK, **changes})


@pytest.mark.parametrize(("ngff", "shard_size"), [("0.5", 64), pytest.param("0.4", None, marks=pytest.mark.slow)])
def test_shared_networks(tmp_path, photo, short_fit, ngff, shard_size):
    """One for each array, stored once; chunks at the edge share it too."""
    target = convert(photo, tmp_path / "a.zarr", Options(**QUICK, shared=True, ngff=ngff, shard_size=shard_size))
    reports = inspect(target)
    assert [report.network_bytes for report in reports] == [0, 0]
    assert len({report.shared_network for report in reports} - {""}) == 2
    assert [payload.header.body for payload in stored(target)] == [SHARED_NETWORK] * 2
    assert network_of(target)
    assert psnr(read_group(target).picture(), pixels(photo)) > 22


def test_a_sample():
    """Of whole chunks spread over the array, filled up at the edge; none of one value."""
    values = np.zeros((40, 100), np.uint8)
    assert levels.sample(values, (10, 10)) == []
    values[35:, 97:] = 1
    (chunk,) = levels.sample(values, (16, 16))
    assert chunk.shape == (16, 16)
    assert chunk.sum() == (16 - 3) * (16 - 1)
    numbers = np.arange(1000, dtype=np.uint16).repeat(16).reshape(1000, 16)
    numbers[:, 0] = 0
    chosen = sorted(chunk[0, 1] for chunk in levels.sample(numbers, (1, 16)))
    assert len(chosen) == levels.SAMPLE
    assert max(np.diff([0, *chosen, 1000])) < 3 * 1000 / levels.SAMPLE


def test_nothing_to_share(tmp_path):
    """A picture of one colour needs no network."""
    Image.new("RGB", (32, 32), (9, 8, 7)).save(tmp_path / "plain.png")
    target = convert(tmp_path / "plain.png", tmp_path / "a.zarr", Options(**QUICK, shared=True))
    assert inspect(target)[0].chunks_constant == 1
    assert (read_group(target).picture() == (9, 8, 7)).all()


def test_how_far_it_is(tmp_path, photo, short_fit):
    states = []
    convert(photo, tmp_path / "a.zarr", tell=states.append)
    assert states[0].chunks == states[-1].chunks == states[-1].done == 3
    assert [state.done for state in states] == sorted(state.done for state in states)
    assert 10 < states[-1].psnr < 50  # of all attempts, of which some may fail
    assert 0 < states[-1].bpp < 5


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar(tmp_path, photo, capsys, monkeypatch, request, quiet):
    request.getfixturevalue("by_hand" if quiet else "short_fit")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    command = ["encode", str(photo), "-o", str(tmp_path / "a.zarr"), "--codec", "overfitted", "--preset", "instant", "-q", "2"]
    assert main([*command, "--chunk-size", "32", *(["--quiet"] if quiet else [])]) == 0
    said = capsys.readouterr().err
    assert ("3/3" in said and "dB" in said and "file" in said) is not quiet
