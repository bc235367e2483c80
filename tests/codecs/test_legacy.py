"""Arrays of the archived prototype (numcodecs id cae), read-only."""

import importlib.util
import os
import shutil
import struct
import tomllib

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import processes, prototype
from helpers.images import random_image
from helpers.paths import GOLDEN, ROOT

import caecodec
from caecodec import engine, weights
from caecodec.codecs.prototype import codec as legacy

WEIGHTS = GOLDEN / "prototype.safetensors"
needs_compressai = pytest.mark.skipif(not importlib.util.find_spec("compressai"), reason="needs the extra compressai")


@pytest.fixture
def stored():
    return np.load(GOLDEN / "prototype.npz")


@pytest.fixture
def payload(stored):
    return stored["payload"].tobytes()


@pytest.fixture
def codec():
    return legacy.PrototypeAutoencoder(quality=4, patch_size=48, weights=WEIGHTS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of CAECODEC_WEIGHTS with another network before that of the old arrays."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("a", "z"):
        shutil.copy(GOLDEN / "tiny.safetensors", folder / f"{name}.safetensors")
    shutil.copy(WEIGHTS, folder / "prototype.safetensors")
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(folder))
    return folder


def test_a_stored_chunk(codec, payload, stored, fp32):
    """What CompressAI wrote, and what the prototype's own decoder made of it."""
    chunk = codec.decode(payload)
    assert chunk.dtype == np.uint8
    assert np.abs(chunk.astype(int) - stored["pixels"]).max() <= 1
    assert np.mean(chunk != stored["pixels"]) < 1e-3  # truncation tips over where a value is next to an integer
    out = np.empty_like(stored["pixels"])
    assert codec.decode(payload, out=out) is out


def test_the_tiling_is_that_of_the_metadata(payload, stored, fp32):
    other = legacy.PrototypeAutoencoder(quality=4, patch_size=96, weights=WEIGHTS).decode(payload)
    assert np.mean(other[:32, :32] != stored["pixels"][:32, :32]) < 1e-3
    assert np.mean(other[40:56, 40:56] != stored["pixels"][40:56, 40:56]) > 0.1


