import numpy as np
import pytest
import torch
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.cli.main import main
from caecodec.entropy import static
from caecodec.entropy.tables import TOTAL
from caecodec.training import data
from caecodec.training.export import export


def checkpoint(path, hidden=8, latent=192, qualities=2):
    """A training checkpoint of a small conditional backbone."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator)

    state = {}
    for conv, norm, film, first, last in (("ga", "gan", "fa", 3, latent), ("gs", "gsn", "fs", latent, 3)):
        widths = [first, hidden, hidden, hidden, last]
        for i in range(4):
            shape = (widths[i + 1], widths[i]) if conv == "ga" else (widths[i], widths[i + 1])
            state[f"{conv}.{i}.weight"] = normal(*shape, 5, 5, scale=0.2)
            state[f"{conv}.{i}.bias"] = normal(widths[i + 1], scale=0.1)
            state[f"{film}.{i}.s"] = normal(qualities, widths[i + 1], scale=0.1) + (2 if i == 3 and conv == "ga" else 0)
            state[f"{film}.{i}.b"] = normal(qualities, widths[i + 1], scale=0.1)
        for i in range(3):
            state[f"{norm}.{i}.beta"] = torch.ones(hidden)
            state[f"{norm}.{i}.gamma"] = normal(hidden, hidden, scale=0.1).abs()
    state["fi.s"] = normal(qualities, latent, scale=0.1)
    torch.save(state, path)
    return path


@pytest.fixture
def images(tmp_path, photograph):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.roll(photograph, 100 * i, axis=1)).save(folder / f"{i}.png")
    return folder


def test_a_training_checkpoint(tmp_path, images, photograph):
    output = tmp_path / "mine.safetensors"
    assert main(["export", str(checkpoint(tmp_path / "run.pt")), str(images), "-o", str(output), "--name", "mine"]) == 0
    source = weights.resolve(weights.Spec.parse(output), "mse", 2)
    assert source.qualities == (1, 2)
    loaded = weights.load(source, 2)
    assert loaded.family.channels(loaded.network) == {"hidden": 8, "latent": 192}
    payload = caecodec.encode(photograph[:64, :64], quality=2, weights=output)
    assert caecodec.decode(payload).shape == (64, 64, 3)


def test_refusals(tmp_path, images):
    run = checkpoint(tmp_path / "run.pt")
    with pytest.raises(caecodec.ParameterError, match="no entropy tables"):
        export(run, tmp_path / "a.safetensors", name="a")
    with pytest.raises(caecodec.ParameterError, match=r"NAME.safetensors"):
        export(run, tmp_path / "a.pt", [images], name="a")
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(caecodec.ParameterError, match="exists already"):
        export(run, tmp_path / "a.safetensors", [images], name="a")
    (tmp_path / "none").mkdir()
    with pytest.raises(caecodec.ParameterError, match="no image of 256x256"):
        export(run, tmp_path / "b.safetensors", [tmp_path / "none"], name="b")


def test_weights_to_a_state_dict(tmp_path, capsys):
    command = ["export", "default", "-o", str(tmp_path / "model.pth")]
    assert main(command) == 1
    assert "holds a single quality; pass it (-q 1 to 8)" in capsys.readouterr().err
    assert main([*command, "-q", "2"]) == 0
    back = tmp_path / "back.safetensors"
    assert main(["export", str(tmp_path / "model.pth"), "-q", "2", "-o", str(back)]) == 0
    ours = weights.load(weights.resolve(weights.Spec("default"), "mse", 2), 2)
    again = weights.load(weights.resolve(weights.Spec.parse(back), "mse", 2), 2)
    for name, tensor in ours.network.tensors.items():
        np.testing.assert_allclose(again.network.tensors[name], tensor, rtol=1e-5, atol=1e-10)
    np.testing.assert_array_equal(again.tables["static"].offset, ours.tables["static"].offset)
    assert main([*command, "-q", "2"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_checkpoints_of_other_networks(tmp_path, capsys):
    """A hyperprior, whose main transforms have the same names, and other kernels and channels: nothing is written."""
    assert main(["export", str(TINY), "-q", "4", "-o", str(tmp_path / "tiny.pth")]) == 0
    state = torch.load(tmp_path / "tiny.pth", weights_only=True)
    quantiles, weight = "entropy_bottleneck.quantiles", "g_a.0.weight"
    changes = {
        "hyper": {"h_a.0.weight": torch.zeros(8, 8, 3, 3), "gaussian_conditional._offset": torch.zeros(64)},
        "small": {weight: state[weight][:, :, 1:4, 1:4]},
        "short": {quantiles: state[quantiles][2:]},
    }
    for name, problem in (("hyper", "has gaussian_conditional, h_a"), ("small", weight), ("short", "q4.medians")):
        torch.save({**state, **changes[name]}, tmp_path / f"{name}.pth")
        output = tmp_path / f"{name}.safetensors"
        assert main(["export", str(tmp_path / f"{name}.pth"), "-q", "4", "-o", str(output)]) == 1
        assert problem in capsys.readouterr().err
        assert not output.exists()
    assert main(["export", str(tmp_path / "tiny.pth"), "-q", "4", "-o", str(tmp_path / "again.safetensors")]) == 0


def test_fitted_tables_hold_the_counts():
    rng = np.random.default_rng(0)
    symbols = np.stack([rng.integers(-3, 4, (20, 30)), np.zeros((20, 30)), 40 + rng.integers(0, 2, (20, 30))])
    tables = static.MODEL.fit([symbols.astype(np.int16)[None]])
    mass, length, offset = tables.mass, tables.length, tables.offset
    assert length.sum() == len(mass)
    for i, table in enumerate(np.split(mass, np.cumsum(length)[:-1])):
        assert table.sum() == TOTAL
        assert table.min() >= 1
        inside = np.isin(symbols[i], offset[i] + np.arange(length[i] - 1))
        assert inside.all()
    share = np.split(mass, np.cumsum(length)[:-1])[0] / TOTAL
    for value in range(-3, 4):
        assert share[value - offset[0]] == pytest.approx(np.mean(symbols[0] == value), rel=0.1)


def test_images_of_folders_and_tar_files(tmp_path, images):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(images / "0.png", "0.png")
        tar.add(images / "1.png", "sub/1.png")
    assert [image.shape for image in data.images([tmp_path / "a.tar", images])] == [(512, 512, 3)] * 4
    assert [(number, crop.shape) for number, crop in data.spread([images], 300, 3)] == [
        (0, (300, 300, 3)), (1, (300, 300, 3)), (1, (300, 300, 3)),
    ]  # fmt: skip
    assert not list(data.spread([images], 513, 2))
