"""The overfitted codec in numcodecs and Zarr, and what inspect tells of its payloads."""

import base64
import json

import numpy as np
import pytest
import zarr
from helpers import processes
from helpers.images import random_image
from helpers.overfitted import fit_by_hand, picture_network
from helpers.surfaces import encode

import caecodec
from caecodec.arrays.inspection import inspect
from caecodec.cli.main import main
from caecodec.codecs.overfitted import codec
from caecodec.codecs.overfitted.architecture import LOP
from caecodec.codecs.overfitted.network import digest
from caecodec.images.metrics import psnr
from caecodec.zarr import OverfittedAutoencoder as Serializer

pytestmark = pytest.mark.usefixtures("by_hand")


def surfaces(**parameters):
    """The options of zarr.create_array in either format."""
    return {
        2: {"zarr_format": 2, "compressors": caecodec.OverfittedAutoencoder(**parameters)},
        3: {"serializer": Serializer(**parameters), "compressors": None},
    }


@pytest.mark.parametrize(
    "options", [*surfaces().values(), {**surfaces()[3], "shards": (128, 128, 3)}], ids=["v2", "v3", "shards"]
)
def test_zarr(tmp_path, photograph, options):
    image = photograph[:200, :300]
    written = zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(64, 64, 3), **options)
    assert "OverfittedAutoencoder(quality=8, preset='fast'" in str(written.info)
    array = zarr.open_array(tmp_path / "a.zarr")
    assert psnr(array[:], image) > 30
    np.testing.assert_array_equal(array[50:70, 60:70], array[:][50:70, 60:70])
    with zarr.config.set({"async.concurrency": 32, "threading.max_workers": 32}):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr")[:], array[:])


def test_both_formats_have_the_same_payloads(photograph):
    stores = {}
    for zarr_format, options in surfaces(decoder="mop").items():
        stores[zarr_format] = {}
        zarr.create_array(stores[zarr_format], data=photograph[:64, :64], chunks=(64, 64, 3), **options)
    payload = encode(photograph[:64, :64], decoder="mop")
    assert stores[2]["0.0.0"].to_bytes() == stores[3]["c/0/0/0"].to_bytes() == payload


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_shared_network_is_in_the_metadata(tmp_path, photograph, sections, zarr_format, capsys):
    options = surfaces(decoder="lop", network=sections[3])[zarr_format]
    zarr.create_array(tmp_path / "a.zarr", data=photograph[:128, :128], chunks=(64, 64, 3), **options)
    document = (tmp_path / "a.zarr" / {2: ".zarray", 3: "zarr.json"}[zarr_format]).read_text()
    assert document.count(base64.b64encode(sections[3]).decode()) == 1
    assert psnr(zarr.open_array(tmp_path / "a.zarr")[:], photograph[:128, :128]) > 30
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0
    assert f"shared, {digest(sections[3]).hex()}" in capsys.readouterr().out


def test_metadata(tmp_path, photograph):
    zarr.create_array(tmp_path / "a.zarr", data=photograph[:64, :64], chunks=(64, 64, 3), **surfaces(lmbda=1e-3, seed=3)[3])
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    configuration = {"lmbda": 1e-3, "preset": "fast", "channel_axis": -1, "tune": "mse", "seed": 3}
    assert document["codecs"] == [{"name": "caecodec.overfitted", "configuration": configuration}]
    assert Serializer.from_dict(document["codecs"][0]) == Serializer(lmbda=1e-3, seed=3)
    with pytest.raises(caecodec.ParameterError, match="dtype is bool"):
        zarr.create_array({}, data=np.ones((9, 9, 3), bool), **surfaces()[3])