def test_zarr_finds_it_without_any_import(tmp_path, payload, stored, folder):
    """By the entry point that pyproject.toml declares, in a process that knows nothing of caecodec."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = tmp_path / "site" / "caecodec-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: caecodec\nVersion: 0\n")
    lines = [line for group, names in scripts.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    path = tmp_path / "old.zarr"
    prototype.write_array(path, {"0.0.0": payload}, [75, 90, 3], [75, 90, 3], patch_size=48, partial_decompress=False)
    np.save(tmp_path / "expected.npy", stored["pixels"])
    code = (
        "import sys, zarr, numpy as np; "
        f"z = zarr.open_array({str(path)!r}, mode='r'); print(z.compressors); assert 'torch' not in sys.modules; "
        f"assert (abs(z[:].astype(int) - np.load({str(tmp_path / 'expected.npy')!r})) <= 1).all(); print('same')"
    )
    environment = processes.environment()
    environment["PYTHONPATH"] = os.pathsep.join((str(installed.parent), environment["PYTHONPATH"]))
    assert "same" in processes.run("-c", code, env=environment).stdout


def test_writing_is_refused(tmp_path, payload, stored, folder):
    numcodecs.register_codec(legacy.PrototypeAutoencoder)
    path = tmp_path / "old.zarr"
    prototype.write_array(path, {"0.0.0": payload}, [75, 90, 3], [75, 90, 3], patch_size=48)
    z = zarr.open_array(path, mode="r+")
    with pytest.raises(caecodec.ParameterError, match=r"caecodec.ConvolutionalAutoencoder\(quality=4\)"):
        z[:10] = 0
    assert (path / "0.0.0").read_bytes() == payload
    with pytest.raises(caecodec.ParameterError, match="reads arrays of the archived prototype and writes none"):
        legacy.PrototypeAutoencoder().encode(random_image(16, 16, 3))


def test_damage(codec, payload):
    """Without a checksum, what does not end as it must is refused; in the bits of an escaped value damage cannot show."""
    for length in [*range(40), *range(40, len(payload), 97)]:
        with pytest.raises(caecodec.CorruptionError):
            codec.decode(payload[:length])
    with pytest.raises(caecodec.CorruptionError):
        codec.decode(payload + bytes(4))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        try:
            assert codec.decode(bytes(damaged)).shape == (75, 90, 3)
        except caecodec.CorruptionError:
            refused += 1
    assert refused > 140


def test_huge_geometry_is_refused_before_it_is_allocated(codec, payload):
    for geometry in ((2**62, 16, 0, 0), (2**14, 2**14, 0, 0), (0, 16, 0, 0), (15, 16, 0, 0), (16, 16, 2**40, 0)):
        with pytest.raises(caecodec.CorruptionError):
            codec.decode(struct.pack(">QQQQ", *geometry) + payload[32:])


def test_weights_of_another_kind(payload, folder):
    """In the folder of CAECODEC_WEIGHTS they are passed over; where they are named, refused."""
    assert legacy.PrototypeAutoencoder(quality=4, patch_size=48).decode(payload).shape == (75, 90, 3)
    with pytest.raises(caecodec.WeightsError, match="tables of 24 bits"):
        legacy.PrototypeAutoencoder(quality=4, weights=GOLDEN / "tiny.safetensors").decode(payload)


@pytest.mark.skipif(importlib.util.find_spec("compressai") is not None, reason="CompressAI is installed")
def test_without_compressai_the_error_says_what_to_install(payload):
    with pytest.raises(caecodec.WeightsError, match=r"pip install 'caecodec\[compressai\]'"):
        legacy.PrototypeAutoencoder(quality=4).decode(payload)


def test_metadata_open_anywhere():
    numcodecs.register_codec(legacy.PrototypeAutoencoder)
    config = {
        "id": "cae", "quality": 8, "metric": "ms-ssim", "gpu": True, "patch_size": 512, "partial_decompress": True,
        "bottleneck_channels": 320, "downsampling_factor": 16,
    }  # fmt: skip
    codec = numcodecs.get_codec(config)
    assert codec.get_config() == {"id": "cae", "quality": 8, "metric": "ms-ssim", "patch_size": 512}
    assert numcodecs.get_codec(codec.get_config()) == codec
    for wrong in ({"quality": 9}, {"metric": "psnr"}, {"patch_size": 100}, {"patch_size": "256"}):
        with pytest.raises(caecodec.ParameterError):
            legacy.PrototypeAutoencoder(**wrong)


@needs_compressai
@pytest.mark.parametrize("patch_size", [64, 256])
def test_an_array_that_compressai_writes(tmp_path, photograph, patch_size):
    """The real widths, a checkpoint file, edge chunks; symbols beyond the tables too."""
    import torch
    from compressai.models import FactorizedPrior

    torch.manual_seed(1)
    network = FactorizedPrior(128, 192).eval()
    with torch.no_grad():
        network.g_a[6].weight.mul_(30)
        network.g_s[0].weight.div_(10)
        network.entropy_bottleneck.quantiles[:, 0] += torch.linspace(-2, 2, 192)[:, None]
        network.entropy_bottleneck.quantiles[:, 0, 0::2] /= 4
    network.update(force=True)
    checkpoint = tmp_path / "factorized-4.pth.tar"
    torch.save({"state_dict": network.state_dict()}, checkpoint)
    image = np.ascontiguousarray(photograph[:200, 100:290])
    padded = np.pad(image, ((0, 56), (0, 66), (0, 0)))
    chunks = {f"{i}.{j}.0": np.ascontiguousarray(padded[128 * i :, 128 * j :][:128, :128]) for i, j in np.ndindex(2, 2)}
    payloads = {key: prototype.encode(network, chunk, patch_size) for key, chunk in chunks.items()}
    prototype.write_array(
        tmp_path / "old.zarr", payloads, [200, 190, 3], [128, 128, 3], patch_size=patch_size, weights=str(checkpoint)
    )
    numcodecs.register_codec(legacy.PrototypeAutoencoder)
    z = zarr.open_array(tmp_path / "old.zarr", mode="r")
    expected = np.zeros_like(padded)
    for (i, j), payload in zip(np.ndindex(2, 2), payloads.values(), strict=True):
        expected[128 * i :, 128 * j :][:128, :128] = prototype.decode(network, payload, patch_size)
    decoded = z[:]
    assert np.abs(decoded.astype(int) - expected[:200, :190]).max() <= 1
    assert np.mean(decoded != expected[:200, :190]) < 1e-2
    tables = weights.load(weights.resolve(weights.Spec.parse(checkpoint), "mse", 4), 4).tables["static"]
    rows = -(-128 // patch_size) * patch_size // 16
    symbols = legacy.decode_symbols(payloads["0.0.0"][32:], tables, rows, rows) - tables.offset[:, None, None]
    assert ((symbols < 0) | (symbols >= tables.length[:, None, None] - 1)).any()  # escapes


@needs_compressai
def test_the_pretrained_weights_come_from_compressai(payload, monkeypatch):
    """The zoo is asked for this quality and metric; what it answers here, without a network, is an error that says so."""
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    engine.engine.renew()  # as in a new process
    weights.catalogue._conversion_digest.cache_clear()
    with pytest.raises(caecodec.WeightsError, match="could not download its weights for quality 4, metric 'mse'"):
        legacy.PrototypeAutoencoder(quality=4).decode(payload)
