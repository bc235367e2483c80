"""Context tables fitted to images, and the command that does it."""

import numpy as np
import pytest
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY, TINY_CONTEXT, TINY_DEPTHWISE, TINY_RESIDUAL_ATTENTION
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.bitstream import autoencoder
from caecodec.cli.main import main
from caecodec.entropy import context
from caecodec.entropy import context_fit as fitting
from caecodec.entropy.context_tables import UP, ContextTables
from caecodec.entropy.tables import TOTAL


def related_symbols(seed, n=60, channels=12, side=16):
    """Channels whose scale follows a field that they share, and one that is smooth in space."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(n, 1, side // 4, side // 4))).repeat(4, axis=2).repeat(4, axis=3)
    symbols = np.round(rng.laplace(size=(n, channels, side, side)) * scale)
    symbols[:, 3] = np.round(np.cumsum(rng.normal(size=(n, side, side)), axis=1) * 3)
    return symbols.astype(np.int16)


def test_fitting_gains():
    tables = fitting.fit(related_symbols(0), classes=8, tables=16, reach=20)
    assert tables.mass.shape[0] == 16
    assert tables.threshold.shape == (12, 7)
    assert tables.difference[tables.order == 3] == UP
    flat = fitting.fit(related_symbols(0), classes=1, tables=12, reach=20)
    fresh = related_symbols(1).astype(np.int32)
    assert context.MODEL.code_length(fresh, tables) < 0.95 * context.MODEL.code_length(fresh, flat)
    np.testing.assert_array_equal(context.MODEL.decode(context.MODEL.encode(fresh, tables), tables, fresh.shape), fresh)


def test_fitting_to_next_to_nothing():
    for symbols in (np.zeros((1, 12, 1, 1), np.int16), np.full((2, 3, 4, 4), -700, np.int16)):
        tables = fitting.fit(symbols.copy())
        assert isinstance(tables, ContextTables)
        wide = symbols.astype(np.int32)
        np.testing.assert_array_equal(context.MODEL.decode(context.MODEL.encode(wide, tables), tables, wide.shape), wide)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(20):
        Image.fromarray(random_image(260, 300, 3, seed=number)).save(folder / f"{number:02}.png")
    return folder


def test_fit_entropy_command(folder, tmp_path, capsys):
    output = tmp_path / "fitted.safetensors"
    before = save_seeded(tmp_path / "plain.safetensors", seed=4)
    command = ["fit-entropy", str(before.location), str(folder), "-o", str(output), "--crops", "40"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split() == ["quality", "held-out", "crops", "static", "bytes", "context", "bytes", "saved"]
    for line, quality in zip(lines[1:3], (1, 4), strict=True):
        number, crops, static_bytes, context_bytes, saved, _ = line.split()
        assert (int(number), int(crops)) == (quality, 4)
        assert float(saved) == pytest.approx(100 * (1 - int(context_bytes) / int(static_bytes)), abs=0.06)
        assert int(context_bytes) < int(static_bytes)
        card = output.with_suffix(".md").read_text()
        assert f"| {quality} | {crops} | {static_bytes} | {context_bytes} | {saved} % |" in card
    assert before.name in card
    source = weights.open_file(output, "mse", 4)
    assert source.name == before.name
    assert source.sha256 in card
    assert "context" in weights.load(source, 1).tables
    array = random_image(64, 64, 3)
    fitted, plain = (caecodec.encode(array, 4, weights=path) for path in (output, before.location))
    np.testing.assert_array_equal(caecodec.decode(fitted, weights=output), caecodec.decode(plain, weights=before.location))
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert weights.open_file(output, "mse", 4).sha256 == source.sha256


def test_fit_entropy_for_a_compressai_checkpoint(folder, tmp_path, capsys):
    import torch

    from caecodec.models.factorized import compressai

    loaded = weights.load(weights.open_file(TINY, "mse", 4), 4)
    tables = static_tables_of_16_bits(loaded.network.latent_channels)
    state = compressai.to_state_dict(loaded.network.tensors, *tables)
    torch.save({"state_dict": state}, tmp_path / "mine.pth.tar")
    command = ["fit-entropy", str(tmp_path / "mine.pth.tar"), str(folder), "-o", str(tmp_path / "mine.safetensors")]
    assert main(command) == 1
    assert "-q 1 to 8" in capsys.readouterr().err
    assert main([*command, "-q", "4", "--crops", "20"]) == 0
    source = weights.open_file(tmp_path / "mine.safetensors", "mse", 4)
    assert (source.name, source.qualities) == ("mine", (4,))
    assert "context" in weights.load(source, 4).tables


@pytest.mark.parametrize(
    ("family", "tiny"), [("depthwise-residual", TINY_DEPTHWISE), ("residual-attention", TINY_RESIDUAL_ATTENTION)]
)
def test_fit_entropy_for_another_family(folder, tmp_path, family, tiny):
    output = tmp_path / "fitted.safetensors"
    assert main(["fit-entropy", str(tiny), str(folder), "-o", str(output), "--crops", "20"]) == 0
    assert weights.open_file(output, "mse", 0).family == family
    assert f"{family}, mse, quality" in output.with_suffix(".md").read_text()


def test_export_fits_context_tables_too(folder, tmp_path):
    import torch

    widths, state = {"ga": (3, 8, 8, 8, 12), "gs": (12, 8, 8, 8, 3)}, {"fi.s": torch.zeros(1, 12)}
    torch.manual_seed(0)
    for name, channels in widths.items():
        for i in range(4):
            first, last = channels[i : i + 2]
            weight = 0.2 * torch.randn(last, first, 1, 1).repeat(1, 1, 5, 5)
            state[f"{name}.{i}.weight"] = weight if name == "ga" else weight.transpose(0, 1)
            state[f"{name}.{i}.bias"] = torch.zeros(last)
            state[f"f{name[1]}.{i}.s"] = state[f"f{name[1]}.{i}.b"] = torch.zeros(1, last)
            if i < 3:
                state[f"{name}n.{i}.beta"], state[f"{name}n.{i}.gamma"] = torch.ones(8), 0.1 * torch.eye(8)
    torch.save(state, tmp_path / "trained.pt")
    output = tmp_path / "trained.safetensors"
    assert main(["export", str(tmp_path / "trained.pt"), str(folder), "-o", str(output)]) == 0
    source = weights.open_file(output, "mse", 0)
    assert "context" in weights.load(source, source.qualities[0]).tables


def test_encode_command_takes_the_entropy_model(folder, tmp_path):
    image, payload = str(folder / "00.png"), tmp_path / "a.cae"
    command = ["encode", image, "-o", str(payload), "-q", "4", "--weights", str(TINY_CONTEXT), "--overwrite", "--quiet"]
    for options, entropy in (([], "context"), (["--entropy", "static"], "static")):
        assert main([*command, *options]) == 0
        assert autoencoder.parse(payload.read_bytes()).header.entropy == entropy


def static_tables_of_16_bits(channels):
    mass = np.tile([TOTAL // 4, TOTAL // 2, TOTAL // 8, TOTAL // 8], channels)
    return mass, np.full(channels, 4), np.full(channels, -1)


@pytest.mark.parametrize(("arguments", "match"), [
    (["none.safetensors", "."], "does not exist"), (["none.pth", ".", "-q", "4"], "does not exist"),
    ([str(TINY), "."], "fewer than 10 images"), ([str(TINY), ".", "-o", "x.bin"], "NAME.safetensors"),
])  # fmt: skip
def test_fit_entropy_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(tmp_path)
    assert main(["fit-entropy", "-o", "out.safetensors", *arguments]) == 1
    assert match in capsys.readouterr().err
