"""The overfitted codec in whole: arrays, payloads, numcodecs and Zarr."""

import base64
import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from helpers.images import psnr, random_image
from helpers.overfitted import fit_by_hand, picture_network, random_latents, random_network

import caecodec
from caecodec import settings
from caecodec.arrays.inspection import inspect
from caecodec.bitstream import families, overfitted
from caecodec.bitstream.overfitted import OWN_NETWORK, SHARED_NETWORK
from caecodec.cli.main import main
from caecodec.codecs.overfitted import batches, codec, wavefront
from caecodec.codecs.overfitted.architecture import LOP, MOP
from caecodec.codecs.overfitted.network import digest, identify
from caecodec.codecs.overfitted.parameters import LMBDAS, OverfittedParameters
from caecodec.codecs.overfitted.synthesis import synthesise
from caecodec.zarr import OverfittedAutoencoder as Serializer


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch):
    monkeypatch.setattr(codec, "_fit", fit_by_hand)


@pytest.fixture(scope="module")
def sections():
    """A network for three channels, and one for single planes."""
    return {channels: picture_network(LOP, channels).section() for channels in (1, 3)}


def encode(array, **parameters):
    return caecodec.OverfittedAutoencoder(**parameters).encode(array)


# Arrays


@pytest.mark.parametrize("shape", [(40, 56, 3), (1, 2, 3), (2, 3, 17, 5, 3)], ids=str)
@pytest.mark.parametrize("channel_axis", [-1, -3, 0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_three_channels(shape, channel_axis, dtype):
    array = np.moveaxis(random_image(*shape, seed=2), -1, channel_axis).astype(dtype)
    if dtype == "int16":
        array -= 100
    data = encode(array, channel_axis=channel_axis)
    decoded = caecodec.decode(data, expected_shape=array.shape, expected_dtype=dtype)
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert psnr(decoded, array) > 24
    header = families.parse(data).header
    assert (header.version, header.family, header.body, header.decoder) == (3, "overfitted", OWN_NETWORK, "lop")


@pytest.mark.parametrize(("shape", "channel_axis"), [
    ((40, 56), None), ((4, 40, 56), None), ((2, 40, 56), 0), ((40, 56, 5), -1), ((2, 3, 40, 56), None), ((3, 4, 9, 7), 1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_planes(shape, channel_axis, dtype):
    rng = np.random.default_rng(1)
    array = np.cumsum(rng.normal(size=shape), axis=-1)
    array = (128 + 90 * array / abs(array).max()).astype(dtype)
    if dtype != "uint8":
        array *= 7
    decoded = caecodec.decode(encode(array, channel_axis=channel_axis))
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert abs(decoded.astype(float) - array).max() <= (3 if dtype == "uint8" else np.ptp(array) / 60)


def test_fortran_order_and_strides():
    array = random_image(30, 40, 3)
    assert caecodec.decode(encode(np.asfortranarray(array))).flags.f_contiguous
    data = encode(array)
    assert encode(array[::-1, ::-1][::-1, ::-1]) == data == encode(np.ascontiguousarray(array))
    assert caecodec.decode(data).flags.c_contiguous
    assert caecodec.decode(data).flags.writeable


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "channel_axis"), [((16, 9, 3), -1), ((2, 16, 9), 0), ((16, 9), None)], ids=str)
def test_constant_chunks_are_exact(dtype, shape, channel_axis):
    array = np.full(shape, 77.25 if dtype.startswith("f") else 77, dtype)
    if channel_axis is not None:
        array.swapaxes(0, channel_axis)[0] = 3
    data = encode(array, channel_axis=channel_axis)
    assert families.parse(data).header.constant
    np.testing.assert_array_equal(caecodec.decode(data), array)


def test_constant_planes():
    """Planes of one value are exact, and no pictures; a chunk of such planes alone has neither network nor latents."""
    array = np.stack([np.full((20, 30), value, np.float64) for value in (np.pi, -1e300, 0)])
    data = encode(array, channel_axis=None)
    np.testing.assert_array_equal(caecodec.decode(data), array)
    payload = families.parse(data)
    assert (payload.network, payload.latent_bytes, payload.header.body) == (b"", 0, OWN_NETWORK)
    array[1] = np.linspace(0, 1, 600).reshape(20, 30)
    decoded = caecodec.decode(encode(array, channel_axis=None))
    np.testing.assert_array_equal(decoded[::2], array[::2])
    assert abs(decoded[1] - array[1]).max() < 0.02


def test_chunks_that_are_not_taken():
    for array, message in (
        (np.zeros((4, 4, 3), bool), "dtype is bool"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        (np.zeros((4, 4), np.uint8), "axes"),
    ):
        with pytest.raises(caecodec.ParameterError, match=message):
            encode(array)


def test_decoder_by_size():
    names = [families.parse(encode(random_image(side, side, 3))).header.decoder for side in (255, 256)]
    assert names == ["lop", "mop"]
    assert families.parse(encode(random_image(16, 16, 3), decoder="hop")).header.decoder == "hop"


# Parameters


def test_parameters():
    codec = caecodec.OverfittedAutoencoder()
    assert codec.get_config() == {
        "id": "caecodec_overfitted", "quality": 8, "preset": "fast", "channel_axis": -1, "tune": "mse", "seed": 0,
    }  # fmt: skip
    assert [caecodec.OverfittedAutoencoder(q).parameters.trade_off for q in range(1, 9)] == list(LMBDAS)
    assert list(LMBDAS) == sorted(LMBDAS, reverse=True)
    chosen = caecodec.OverfittedAutoencoder(lmbda=1e-3, preset="slow", decoder="hop", channel_axis=None, seed=7)
    assert chosen.parameters.trade_off == 1e-3
    assert chosen.get_config()["decoder"] == "hop"
    assert "quality" not in chosen.get_config()
    for one in (codec, chosen):
        assert numcodecs.get_codec(one.get_config()) == one == pickle.loads(pickle.dumps(one)) == copy.deepcopy(one)
        assert json.loads(json.dumps(one.get_config())) == one.get_config()
        assert eval(repr(one), {"OverfittedAutoencoder": caecodec.OverfittedAutoencoder}) == one


@pytest.mark.parametrize(("parameters", "message"), [
    ({"quality": 0}, "quality is 0 but must be"),
    ({"quality": 4, "lmbda": 1e-3}, "only one of them"),
    ({"lmbda": 0}, "lmbda is 0 but must be above 0"),
    ({"lmbda": "much"}, "lmbda is 'much'"),
    ({"preset": "quick"}, "preset is 'quick' but must be one of instant, faster"),
    ({"decoder": "top"}, "decoder is 'top' but must be"),
    ({"tune": "vmaf"}, "tune is 'vmaf' but must be"),
    ({"seed": -1}, "seed is -1 but must be"),
    ({"seed": 0.5}, "seed is 0.5 but must be"),
    ({"channel_axis": "c"}, "channel_axis is 'c'"),
    ({"network": "?", "decoder": "lop"}, "base64"),
    ({"network": 5, "decoder": "lop"}, "base64"),
    ({"network": b"1234"}, "network is no network section"),
])  # fmt: skip
def test_wrong_parameters(parameters, message):
    for surface in (caecodec.OverfittedAutoencoder, Serializer):
        with pytest.raises(caecodec.ParameterError, match=message):
            surface(**parameters)


# Shared networks


def test_shared_network(sections):
    array = random_image(48, 64, 3)
    own = encode(array, decoder="lop")
    shared = caecodec.OverfittedAutoencoder(decoder="lop", network=sections[3])
    data = shared.encode(array)
    payload = families.parse(data)
    assert (payload.header.body, payload.header.digest, payload.network) == (SHARED_NETWORK, digest(sections[3]), b"")
    assert len(data) == len(own) - len(sections[3]) - 1 + 4
    np.testing.assert_array_equal(shared.decode(data), caecodec.decode(own))
    np.testing.assert_array_equal(caecodec.decode(data, network=sections[3]), caecodec.decode(own))
    assert shared.get_config()["network"] == base64.b64encode(sections[3]).decode()
    assert numcodecs.get_codec(shared.get_config()) == shared
    assert f"<{len(sections[3])} bytes, {digest(sections[3]).hex()}>" in repr(shared)


def test_another_network(sections):
    shared = caecodec.OverfittedAutoencoder(decoder="lop", network=sections[3])
    data = shared.encode(random_image(20, 20, 3))
    with pytest.raises(caecodec.WeightsError, match=f"digest {digest(sections[3]).hex()} but none is given"):
        caecodec.decode(data)
    with pytest.raises(caecodec.WeightsError, match=f"the one given is {digest(sections[1]).hex()}"):
        caecodec.decode(data, network=sections[1])
    with pytest.raises(caecodec.ParameterError, match="network is of decoder 'lop' but decoder is 'hop'"):
        caecodec.OverfittedAutoencoder(decoder="hop", network=sections[3])


def test_shared_networks_say_how_planes_are_coded(sections):
    """Three planes that are not alike are a picture for a network of colours; colours are planes for one of planes."""
    rng = np.random.default_rng(0)
    for array in (random_image(24, 24, 3), rng.integers(0, 4000, (24, 24, 3)).astype(np.uint16)):
        for channels, section in sections.items():
            shared = caecodec.OverfittedAutoencoder(decoder="lop", network=section)
            data = shared.encode(array)
            assert families.parse(data).planes[0] & 1 == (channels == 1)
            assert shared.decode(data).shape == array.shape
    with pytest.raises(caecodec.ParameterError, match="network is of pictures of 3 channels"):
        encode(random_image(24, 24, 3)[..., 0], channel_axis=None, decoder="lop", network=sections[3])


# Damage


def test_truncation_and_flipped_bits():
    data = encode(random_image(9, 9, 3))
    for size in range(len(data)):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(data[:size])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(damaged)


def change(data, **changes):
    payload = families.parse(data)
    header = {name: changes.pop(name) for name in list(changes) if name in {f.name for f in dataclasses.fields(payload.header)}}
    return overfitted.pack(dataclasses.replace(payload, header=dataclasses.replace(payload.header, **header), **changes))


def test_forged_payloads():
    data = encode(random_image(20, 20, 3))
    payload = families.parse(data)
    for forged, message in (
        (change(data, network=b""), "network has steps"),
        (change(data, stream=payload.stream[4:]), "damaged"),
        (change(data, stream=payload.stream + b"\1\0\0\0"), "damaged"),
        (change(data, escapes=b"\0"), "more escapes"),
        (change(data, raw=b"\0"), "more low bits"),
        (change(data, planes=b"\1"), "damaged"),
        (change(data, planes=b""), "planes"),
        (change(data, shape=(40, 10, 3)), "damaged"),
    ):
        with pytest.raises(caecodec.CorruptionError, match=message):
            caecodec.decode(forged)
    planes = encode(np.full((2, 8, 8), 5.0).cumsum(axis=0), channel_axis=None)
    with pytest.raises(caecodec.CorruptionError, match="all its planes have one value"):
        caecodec.decode(change(planes, network=payload.network))


def test_huge_geometry_is_refused_before_it_is_allocated():
    forged = change(encode(random_image(20, 20, 3)), stream=b"", shape=(20000, 20000, 3))
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match="0 bytes for 533.* latents"):
        caecodec.decode(forged)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_network_for_chunks_that_are_plain_in_the_middle():
    """It is fitted to another part of them, and to nothing where there is none."""
    parameters = OverfittedParameters.parse(quality=3, preset="instant")
    chunks = np.full((16, 136, 136, 3), 90, np.uint8)
    assert codec.fit_network(parameters, chunks) is None
    chunks[5:7, 128:, :] = random_image(8, 136, 3)
    assert identify(codec.fit_network(parameters, chunks)).channels == 3
    planes = np.arange(2, dtype=np.uint16)[:, None, None] + np.zeros((2, 70, 70), np.uint16)
    assert codec.fit_network(OverfittedParameters.parse(preset="instant", channel_axis=None), [planes]) is None


@pytest.mark.parametrize(("position", "value", "error", "message"), [
    (2, 4, caecodec.FormatVersionError, "format version of the payload is 4 but this caecodec knows 1, 2, 3"),
    (2, 1, caecodec.FormatVersionError, "model family id of the payload is 3"),
    (3, 9, caecodec.FormatVersionError, "model family id of the payload is 9"),
    (4, 3, caecodec.FormatVersionError, "decoder id of the payload is 3"),
    (4, 16, caecodec.FormatVersionError, "decoder id of the payload is 16"),
    (5, 2, caecodec.FormatVersionError, "coding id of the payload is 2"),
    (5, 0x50, caecodec.FormatVersionError, "dtype id of the payload is 5"),
    (6, 0x22, caecodec.CorruptionError, "channel axis 4"),
])  # fmt: skip
def test_newer_payloads(position, value, error, message):
    body = bytearray(encode(random_image(9, 9, 3))[:-4])
    body[position] = value
    from caecodec.bitstream.framing import seal

    with pytest.raises(error, match=message):
        caecodec.decode(seal(bytes(body)))


def test_other_shape_and_dtype():
    data = encode(random_image(9, 8, 3))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(data, expected_shape=(8, 9, 3))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(data, expected_dtype="uint16")


# Batches


def concurrently(functions):
    """The results of functions that start at the same time, each in a thread."""
    ready = threading.Barrier(len(functions))

    def run(function):
        ready.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


@pytest.mark.parametrize("memory", ["1G", "16M"])
def test_batches_equal_single_payloads(monkeypatch, memory):
    """Payloads of several shapes and decoders from many threads; damaged ones fail alone."""
    sizes, decode = [], wavefront.decode

    def counting(networks, coded, *size):
        sizes.append(len(coded))
        return decode(networks, coded, *size)

    monkeypatch.setattr(wavefront, "decode", counting)
    cases = []
    for i, (decoder, *size) in enumerate([(LOP, 1, 40, 50), (MOP, 1, 40, 50), (LOP, 2, 40, 50), (LOP, 1, 50, 40)] * 6):
        network = random_network(decoder, seed=i)
        latents = [level[0] for level in random_latents([network], *size, seed=i)]
        coded = wavefront.encode(network, latents)
        if i % 8 == 4:
            coded = coded._replace(raw=coded.raw + b"\0")
        cases.append((network, synthesise(network, latents), coded, size))
    batch = batches.Batches()

    def read(network, pictures, coded, size):
        try:
            found = batch.decode(network, coded, *size)
        except caecodec.CorruptionError:
            return None
        return bool((found == pictures).all())

    with settings.using(memory=memory):
        results = concurrently([lambda case=case: read(*case) for case in cases])
    assert results == [None if i % 8 == 4 else True for i in range(len(cases))]
    assert max(sizes) > 1


def test_a_batch_is_bounded_by_memory(monkeypatch):
    most = []

    def refuse(networks, coded, *size):
        most.append(len(coded))
        raise caecodec.CorruptionError("no")

    monkeypatch.setattr(wavefront, "decode", refuse)

    def read(batch, network, *size):
        with pytest.raises(caecodec.CorruptionError) as error:
            batch.decode(network, None, *size)
        return str(error.value)

    batch = batches.Batches()
    network = random_network(LOP)
    with settings.using(memory="16M"):
        results = concurrently([lambda: read(batch, network, 1, 300, 300)] * 20)
    assert results == ["no"] * 20
    assert 1 <= max(most) <= 2**24 // (64 * 300 * 300)


def test_an_interrupt_leaves_the_others_their_turn(monkeypatch):
    """The thread that runs a batch is interrupted: it alone fails."""
    decode, started, go = wavefront.decode, threading.Event(), threading.Event()
    network = random_network(LOP)
    latents = [level[0] for level in random_latents([network], 1, 20, 20)]
    coded = wavefront.encode(network, latents)
    calls = []

    def once(*arguments):
        calls.append(len(arguments[1]))
        if len(calls) == 1:
            started.set()
            go.wait(10)
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(wavefront, "decode", once)
    batch = batches.Batches()

    def read():
        try:
            return batch.decode(network, coded, 1, 20, 20).shape
        except KeyboardInterrupt:
            return "interrupted"

    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(read) for _ in range(12)]
        started.wait(10)
        go.set()
        results = [future.result(timeout=30) for future in futures]
    assert sorted(results, key=str) == [*[(1, 3, 20, 20)] * 11, "interrupted"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_decodes():
    data = encode(random_image(30, 30, 3))
    expected = caecodec.decode(data)
    script = (
        "import os, sys, threading, numpy as np, caecodec\n"
        "data = sys.stdin.buffer.read()\n"
        "caecodec.decode(data)\n"  # imports what it needs
        "threads = [threading.Thread(target=caecodec.decode, args=(data,), daemon=True) for _ in range(20)]\n"
        "[thread.start() for thread in threads]\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(int(caecodec.decode(data).sum()), flush=True)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=data, capture_output=True, timeout=60, check=True
    )
    assert int(result.stdout) == int(expected.sum())


# Stores


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
        zarr.create_array({}, shape=(9, 9, 3), dtype=bool, **surfaces()[3])


def test_out_of_another_shape():
    codec, array = caecodec.OverfittedAutoencoder(), random_image(9, 8, 3)
    out = np.empty((9, 8, 3), np.uint8)
    codec.decode(codec.encode(array), out=out)
    np.testing.assert_array_equal(out, codec.decode(codec.encode(array)))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        codec.decode(codec.encode(array), out=np.empty((8, 9, 3), np.uint8))


# Inspection


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (64, 64, 3))])
def test_inspect_counts_every_byte(tmp_path, zarr_format, shards, capsys):
    array = random_image(90, 70, 3)
    array[:32, :32] = 7
    array[32:64, :32] = 0  # the fill value: not stored
    path = tmp_path / "a.zarr"
    options = {**surfaces(quality=3)[zarr_format], **({"shards": shards} if shards else {})}
    z = zarr.create_array(path, data=array, chunks=(32, 32, 3), **options)
    (report,) = inspect(path)
    assert (report.family, report.decoders, report.format_versions) == ("overfitted", ("lop",), (3,))
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


# Imports


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
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(caecodec.__file__).parents[1]), *filter(None, sys.path)]),
    }
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == int(caecodec.decode((tmp_path / "a.cae").read_bytes()).sum())
