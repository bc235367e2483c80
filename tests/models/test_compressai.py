"""Parity with the real CompressAI, where it is installed (Python 3.11 or 3.12, numpy < 2)."""

import math
import re

import numpy as np
import pytest
import torch

pytest.importorskip("compressai", reason="CompressAI is not installed (extra compressai)")

from compressai.models import FactorizedPrior
from helpers.symbols import analyse

import caecodec
from caecodec import engine, weights
from caecodec.bitstream import autoencoder
from caecodec.chunks.axes import Axes
from caecodec.chunks.planes import Layout
from caecodec.cli.main import main
from caecodec.images.metrics import psnr

WIDTHS = {4: (128, 192), 7: (192, 320)}
AXES = Axes.of(3, -1)


@pytest.fixture(scope="module", params=sorted(WIDTHS))
def quality(request):
    return request.param


@pytest.fixture(scope="module")
def reference(quality):
    """A FactorizedPrior with random weights whose latents, tables and medians are not trivial."""
    torch.manual_seed(quality)
    net = FactorizedPrior(*WIDTHS[quality]).eval()
    with torch.no_grad():
        net.g_a[6].weight.mul_(30)
        net.g_s[0].weight.div_(30)
        for gdn in (net.g_a[1], net.g_a[3], net.g_s[1], net.g_s[5]):
            gdn.gamma.add_(0.1 * torch.rand_like(gdn.gamma))
        net.entropy_bottleneck.quantiles[:, 0, 1] = torch.linspace(-2, 2, WIDTHS[quality][1])
        net.entropy_bottleneck.quantiles[:, 0, 0] = net.entropy_bottleneck.quantiles[:, 0, 1] - 6
        net.entropy_bottleneck.quantiles[:, 0, 2] = net.entropy_bottleneck.quantiles[:, 0, 1] + 6
    net.update(force=True)
    return net