def test_out_of_another_shape():
    codec, array = caecodec.OverfittedAutoencoder(), random_image(9, 8, 3)
    out = np.empty((9, 8, 3), np.uint8)
    codec.decode(codec.encode(array), out=out)
    np.testing.assert_array_equal(out, codec.decode(codec.encode(array)))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        codec.decode(codec.encode(array), out=np.empty((8, 9, 3), np.uint8))


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (64, 64, 3))])
def test_inspect_counts_every_byte(tmp_path, zarr_format, shards, capsys):
    array = random_image(90, 70, 3)
    array[:32, :32] = 7
    array[32:64, :32] = 0  # the fill value: not stored
    path = tmp_path / "a.zarr"
    options = {**surfaces(quality=3)[zarr_format], **({"shards": shards} if shards else {})}
    z = zarr.create_array(path, data=array, chunks=(32, 32, 3), **options)
    (report,) = inspect(path)
    assert (report.family, report.decoders, report.format_versions) == ("overfitted", ("lop",), (3, 5))
    assert (report.asked, report.metric, report.shared_network) == ("quality 3, preset fast", "mse", "")
    assert (report.chunks, report.chunks_constant, report.chunks_missing) == (8, 1, 1)
    documents = sum((path / name).stat().st_size for name in ("zarr.json", ".zarray", ".zattrs") if (path / name).exists())
    index = 0 if shards is None else 4 * (4 * 16 + 4)
    assert report.total_bytes == z.nbytes_stored() - documents - index
    assert report.network_bytes == 7 * len(picture_network(LOP, 3).section())
    assert 0 < report.latent_bytes < report.total_bytes - report.network_bytes
    assert main(["inspect", str(path)]) == 0
    assert f"networks {report.network_bytes}, latents {report.latent_bytes}" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["network_bytes"] == report.network_bytes


def test_inspect_chunks_that_could_not_be_fitted(tmp_path, monkeypatch, capsys):
    array = random_image(64, 32, 3)
    fits = iter([None, fit_by_hand])
    monkeypatch.setattr(codec, "_fit", lambda *arguments: (fit := next(fits)) and fit(*arguments))
    with zarr.config.set({"async.concurrency": 1}), pytest.warns(RuntimeWarning, match="stored without loss"):
        z = zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(32, 32, 3), **surfaces()[3])
    (report,) = inspect(tmp_path / "a.zarr")
    sizes = sorted((tmp_path / "a.zarr" / "c" / row / "0" / "0").stat().st_size for row in "01")
    assert (report.chunks, report.chunks_lossless, report.format_versions) == (2, 1, (2, 3))
    assert report.total_bytes == sum(sizes)
    assert report.lossless_bytes in sizes
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0
    assert f"without loss {report.lossless_bytes})" in capsys.readouterr().out
    exact = [np.array_equal(part, whole) for part, whole in zip(np.split(z[:], 2), np.split(array, 2), strict=True)]
    assert sorted(exact) == [False, True]


def test_inspect_a_payload_file(tmp_path):
    path = tmp_path / "a.cae"
    path.write_bytes(encode(random_image(40, 50, 3), decoder="mop"))
    (report,) = inspect(path)
    assert report.total_bytes == path.stat().st_size
    assert (report.decoders, report.shape, report.channel_axis) == (("mop",), (40, 50, 3), 2)
    assert "one for each chunk" in str(report)


def test_decoding_needs_numpy_and_constriction_alone(tmp_path):
    image = random_image(40, 50, 3)
    (tmp_path / "a.cae").write_bytes(encode(image))
    zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(20, 20, 3), **surfaces()[3])
    script = (
        "import sys, caecodec\n"
        f"data = open({str(tmp_path / 'a.cae')!r}, 'rb').read()\n"
        "whole = caecodec.decode(data)\n"
        "heavy = lambda: [m for m in ('torch', 'compressai', 'zarr', 'numcodecs', 'PIL', 'scipy') if m in sys.modules]\n"
        "assert heavy() == [], heavy()\n"
        "caecodec.OverfittedAutoencoder().decode(data)\n"
        "import zarr\n"
        f"zarr.open_array({str(tmp_path / 'a.zarr')!r})[:]\n"
        "assert 'torch' not in sys.modules and 'compressai' not in sys.modules\n"
        "print(whole.sum())"
    )
    assert int(processes.run("-c", script).stdout) == int(caecodec.decode((tmp_path / "a.cae").read_bytes()).sum())