@pytest.fixture(scope="module")
def checkpoint(reference, quality, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / f"factorized-{quality}.pth.tar"
    torch.save({"epoch": 1, "state_dict": reference.state_dict()}, path)
    return path


def theirs(reference, chunk):
    """CompressAI's own symbols and reconstruction of a chunk (height, width, 3), sides multiples of 16."""
    with torch.no_grad():
        x = torch.from_numpy(chunk).permute(2, 0, 1)[None].float() / 255
        y = reference.g_a(x)
        medians = reference.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
        symbols = torch.round(y - medians)
        return (y - medians).numpy(), symbols.numpy().astype(np.int32), reference.g_s(symbols + medians).numpy()


def ours(checkpoint, quality):
    source = weights.resolve(weights.Spec.parse(checkpoint), "mse", quality)
    return source, engine.PlacedNetwork(source, quality, engine.DevicePlacement("cpu", "fp32"))


def test_same_symbols_and_reconstruction(reference, checkpoint, quality, photograph, fp32):
    chunk = np.ascontiguousarray(photograph[64:320, 128:384])
    exact, symbols, x_hat = theirs(reference, chunk)
    source, model = ours(checkpoint, quality)
    mine = analyse(chunk, AXES, Layout(separate=False), source, quality, None)
    assert np.abs(symbols).max() > 3
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3  # where rounding errors of the convolutions may tip the balance
    np.testing.assert_array_equal(mine[~tie], symbols[~tie])
    assert np.mean(tie) < 0.01
    assert np.abs(mine - symbols).max() <= 1
    np.testing.assert_allclose(engine.engine().run(model, "synthesis", symbols), x_hat, atol=1e-4)


def test_payloads_of_their_tables(reference, checkpoint, quality, photograph):
    """Coded with CompressAI's tables: as long as CompressAI's own string, and decoded to its picture."""
    chunk = np.ascontiguousarray(photograph[:256, :256])
    payload = caecodec.encode(chunk, quality=quality, weights=checkpoint)
    with torch.no_grad():
        out = reference.compress(torch.from_numpy(chunk).permute(2, 0, 1)[None].float() / 255)
        picture = reference.decompress(out["strings"], out["shape"])["x_hat"]
    own = (picture[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    assert psnr(caecodec.decode(payload, weights=checkpoint), own) > 50
    assert len(payload) <= 1.01 * len(out["strings"][0][0]) + 24


@pytest.mark.parametrize("spelling", ["_matrix{}", "_matrices.{}"])
def test_legacy_keys(reference, checkpoint, quality, tmp_path, spelling):
    legacy = {}
    for key, value in reference.state_dict().items():
        for new in ("matrices", "biases", "factors"):
            old = spelling.replace("matrices", new).replace(
                "matrix", {"matrices": "matrix", "biases": "bias"}.get(new, "factor")
            )
            key = re.sub(rf"bottleneck\.{new}\.(\d)", lambda m, old=old: "bottleneck." + old.format(m[1]), key)
        legacy[f"module.{key}"] = value
    assert f"module.entropy_bottleneck.{spelling.format(0)}" in legacy
    torch.save(legacy, tmp_path / "legacy.pth")
    mine = weights.resolve(weights.Spec.parse(tmp_path / "legacy.pth"), "mse", quality)
    current = weights.resolve(weights.Spec.parse(checkpoint), "mse", quality)
    one, other = weights.load(mine, quality), weights.load(current, quality)
    for name in one.network.tensors:
        np.testing.assert_array_equal(one.network.tensors[name], other.network.tensors[name])
    np.testing.assert_array_equal(one.tables["static"].mass, other.tables["static"].mass)


def test_checkpoint_without_tables(tmp_path, photograph):
    torch.save(FactorizedPrior(16, 24).state_dict(), tmp_path / "untrained.pth")
    with pytest.raises(caecodec.WeightsError, match=r"no entropy tables; call model.update\(\)"):
        caecodec.encode(photograph, quality=4, weights=tmp_path / "untrained.pth")


def test_checkpoint_of_another_network(tmp_path):
    torch.save({"g_a.0.weight": torch.zeros(8, 3, 5, 5)}, tmp_path / "other.pth")
    with pytest.raises(caecodec.WeightsError, match="not of a bmshj2018-factorized network"):
        weights.resolve(weights.Spec.parse(tmp_path / "other.pth"), "mse", 4)


def test_a_converted_checkpoint_reads_what_the_checkpoint_wrote(checkpoint, quality, tmp_path, photograph, monkeypatch):
    """In ten years the .safetensors file is enough: it has the digest that the checkpoint's payloads name."""
    folder = tmp_path / "weights"
    folder.mkdir()
    output = folder / "converted.safetensors"
    assert main(["export", str(checkpoint), "-q", str(quality), "-o", str(output)]) == 0
    payload = caecodec.encode(photograph[:64, :64], quality=quality, weights=checkpoint)
    assert autoencoder.parse(payload).header.digest == weights.resolve(weights.Spec.parse(output), "mse", quality).digest
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(folder))
    engine.engine.renew()  # as in a new process
    assert caecodec.decode(payload).shape == (64, 64, 3)


@pytest.mark.parametrize("shipped", [1, 4])
def test_shipped_networks_load_in_compressai(shipped, photograph, tmp_path, fp32):
    assert main(["export", "default", "-q", str(shipped), "-o", str(tmp_path / "model.pth")]) == 0
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    reference = FactorizedPrior.from_state_dict(state).eval()
    reference.load_state_dict(state, strict=True)
    chunk = np.ascontiguousarray(photograph[:256, :256])
    with torch.no_grad():
        x = torch.from_numpy(chunk).permute(2, 0, 1)[None].float() / 255
        out = reference.compress(x)
        picture = reference.decompress(out["strings"], out["shape"])["x_hat"][0].permute(1, 2, 0)
        estimated = reference(x)
        reference.update(force=True)
        updated = reference.compress(x)
    payload = caecodec.encode(chunk, quality=shipped, weights="default")
    own = (picture.clamp(0, 1) * 255).round().byte().numpy()
    assert psnr(caecodec.decode(payload), own) > 50
    assert psnr(own, chunk) > 23
    bits = -torch.log2(estimated["likelihoods"]["y"]).sum().item()
    assert bits / 8 == pytest.approx(len(out["strings"][0][0]), rel=0.25)
    assert len(updated["strings"][0][0]) == pytest.approx(len(out["strings"][0][0]), rel=0.25)


def test_their_pretrained_models(monkeypatch, reference, quality, photograph):
    """weights="compressai", with CompressAI's downloader replaced by one that brings these weights."""
    import compressai.zoo.image as zoo

    asked = []

    def download(url, **options):
        asked.append(url)
        return reference.state_dict()

    monkeypatch.setattr(zoo, "load_state_dict_from_url", download)
    chunk = photograph[:64, :64]
    payload = caecodec.encode(chunk, quality=quality, weights="compressai")
    assert f"factorized-prior-{quality}" in asked[0]
    numcodec = caecodec.ConvolutionalAutoencoder(quality, weights="compressai")
    assert numcodec.get_config()["weights"].startswith("compressai@")
    assert psnr(numcodec.decode(payload), caecodec.decode(payload, weights="compressai")) == math.inf


def test_a_failing_download(monkeypatch, photograph):
    import urllib.error

    import compressai.zoo.image as zoo

    def download(url, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(zoo, "load_state_dict_from_url", download)
    with pytest.raises(caecodec.WeightsError, match="could not download its weights for quality 2"):
        caecodec.encode(photograph, quality=2, weights="compressai")
